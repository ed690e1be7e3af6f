package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const pubExample = `  rafka pub orders hello --key alice
  rafka pub --live orders.eu hello
  rafka pub reminders 'call back' --delay 10m
  rafka pub reports weekly --cron '0 9 * * 1' --tz Europe/Berlin
  rafka pub orders --file invoice.pdf -H type=application/pdf
  echo hello | rafka pub orders
  rafka pub orders --lines --file orders.csv --key-field 1 --key-sep ,
  rafka pub orders hello --ttl 10m --id order-4711
  rafka pub orders --lines --atomic --file transfer.txt
  tail -f access.log | rafka pub access --lines --key-regex '^\S+'`

// publication holds the flags of rafka pub.
type publication struct {
	topic      string
	key        string
	hasKey     bool
	headers    []string
	partition  int
	file       string
	lines      bool
	lineKey    lineKey
	durability string
	codec      string
	noCreate   bool
	live       bool
	id         string
	ttl        time.Duration
	atomic     bool
	tombstone  bool
	moment     moment
}

// receipt is what rafka pub prints as JSON.
type receipt struct {
	Topic     string  `json:"topic"`
	Partition int     `json:"partition"`
	Name      string  `json:"name,omitempty"`     // of a scheduled message, as rafka sched takes it
	Offset    *uint64 `json:"offset,omitempty"`   // nil when it is not known: at level none, and of a scheduled message
	Schedule  uint64  `json:"schedule,omitempty"` // id of a scheduled message
	Level     string  `json:"durability"`
	Duplicate bool    `json:"duplicate,omitempty"`
}

func newReceipt(r client.Receipt) receipt {
	out := receipt{
		Topic: r.Topic, Partition: r.Partition, Schedule: r.Schedule, Level: r.Level.String(), Duplicate: r.Duplicate,
	}
	if r.Schedule != 0 {
		out.Name = scheduleName(r.Topic, r.Partition, r.Schedule)
	} else if r.Level != wire.LevelNone {
		out.Offset = &r.Offset
	}
	return out
}

func (r receipt) String() string {
	if r.Name != "" {
		return r.Name
	}
	s := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
	if r.Offset != nil {
		s += fmt.Sprintf("@%d", *r.Offset)
	}
	if r.Duplicate {
		s += " duplicate"
	}
	return s
}

func (c *cli) pubCommand() *cobra.Command {
	var p publication
	cmd := &cobra.Command{
		Use:     "pub TOPIC [VALUE]",
		Aliases: []string{"publish"},
		Short:   "publish one message, or every line of a stream",
		Long: `Publish VALUE, the content of a file, or the content of stdin, and print where it was stored as
topic/partition@offset, or topic/partition at durability none. With --lines every line is a message, and
the count is printed on stderr. With --atomic all lines are stored together, or none is.

With --delay, --at or --cron the broker publishes the message later. The output is then
topic/partition#id, the name by which rafka sched shows and cancels the message.`,
		Example:           pubExample,
		Args:              between(1, 2, "TOPIC"),
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.topic = args[0]
			p.hasKey = cmd.Flags().Changed("key")
			o, err := p.prepare(cmd, args)
			if err != nil {
				return err
			}
			if p.live {
				return c.sendOne(cmd.Context(), o, &p, args[1:])
			}
			return c.withClient(cmd.Context(), o, func(cl *client.Client) error {
				switch {
				case p.atomic:
					return c.pubAtomic(cmd.Context(), cl, &p)
				case p.lines:
					return c.pubLines(cmd.Context(), cl, &p)
				}
				return c.pubOne(cmd.Context(), cl, &p, args[1:])
			})
		},
	}
	p.flags(cmd.Flags())
	return cmd
}

func (p *publication) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&p.key, "key", "k", "", "key of the message; it chooses the partition")
	fs.StringArrayVarP(&p.headers, "header", "H", nil, "header, name=value; may be repeated")
	partitionFlag(fs, &p.partition, "partition to publish to, instead of that of the key")
	fs.StringVarP(&p.file, "file", "f", "", "read the message or the lines from this file; - is stdin")
	fs.BoolVar(&p.lines, "lines", false, "publish every line of stdin or of the file as a message")
	fs.StringVar(&p.durability, "durability", "default", "durability to wait for: none, memory, os or disk; default: that of the topic, which is also the minimum")
	fs.StringVar(&p.codec, "codec", "none", "compress with none, s2, zstd or lz4")
	fs.BoolVar(&p.noCreate, "no-create", false, "do not create a missing topic")
	fs.BoolVar(&p.live, "live", false, "TOPIC is a subject: send the message to whoever listens now, and to a topic that is bound to it")
	fs.StringVar(&p.id, "id", "", "message id; a topic with a dedupe_window stores each id once")
	durationVar(fs, &p.ttl, "ttl", 0, "deliver the message for at most this long")
	fs.BoolVar(&p.tombstone, "tombstone", false, "publish a message without a value, which deletes the key on a compacted topic")
	fs.BoolVar(&p.atomic, "atomic", false, "with --lines: store all lines or none, in one partition")
	p.moment.flags(fs)
	p.lineKey.flags(fs)
}

