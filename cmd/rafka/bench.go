package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rafka-mq/rafka/bench"
	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const benchExample = `  rafka bench pub --msgs 1000000 --size 128
  rafka bench pub --rate 50000 --duration 10s        # open loop: latency counts from the due time
  rafka bench pubsub --readers 4 --duration 5s
  rafka bench durable --clients 16 --duration 5s
  rafka bench fetch --msgs 1000000
  rafka bench queue --readers 16 --keys 10000 --order-by-key
  rafka bench pub --delay 1h
  rafka bench scale --only connections
  rafka bench soak --duration 1m                     # mixed load at half of the most; exits 1 when anything grows
  rafka bench compare                                # our figures beside their floors; needs no broker`

// benchKind is one kind of load.
type benchKind struct {
	name, short string
	run         func(context.Context, bench.Load) (bench.Result, error)
	flags       string // names of the flags that have an effect on it
	clients     int    // default of --clients
	readers     int    // default of --readers
	most        string // what the help says of the default of --msgs
}

// The flags of what publishes, and of what reads and publishes only what the topic lacks.
const (
	publishFlags = "topic size msgs duration clients keys partitions codec"
	readFlags    = "topic size msgs keys partitions codec"
)

var benchKinds = []benchKind{
	{"pub", "publish as fast as it is acknowledged, or at a rate", bench.Publish, publishFlags + " durability rate delay", 1, 0, million},
	{"sub", "receive a topic from its start by push", bench.Subscribe, readFlags, 1, 0, ""},
	{"fetch", "receive a topic from its start by fetches", bench.Fetch, readFlags, 1, 0, ""},
	{"queue", "receive a topic from its start as a queue, and acknowledge every message", bench.Queue, readFlags + " readers order-by-key", 1, 16, ""},
	{"pubsub", "publish while subscribers receive all of it", bench.PubSub, publishFlags + " durability rate readers", 1, 1, million},
	{"fanout", "pubsub with 10 subscribers", bench.PubSub, publishFlags + " durability rate readers", 1, 10, million},
	{"latency", "publish one message after the other, or at a rate", bench.RoundTrip, publishFlags + " durability rate", 1, 0, "default 10,000 unless --duration is given"},
	{"durable", "publish at level disk from many clients, one message in flight each", bench.Durable, publishFlags, 16, 0, "default what 5s allow"},
}

const million = "default 1,000,000 unless --duration is given"

func (c *cli) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "measure a broker, or this program against its floors",
		Example: benchExample,
		Args:    cobra.ArbitraryArgs,
		RunE:    onlySubcommands,
	}
	for _, k := range benchKinds {
		cmd.AddCommand(c.benchLoad(k))
	}
	for _, own := range []*cobra.Command{c.benchCompare(), c.benchScale(), c.benchSoak(), c.benchFloor()} {
		cmd.AddCommand(connectsNowhere(own, "this one starts its own"))
	}
	return cmd
}

func (c *cli) benchLoad(k benchKind) *cobra.Command {
	var l bench.Load
	var words loadWords
	cmd := &cobra.Command{
		Use:   k.name,
		Short: k.short,
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := words.parse(cmd, &l); err != nil {
				return err
			}
			l.Server = c.server
			l.Options = client.Options{Name: "rafka-bench"}
			if err := c.identify(&l.Options); err != nil {
				return err
			}
			// Connect first, only for the error messages that other commands have too.
			if err := c.withClient(cmd.Context(), client.Options{}, func(*client.Client) error { return nil }); err != nil {
				return err
			}
			finish := c.benchProgress(&l, k.name)
			r, err := k.run(cmd.Context(), l)
			finish()
			if err != nil {
				return err
			}
			return c.printBench(r)
		},
	}
	k.addFlags(cmd.Flags(), &l, &words)
	return cmd
}

// addFlags adds the flags that have an effect on k.
func (k *benchKind) addFlags(to *pflag.FlagSet, l *bench.Load, words *loadWords) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	size, keys, msgs := "bytes of a message, with units (1KiB)", "number of different keys; 0: messages without a key", "number of messages; "+k.most
	if strings.HasPrefix(k.flags, readFlags) {
		msgs = "publish messages until the topic has this many, then read this many from its start; default 1,000,000"
		size, keys = "bytes of a message that is published, with units (1KiB)", "number of different keys of what is published; 0: messages without a key"
	}
	f.StringVar(&l.Topic, "topic", "rafka-bench", "topic to use; created when missing")
	f.StringVar(&words.size, "size", "128", size)
	f.IntVarP(&l.Messages, "msgs", "n", 0, msgs)
	durationVarP(f, &l.Duration, "duration", "d", 0, "publish for this long, instead of a number of messages")
	f.IntVar(&l.Rate, "rate", 0, "messages per second, sent on schedule even when the broker is slow; 0: as fast as possible")
	durationVar(f, &l.Delay, "delay", 0, "schedule the messages this far in the future")
	f.IntVar(&l.Clients, "clients", k.clients, "number of publishing connections")
	f.IntVar(&l.Readers, "readers", k.readers, "number of subscribers, or of workers of a queue")
	f.IntVar(&l.Keys, "keys", 0, keys)
	f.BoolVar(&l.OrderByKey, "order-by-key", false, "deliver the messages of one key one after the other")
	f.IntVar(&l.Partitions, "partitions", 1, "number of partitions of the topic, if it is created")
	f.StringVar(&words.level, "durability", "default", "wait for at least: memory, os or disk")
	f.StringVar(&words.codec, "codec", "none", "compress what is published with none, s2, zstd or lz4")
	for name := range strings.FieldsSeq(k.flags) {
		to.AddFlag(f.Lookup(name))
	}
}

