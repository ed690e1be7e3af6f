package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const subExample = `  rafka sub orders                          what comes from now on
  rafka sub orders --from start --exit-on-end
  rafka sub orders --from -10 -o jsonl      the last ten of every partition, and on
  rafka sub orders --from @-2h:@-1h         what came in between, then end
  rafka sub orders --from 100:200 -p 0      these offsets, then end
  rafka sub orders --filter type=invoice --filter '!test'
  rafka sub 'orders.*'                      live messages on all these subjects
  rafka sub orders --from @-1h -n 100 -o raw`

const positionHelp = "start, end, last, an offset, +10, -10, @2026-11-22T10:00 or @-1h"

// errEnough ends the reading when everything that was asked for is read.
var errEnough = errors.New("enough")

// reading holds the flags of rafka sub.
type reading struct {
	topic     string
	from      string
	between   client.Range
	partition int
	limit     int
	forTime   time.Duration
	exitOnEnd bool
	live      bool   // topic is a subject or a pattern of subjects
	queue     string // of live messages
	filters   []string
	filter    wire.Filter
}

func (c *cli) subCommand() *cobra.Command {
	var r reading
	cmd := &cobra.Command{
		Use:     "sub TOPIC|PATTERN",
		Aliases: []string{"subscribe"},
		Short:   "read a topic without a group, or live subjects",
		Long: `Read messages and print them: time, position, key, value and headers; with -o jsonl as JSON, in which
bytes that are not text are base64; with -o raw the value alone. Nothing is committed. A pattern with
* or >, and any name with --live, is for subjects: only messages that are sent from now on are seen.`,
		Example:           subExample,
		Args:              exactly(1, "TOPIC"),
		Annotations:       map[string]string{"raw": "yes"},
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.topic = args[0]
			if err := r.prepare(cmd); err != nil {
				return err
			}
			ctx, stop := c.untilUnread(cmd.Context())
			defer stop()
			return c.withClient(ctx, client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				if r.live {
					return c.listen(ctx, cl, &r)
				}
				return c.read(ctx, cl, &r)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&r.from, "from", "end", "where to start: "+positionHelp+"; or a range A:B")
	partitionFlag(fs, &r.partition, "read only this partition")
	fs.StringArrayVar(&r.filters, "filter", nil, "only messages with this header: name, !name, name=value, name!=value or name^=prefix; may be repeated")
	fs.IntVarP(&r.limit, "count", "n", 0, "end after this many messages")
	durationVar(fs, &r.forTime, "for", 0, "end after this long; with -n, fail if there were fewer messages")
	fs.BoolVar(&r.live, "live", false, "TOPIC is a subject: print the messages sent to it from now on; a pattern is always of subjects")
	fs.StringVar(&r.queue, "queue", "", "with --live: share the messages with other programs in this queue group")
	fs.BoolVar(&r.exitOnEnd, "exit-on-end", false, "end when everything that was there at the start has been read")
	return cmd
}

func (r *reading) prepare(cmd *cobra.Command) error {
	var err error
	if r.between, err = client.ParseRange(r.from); err != nil {
		return usagef(cmd, "from: %v", err)
	}
	if strings.Contains(r.between.String(), client.Committed().String()) {
		return usagef(cmd, "only a group has a committed offset: rafka consume TOPIC --group GROUP goes on there")
	}
	if r.partition < -1 || r.partition >= wire.MaxPartitions {
		return usagef(cmd, "partition %d does not exist", r.partition)
	}
	for _, f := range r.filters {
		term, err := wire.ParseFilterTerm(f)
		if err != nil {
			return usagef(cmd, "%v", err)
		}
		r.filter = append(r.filter, term)
	}
	r.live = r.live || isPattern(r.topic)
	if r.live && (cmd.Flags().Changed("from") || r.partition >= 0 || r.exitOnEnd || len(r.filter) > 0) {
		return usagef(cmd, "%s is a subject: nothing of it is stored, so there is no --from, --partition, --filter or --exit-on-end", r.topic)
	}
	if !r.live && r.queue != "" {
		return usagef(cmd, "--queue needs --live; rafka consume --queue shares the messages of a topic")
	}
	return positive(cmd, "count", "for")
}

// read prints messages until enough are read or ctx ends, and then prints their number.
func (c *cli) read(ctx context.Context, cl *client.Client, r *reading) error {
	if r.forTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.forTime, errTimeUp)
		defer cancel()
	}
	out := c.newMessageWriter()
	n := 0
	// emit prints one message. last means that no other one is available yet.
	emit := func(m *client.Message, last bool) error {
		n++
		enough := r.limit > 0 && n >= r.limit
		if err := out.write(m, last || enough); err != nil {
			return err
		}
		if enough {
			return errEnough
		}
		return nil
	}
	var err error
	if r.exitOnEnd || r.between.Bounded {
		err = c.readToEnd(ctx, cl, r, emit)
	} else {
		err = c.follow(ctx, cl, r, emit)
	}
	err = cmp.Or(ended(ctx, err, r.limit > 0), out.flush())
	if n > 0 || err == nil || ctx.Err() != nil { // otherwise reading failed at once
		c.sayf("%d read, nothing committed", n)
	}
	return err
}