// prepare checks the flags and returns the options of the client.
func (p *publication) prepare(cmd *cobra.Command, args []string) (client.Options, error) {
	o := client.Options{NoAutoCreate: p.noCreate}
	if err := p.lineKey.prepare(cmd); err != nil {
		return o, err
	}
	var err error
	if o.Level, err = wire.ParseLevel(p.durability); err != nil || o.Level == wire.LevelQuorum {
		return o, usagef(cmd, "durability %q is not one of default, none, memory, os, disk", p.durability)
	}
	var ok bool
	if o.Codec, ok = wire.ParseCodec(p.codec); !ok {
		return o, usagef(cmd, "codec %q is not one of none, s2, zstd, lz4", p.codec)
	}
	switch {
	case p.tombstone && (len(args) == 2 || p.file != "" || p.lines || p.live):
		return o, usagef(cmd, "a --tombstone has no value, and is one message of a topic")
	case p.tombstone && !p.hasKey:
		return o, usagef(cmd, "--tombstone needs --key")
	case p.id != "" && p.lines:
		return o, usagef(cmd, "--id names one message, --lines publishes many")
	case p.atomic && !p.lines:
		return o, usagef(cmd, "--atomic needs --lines")
	case p.live && (p.ttl != 0 || p.id != ""):
		return o, usagef(cmd, "--live messages have no --id or --ttl of their own: use -H rafka-id=… and -H rafka-ttl=…")
	case p.live && (p.lines || p.partition >= 0 || cmd.Flags().Changed("durability") || cmd.Flags().Changed("codec")):
		return o, usagef(cmd, "--live takes one message, and nothing that only topics have")
	case len(args) == 2 && (p.lines || p.file != ""):
		return o, usagef(cmd, "the message is given twice: as VALUE and by --file or --lines")
	case p.lineKey.used() && !p.lines:
		return o, usagef(cmd, "--key-regex and --key-field need --lines")
	case p.lineKey.used() && p.hasKey:
		return o, usagef(cmd, "the key is given twice: by --key and from the line")
	case p.partition < -1 || p.partition >= wire.MaxPartitions:
		return o, usagef(cmd, "partition %d does not exist", p.partition)
	}
	if err := p.moment.prepare(cmd, p.live, p.atomic); err != nil {
		return o, err
	}
	return o, checkHeaders(cmd, p.headers)
}

// checkHeaders checks that headers are name=value.
func checkHeaders(cmd *cobra.Command, headers []string) error {
	for _, h := range headers {
		if name, _, ok := strings.Cut(h, "="); !ok || name == "" {
			return usagef(cmd, "header %q is not name=value", h)
		}
	}
	return nil
}

// message returns a message that has everything but its value.
func (p *publication) message() *client.Message {
	m := &client.Message{
		Topic: p.topic, ID: p.id, TTL: p.ttl, Delay: p.moment.delay, At: p.moment.due, Cron: p.moment.cron, Zone: p.moment.zone,
	}
	if p.hasKey {
		m.Key = []byte(p.key)
	}
	if p.partition >= 0 {
		m.Partition, m.Pinned = p.partition, true
	}
	for _, h := range p.headers {
		name, value, _ := strings.Cut(h, "=")
		m.Headers = append(m.Headers, client.Header{Name: name, Value: []byte(value)})
	}
	return m
}

func (c *cli) pubOne(ctx context.Context, cl *client.Client, p *publication, value []string) error {
	m := p.message()
	var err error
	if !p.tombstone {
		if m.Value, err = c.valueOf(ctx, value, p.file); err != nil {
			return err
		}
	}
	ctx, cancel := c.asking(ctx)
	defer cancel()
	r, err := cl.Publish(ctx, m)
	if err != nil {
		return err
	}
	if c.asJSON() {
		return c.printJSON(newReceipt(r))
	}
	_, err = fmt.Fprintln(c.stdout, newReceipt(r))
	return err
}

// open returns the file to read from. "" and "-" are stdin.
func (c *cli) open(name string) (io.ReadCloser, error) {
	if name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, unusable(err, "--file names a file to read; - is stdin")
		}
		return f, nil
	}
	if c.inTTY {
		c.sayf("reading from the terminal; end with Ctrl-D")
	}
	return io.NopCloser(c.stdin), nil
}

// untilDone returns what read does, or ctx's cause when that ends first. A goroutine that is stuck reading a terminal
// or a pipe ends with the process.
func untilDone[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// tooLarge returns the error for what is larger than a frame.
func tooLarge(what string) error {
	f := explain(wire.Errorf(wire.CodeTooLarge, "%s is over %d bytes", what, wire.MaxFrameBytes))
	f.hint = "no setting allows larger messages"
	return f
}

// readMessage reads one message. It stops at a size that no broker accepts.
func readMessage(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, wire.MaxFrameBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if len(b) > wire.MaxFrameBytes {
		return nil, tooLarge("the message")
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}