// loadWords are the flags of a load that are parsed when all are known.
type loadWords struct{ level, codec, size string }

// parse checks the flags of a load, and sets what words says.
func (w *loadWords) parse(cmd *cobra.Command, l *bench.Load) error {
	n, err := humanize.ParseBytes(w.size)
	if err != nil || n == 0 || n > wire.DefaultMaxRecordBytes {
		return usagef(cmd, "--size %s is not between 1 and 1MiB", w.size)
	}
	l.Size = int(n)
	if err := positive(cmd, "msgs", "duration", "clients", "readers", "partitions"); err != nil {
		return err
	}
	if min(l.Rate, l.Keys) < 0 {
		return usagef(cmd, "--rate and --keys cannot be negative")
	}
	if l.Messages > 0 && l.Duration > 0 {
		return usagef(cmd, "--msgs and --duration both say when to end: leave out one")
	}
	if l.Level, err = wire.ParseLevel(w.level); err != nil {
		return usagef(cmd, "--durability %s: %v", w.level, err)
	}
	var ok bool
	if l.Codec, ok = wire.ParseCodec(w.codec); !ok {
		return usagef(cmd, "--codec %s is not none, s2, zstd or lz4", w.codec)
	}
	return nil
}

// benchProgress draws a progress bar on a terminal. finish removes it.
func (c *cli) benchProgress(l *bench.Load, what string) (finish func()) {
	if !c.errTTY {
		return func() {}
	}
	bar := progressbar.NewOptions(1000, progressbar.OptionSetWriter(c.stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	l.Progress = func(share float64) { _ = bar.Set(int(share * 1000)) }
	return func() { _ = bar.Finish() }
}

func (c *cli) printBench(r bench.Result) error {
	pairs := [][2]string{
		{"what", r.What},
		{"messages", humanize.Comma(int64(r.Messages))},
		{"took", fmt.Sprintf("%.3f s", r.Seconds)},
		{"rate", humanize.Comma(int64(r.MessagesPerSecond)) + " msg/s"},
		{"payload", fmt.Sprintf("%.1f MB/s", r.BytesPerSecond/1e6)},
	}
	if l := r.Latency; l != nil {
		pairs = append(pairs, [2]string{
			"latency",
			fmt.Sprintf("p50 %.0f us  p90 %.0f us  p99 %.0f us  p99.9 %.0f us  max %.0f us", l.P50, l.P90, l.P99, l.P999, l.Max),
		})
	}
	if r.Late > 0 {
		pairs = append(pairs, [2]string{"late", humanize.Comma(int64(r.Late)) + " messages could not be sent on time"})
	}
	return c.printOne(r, pairs)
}

func (c *cli) benchCompare() *cobra.Command {
	var cfg bench.Config
	var write string
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "measure this program beside the floors, in alternating rounds",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive(cmd, "rounds", "duration", "round-trips", "syncs"); err != nil {
				return err
			}
			cfg.Progress = func(done, total int, what string) { c.sayf("%d/%d  %s", done+1, total, what) }
			r, err := bench.Compare(cmd.Context(), cfg)
			if err != nil {
				return benchFailure(cmd, err)
			}
			if err := writeBetweenMarkers(write, "rafka bench compare", r.Markdown()); err != nil {
				return err
			}
			return c.printReport(r, r.Text())
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 5, "how often each figure and its floor are measured")
	durationVar(f, &cfg.Duration, "duration", time.Second, "length of one measurement of a rate")
	f.IntVar(&cfg.RoundTrips, "round-trips", 10_000, "samples of a measurement of round trips")
	f.IntVar(&cfg.Syncs, "syncs", 5000, "samples of a measurement of flushes")
	f.StringVar(&cfg.Only, "only", "", "measure only figures whose name contains this")
	f.BoolVar(&cfg.Full, "full", false, "also measure what takes long: reopening 10 GB")
	f.StringVar(&cfg.Dir, "dir", "", "where to make data directories; default the system's temporary directory")
	f.StringVar(&write, "write", "", "also write the table into this Markdown file, between its markers")
	return cmd
}

func (c *cli) benchScale() *cobra.Command {
	var cfg bench.ScaleConfig
	var write string
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "measure the cost of more partitions, connections, subscribers, bytes and backlog",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive(cmd, "rounds", "duration", "round-trips", "most"); err != nil {
				return err
			}
			cfg.Progress = func(what string) { c.sayf("%s", what) }
			r, err := bench.Scale(cmd.Context(), cfg)
			if err != nil {
				return benchFailure(cmd, err)
			}
			err = writeBetweenMarkers(write, "rafka bench scale", r.Markdown())
			if err := errors.Join(err, writeCharts(write, r.Charts())); err != nil {
				return err
			}
			return c.printReport(&r, r.Text())
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 5, "how often each point is measured")
	durationVar(f, &cfg.Duration, "duration", time.Second, "length of one measurement of a rate")
	f.IntVar(&cfg.RoundTrips, "round-trips", 10_000, "samples of a measurement of latency")
	f.StringVar(&cfg.Only, "only", "", "measure only tables whose name contains this: partitions, connections, subscribers, size, backlog")
	f.IntVar(&cfg.Most, "most", 0, "leave out points above this number; for the backlog in GB")
	f.StringVar(&cfg.Dir, "dir", "", "where to make data directories; default the system's temporary directory")
	f.StringVar(&write, "write", "", "also write the tables into this Markdown file, between its markers, and charts into plots beside it")
	return cmd
}