// errTimeUp ends the reading when the time of --for is over.
var errTimeUp = errors.New("the time given by --for is up")

// ended turns the end of a reading into the error to report. The end of --for is an error only if a
// number of messages was asked for.
func ended(ctx context.Context, err error, counted bool) error {
	switch {
	case errors.Is(err, errEnough):
		return nil
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errTimeUp):
		if counted {
			return &failure{exit: exitTimeout, name: "TIMEOUT", err: errTimeUp}
		}
		return nil
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errNoReader):
		return errNoReader
	}
	return err
}

// follow reads with a subscription, without end.
func (c *cli) follow(ctx context.Context, cl *client.Client, r *reading, emit func(*client.Message, bool) error) error {
	partitions, err := ownedPartitions(ctx, cl, r)
	if err != nil {
		return err
	}
	s := client.Subscription{Topic: r.topic, From: r.between.From, Partitions: partitions, Filter: r.filter}
	consumer, err := cl.Subscribe(ctx, s)
	if err != nil {
		return err
	}
	defer consumer.Close()
	c.sayf("reading %s from %s", r.topic, r.from)
	for m, err := range consumer.Messages(ctx) {
		if _, ok := c.skipped(err); ok {
			continue
		}
		if err == nil {
			err = emit(m, true)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// skipped reports damaged messages if that is what err is, and returns the offset at which reading
// goes on.
func (c *cli) skipped(err error) (next uint64, ok bool) {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Err.Code != wire.CodeCorruptRange {
		return 0, false
	}
	what := fmt.Sprintf("messages %d to %d are", e.Err.First, e.Err.Next-1)
	if e.Err.Next-e.Err.First == 1 {
		what = fmt.Sprintf("message %d is", e.Err.First)
	}
	c.sayf("%s/%d: %s damaged and left out", e.Topic, e.Partition, what)
	return e.Err.Next, true
}

// ownedPartitions returns the partitions to read when they are not all of them: the one that was
// asked for, or those that this broker owns.
func ownedPartitions(ctx context.Context, cl *client.Client, r *reading) ([]int, error) {
	if r.partition >= 0 {
		return []int{r.partition}, nil
	}
	info, err := cl.Topic(ctx, r.topic)
	if err != nil {
		return nil, err
	}
	mine := owned(info)
	if len(mine) == len(info.Partitions) {
		return nil, nil
	}
	return mine, nil
}

// owned returns the partitions of a topic that this broker owns.
func owned(info wire.TopicInfo) (mine []int) {
	for p, state := range info.Partitions {
		if state.Status != wire.StatusForeign {
			mine = append(mine, p)
		}
	}
	return mine
}

// readToEnd reads every partition from the start of the range to its end, or to what is visible now. What is read first
// of the next partitions is fetched while one is printed.
func (c *cli) readToEnd(ctx context.Context, cl *client.Client, r *reading, emit func(*client.Message, bool) error) error {
	info, err := cl.Topic(ctx, r.topic)
	if err != nil {
		return err
	}
	if r.partition >= len(info.Partitions) {
		return fmt.Errorf("topic %s has %s: %w", r.topic, plural(uint64(len(info.Partitions)), "partition"), wire.CodePartitionNotFound)
	}
	var passes []*pass
	for n, state := range info.Partitions {
		if (r.partition < 0 || n == r.partition) && state.Status != wire.StatusForeign {
			passes = append(passes, &pass{partition: n, first: state.First, end: state.Visible})
		}
	}
	return inOrder(ctx, len(passes), func(ctx context.Context, i int) error {
		return passes[i].begin(ctx, cl, r)
	}, func(i int, err error) error {
		p := passes[i]
		passes[i] = nil // what it fetched is garbage once it is printed
		if err != nil {
			return err
		}
		return c.readPartition(ctx, cl, r, p, emit)
	})
}

// pass reads one partition up to an offset.
type pass struct {
	partition  int
	first, end uint64
	from       client.Position // of the next fetch

	fetched client.Fetched // what the last fetch returned
	err     error
}

// begin finds out what is to be read, and fetches the first of it.
func (p *pass) begin(ctx context.Context, cl *client.Client, r *reading) error {
	if err := p.bound(ctx, cl, r); err != nil || p.first >= p.end {
		return err
	}
	p.fetch(ctx, cl, r, aheadBytes)
	return nil
}

// aheadBytes bounds what is fetched of a partition before its turn: on a slow link, the answer that is printed first
// may come after those of mostAhead-1 others.
const aheadBytes = 256 << 10

func (p *pass) fetch(ctx context.Context, cl *client.Client, r *reading, most int) {
	p.fetched, p.err = cl.Fetch(ctx, client.FetchRequest{
		Topic: r.topic, Partition: p.partition, From: p.from, Filter: r.filter, MaxBytes: most,
	})
}

// bound sets what is to be read. A range is cut to what exists.
func (p *pass) bound(ctx context.Context, cl *client.Client, r *reading) error {
	p.from = r.between.From
	if !r.between.Bounded {
		return nil
	}
	at := func(pos client.Position) (uint64, error) {
		o, err := cl.Offsets(ctx, r.topic, p.partition, pos)
		if errors.Is(err, wire.CodeOffsetOutOfRange) {
			return p.end, nil
		}
		return min(max(o.Offset, p.first), p.end), err
	}
	from, err := at(r.between.From)
	if err != nil {
		return err
	}
	end, err := at(r.between.To)
	p.first, p.end, p.from = from, end, client.At(from)
	return err
}

// readPartition prints what p has fetched, and the rest. The next page is fetched while one is printed.
func (c *cli) readPartition(ctx context.Context, cl *client.Client, r *reading, p *pass, emit func(*client.Message, bool) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer cancel()
	for next := p.first; next < p.end; {
		page := p.fetched
		damagedTo, damaged := c.skipped(p.err)
		switch {
		case damaged:
			next = damagedTo
		case p.err != nil:
			return p.err
		case len(page.Messages) == 0:
			return nil
		default:
			next = page.Next
		}
		if next < p.end {
			p.from = client.At(next)
			fetching.Go(func() { p.fetch(ctx, cl, r, 0) })
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			if m.Offset >= p.end {
				return nil
			}
			if err := emit(m, i == len(page.Messages)-1); err != nil {
				return err
			}
		}
		page.Release()
		fetching.Wait()
	}
	return nil
}
