package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

const consumeExample = `  rafka consume orders --group audit                    in order, offsets are committed
  rafka consume orders --queue mailer --exec ./send.sh --workers 8
  rafka consume orders --queue mailer -n 1 -o raw       take one message
  rafka consume orders --group audit --exit-on-end      everything there is, then end`

const consumeHelp = `Read messages and mark them as done: a group commits its offset, a queue acknowledges each message.
Without --exec a message is done when it is printed.

With --exec, sh runs the command for every message, with the value on stdin and RAFKA_TOPIC,
RAFKA_PARTITION, RAFKA_OFFSET, RAFKA_KEY and RAFKA_ATTEMPT in the environment. Exit code 0 means that
the message is done, and 75 that it is to be tried again later. Any other exit code is a failure: a
queue counts it, and gives the message up after its maximum of deliveries; a group tries the same
message again. The output of the command is printed unchanged, so cat prints values without a line
end between them. Without --exec, -o raw prints one value on each line.`

// consumption holds the flags of rafka consume.
type consumption struct {
	topic     string
	group     string
	queue     string
	from      string
	command   string
	workers   int
	limit     int
	forTime   time.Duration
	exitOnEnd bool

	instance string // of the group's member
	session  time.Duration

	lease         time.Duration
	maxDeliveries int
	deadLetter    string
	orderByKey    bool
}