// printReport prints v as JSON, or else text.
func (c *cli) printReport(v any, text string) error {
	if c.asJSON() {
		return c.printJSON(v)
	}
	_, err := fmt.Fprint(c.stdout, text)
	return err
}

// benchFailure returns err as a mistake on the command line if it is one.
func benchFailure(cmd *cobra.Command, err error) error {
	if errors.Is(err, bench.ErrInvalid) {
		return usagef(cmd, "%v", err)
	}
	return err
}

// writeCharts writes charts into the folder plots beside the file; "" writes nothing.
func writeCharts(name string, charts map[string][]byte) error {
	if name == "" {
		return nil
	}
	dir := filepath.Join(filepath.Dir(name), "plots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, svg := range charts {
		if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) benchSoak() *cobra.Command {
	var cfg bench.SoakConfig
	var write string
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "run a broker under a mixed load for a long time, and check that nothing grows",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive(cmd, "duration", "interval", "share"); err != nil {
				return err
			}
			cfg.Progress = func(s bench.SoakSample) {
				c.sayf("%4.0f s  %.0f msg/s published, %.0f delivered  %.0f MB  GC %.1f %%  publish to ack p99 %.0f us, to deliver %.0f us",
					s.At, s.Published, s.Delivered, s.Resident, 100*s.GCShare, s.AckP99, s.ReadP99)
			}
			r, err := bench.Soak(cmd.Context(), cfg)
			if err != nil {
				return benchFailure(cmd, err)
			}
			if err := writeBetweenMarkers(write, "rafka bench soak", r.Markdown()); err != nil {
				return err
			}
			if err := c.printReport(r, r.Text()); err != nil {
				return err
			}
			if !r.Flat() {
				return errors.New("something grew during the run: see the last table")
			}
			return nil
		},
	}
	f := cmd.Flags()
	durationVar(f, &cfg.Duration, "duration", 10*time.Minute, "length of the measured part")
	durationVar(f, &cfg.Interval, "interval", 0, "length of one sample; default a 20th of the duration")
	f.Float64Var(&cfg.Share, "share", 0.5, "load, as a share of the most that the mix reaches without a limit")
	f.StringVar(&cfg.Dir, "dir", "", "where to make the data directory; default the system's temporary directory")
	f.StringVar(&write, "write", "", "also write the tables into this Markdown file, between its markers")
	return cmd
}

// writeBetweenMarkers replaces the text between the markers of a command in a file; "" replaces
// nothing.
func writeBetweenMarkers(name, command, text string) error {
	if name == "" {
		return nil
	}
	begin, end := "<!-- begin: "+command+" -->\n", "<!-- end -->"
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", filepath.Base(name), strings.TrimSpace(begin), end)
	}
	return os.WriteFile(name, []byte(head+begin+text+end+tail), 0o644)
}

// benchFloor is the process that compare starts; the command is hidden.
func (c *cli) benchFloor() *cobra.Command {
	return &cobra.Command{
		Use: "floor KIND SIZE", Hidden: true, Args: exactly(2, "KIND and SIZE"),
		RunE: func(_ *cobra.Command, args []string) error { return bench.Floor(args[0], args[1], c.stdout) },
	}
}