func (c *cli) consumeCommand() *cobra.Command {
	var o consumption
	cmd := &cobra.Command{
		Use:               "consume TOPIC (--group GROUP | --queue QUEUE)",
		Short:             "read as a group (in order) or as a queue (message by message)",
		Long:              consumeHelp,
		Example:           consumeExample,
		Args:              exactly(1, "TOPIC"),
		Annotations:       map[string]string{"raw": "yes"},
		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.topic = args[0]
			source, err := o.source(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if o.command == "" { // else the output may be of no interest
				var stop func()
				ctx, stop = c.untilUnread(ctx)
				defer stop()
			}
			return c.withClient(ctx, client.Options{NoAutoCreate: true}, func(cl *client.Client) error {
				return c.consume(ctx, cl, &o, source)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.group, "group", "", "read as a member of this group: messages in order, offsets are committed")
	fs.StringVar(&o.queue, "queue", "", "read from this queue: each message goes to one worker and is acknowledged by itself")
	fs.StringVar(&o.from, "from", "start", "where a new group or queue starts: "+positionHelp)
	fs.StringVar(&o.command, "exec", "", "run this command for each message")
	fs.IntVarP(&o.workers, "workers", "w", 1, "number of messages handled at the same time")
	fs.IntVarP(&o.limit, "count", "n", 0, "end when this many messages are done; what fails is not counted")
	durationVar(fs, &o.forTime, "for", 0, "end after this long; with -n, fail if there were fewer messages")
	fs.BoolVar(&o.exitOnEnd, "exit-on-end", false, "end when nothing is left to do: no message is unread, in progress, or waiting for another attempt")
	fs.StringVar(&o.instance, "instance", "", "group: a name that this member keeps when it restarts; a restart within --session-timeout moves no partition")
	durationVar(fs, &o.session, "session-timeout", 0, "group: how long a member that does not respond keeps its partitions; 0 for 10s")
	durationVar(fs, &o.lease, "lease", 0, "queue: how long a worker owns a message before it goes to another; 0 for the queue's setting")
	fs.IntVar(&o.maxDeliveries, "max-deliveries", 0, "queue: give a message up after this many deliveries; 0 for the queue's setting")
	fs.StringVar(&o.deadLetter, "dead-letter", "", "queue: topic for messages that are given up; default TOPIC.QUEUE.dlq")
	fs.BoolVar(&o.orderByKey, "order-by-key", false, "queue: deliver the messages of one key one after the other")
	return cmd
}

// prefetch is how many messages of a queue are leased ahead at most when --count is given.
const prefetch = 100

// source checks the flags and returns the source to read.
func (o *consumption) source(cmd *cobra.Command) (client.Source, error) {
	if (o.group == "") == (o.queue == "") {
		return client.Source{}, usagef(cmd, "say who reads: --group GROUP for order, --queue QUEUE for sharing work")
	}
	from, err := client.ParsePosition(o.from)
	if err != nil {
		return client.Source{}, usagef(cmd, "from: %v", err)
	}
	if o.queue != "" && strings.HasPrefix(o.from, "committed") {
		return client.Source{}, usagef(cmd, "from: a queue has not committed anything; it starts at a message")
	}
	if err := positive(cmd, "workers", "count", "for"); err != nil {
		return client.Source{}, err
	}
	if o.workers > client.MaxWorkers {
		return client.Source{}, usagef(cmd, "--workers is at most %d", client.MaxWorkers)
	}
	if o.maxDeliveries < 0 {
		return client.Source{}, usagef(cmd, "--max-deliveries cannot be negative")
	}
	if o.session != 0 && (o.session < 100*time.Millisecond || o.session > 30*time.Minute) {
		return client.Source{}, usagef(cmd, "--session-timeout %v is not between 100ms and 30m", o.session)
	}
	if o.deadLetter != "" && o.deadLetter == o.topic {
		return client.Source{}, usagef(cmd, "--dead-letter %s is the topic that is read: dead letters would come back for ever", o.topic)
	}
	if o.queue == "" {
		err = refuse(cmd, "queues; a group hands out partitions, and keeps their order", "lease", "max-deliveries", "dead-letter", "order-by-key")
	} else {
		err = refuse(cmd, "groups; a queue has workers, and no members", "instance", "session-timeout")
	}
	if err != nil {
		return client.Source{}, err
	}
	s := client.Group(o.group, o.topic)
	s.Instance, s.SessionTimeout = o.instance, o.session
	if o.queue != "" {
		s = client.Queue(o.queue, o.topic)
		s.Lease, s.MaxDeliveries, s.DeadLetter, s.OrderByKey = o.lease, o.maxDeliveries, o.deadLetter, o.orderByKey
	}
	s.From = from
	s.Workers = o.workers
	if o.limit > 0 {
		s.Workers = min(o.workers, o.limit)
		s.Prefetch = min(o.limit, prefetch) // leave the rest to other workers
	}
	return s, nil
}

// name returns the name of the group or queue.
func (o *consumption) name() string {
	if o.queue != "" {
		return o.queue
	}
	return o.group
}

// mode returns the mode of the group or queue. A group and a queue can have the same name.
func (o *consumption) mode() string {
	if o.queue != "" {
		return "queue"
	}
	return "group"
}

func (c *cli) consume(ctx context.Context, cl *client.Client, o *consumption, s client.Source) error {
	if _, err := cl.Topic(ctx, o.topic); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if o.forTime > 0 {
		timer := time.AfterFunc(o.forTime, func() { cancel(errTimeUp) })
		defer timer.Stop()
	}
	watched := make(chan struct{})
	if o.exitOnEnd {
		start, err := startOffsets(ctx, cl, o, s.From)
		if err != nil {
			return err
		}
		go func() {
			defer close(watched)
			c.cancelWhenDone(ctx, cl, o, start, cancel)
		}()
	} else {
		close(watched)
	}
	c.sayPaused(ctx, cl, o)
	w := &worker{c: c, o: o, out: c.newMessageWriter(), stop: cancel}
	if o.limit > 0 {
		w.places = make(chan struct{}, o.limit)
	}
	err := cl.Run(ctx, s, w.handle)
	refused := err != nil && ctx.Err() == nil
	cancel(nil)
	<-watched
	if done, failed := w.done.Load(), w.failed.Load(); !refused || done+failed > 0 {
		c.sayf("%d done, %d failed", done, failed)
	}
	if err == nil || errors.Is(context.Cause(ctx), errEnough) {
		return nil
	}
	return ended(ctx, err, o.limit > 0)
}

// sayPaused says that the group or queue is paused, and so gets no messages. It ignores errors.
func (c *cli) sayPaused(ctx context.Context, cl *client.Client, o *consumption) {
	infos, _ := cl.Groups(ctx, o.name())
	if slices.ContainsFunc(infos, func(g wire.GroupInfo) bool { return g.Topic == o.topic && g.Paused }) {
		c.sayf("%q is paused; rafka group resume %s lets it go on", o.name(), o.name())
	}
}

// worker handles the messages of rafka consume.
type worker struct {
	c      *cli
	o      *consumption
	out    *messageWriter
	places chan struct{} // one for each message of --count; nil without
	stop   context.CancelCauseFunc

	done, failed atomic.Int64
}

// handle is a client.Handler. It prints m or runs the command for it. What comes when --count messages are done or in
// progress waits: it is needed if one of those fails, and goes back unhandled if none does.
func (w *worker) handle(ctx context.Context, m *client.Message) error {
	if w.places != nil {
		select {
		case w.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := w.work(ctx, m); err != nil {
		if ctx.Err() == nil { // else the message is none the worse for it
			w.failed.Add(1)
		}
		if w.places != nil {
			<-w.places
		}
		return err
	}
	if w.done.Add(1) == int64(w.o.limit) {
		w.stop(errEnough)
	}
	return nil
}

func (w *worker) work(ctx context.Context, m *client.Message) error {
	if w.o.command != "" {
		err := w.c.runCommand(ctx, w.o.command, m)
		if err != nil && readerGone(w.c.stdout) { // every command that prints fails: that is no fault of its message
			w.stop(errNoReader)
			return context.Canceled
		}
		return err
	}
	if err := w.out.write(m, true); err != nil { // no message can be printed: that is no fault of this one
		w.stop(err)
		return context.Canceled
	}
	return nil
}

// donePoll is how often --exit-on-end looks whether anything is left to do.
const donePoll = 50 * time.Millisecond

// cancelWhenDone cancels the run as soon as the group or queue has nothing left to do.
func (c *cli) cancelWhenDone(ctx context.Context, cl *client.Client, o *consumption, start map[int]uint64, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(donePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Go on after an error: the client repairs its connection.
		if left, err := leftToDo(ctx, cl, o, start); err == nil && !left {
			cancel(errEnough)
			return
		}
	}
}

// startOffsets returns where a group starts in partitions in which it has not committed.
func startOffsets(ctx context.Context, cl *client.Client, o *consumption, from client.Position) (map[int]uint64, error) {
	info, err := cl.Topic(ctx, o.topic)
	if err != nil {
		return nil, err
	}
	mine := owned(info)
	replies, err := cl.OffsetsOf(ctx, o.topic, mine, from)
	if err != nil {
		return nil, err
	}
	start := make(map[int]uint64, len(mine))
	for i, r := range replies {
		start[mine[i]] = r.Offset
	}
	return start, nil
}

// leftToDo reports whether something visible in the topic is not done. In a partition where the
// broker does not know the group, it counts from its start.
func leftToDo(ctx context.Context, cl *client.Client, o *consumption, start map[int]uint64) (bool, error) {
	info, err := cl.Topic(ctx, o.topic)
	if err != nil {
		return false, err
	}
	groups, err := cl.Groups(ctx, o.name())
	if err != nil && !errors.Is(err, wire.CodeGroupNotFound) {
		return false, err
	}
	known := make(map[int]bool)
	for _, g := range groups {
		if g.Topic != o.topic || g.Mode != o.mode() {
			continue
		}
		known[g.Partition] = true
		if g.Lag > 0 || g.InFlight > 0 || g.Retrying > 0 || g.Parked > 0 {
			return true, nil
		}
	}
	for p, state := range info.Partitions {
		if !known[p] && state.Visible > max(state.First, start[p]) && state.Status != wire.StatusForeign {
			return true, nil
		}
	}
	return false, nil
}
