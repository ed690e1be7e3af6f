package server

import (
	"slices"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// watch is everything on one loop that waits for one partition. It is a job that runs when the partition has changed.
type watch struct {
	loop    *loop
	p       *partition.Partition
	watcher *partition.Watcher
	acks    [2]ackQueue // those that wait for the kernel, and for the device
	subs    []*subscription
	pushing bool // push iterates over subs
	polls   []*poll
}

// watch returns the loop's watch of p.
func (l *loop) watch(p *partition.Partition) *watch {
	w := l.watches[p]
	if w == nil {
		w = &watch{loop: l, p: p}
		w.watcher = partition.NewWatcher(func() { l.post(w) })
		l.watches[p] = w
		p.Watch(w.watcher)
	}
	return w
}

// idle reports whether nothing waits.
func (w *watch) idle() bool {
	return len(w.subs) == 0 && len(w.polls) == 0 && w.acks[0].len() == 0 && w.acks[1].len() == 0
}

// end stops watching.
func (w *watch) end(p *partition.Partition) {
	p.Unwatch(w.watcher)
	delete(w.loop.watches, p)
}

// run continues everything that the change of the partition allows to continue.
func (w *watch) run(now time.Time) {
	w.loop.clock = now
	w.watcher.Arm()
	w.releaseAcks()
	w.push()
	w.runPolls(now)
	if w.idle() {
		return
	}
	if err := w.p.Err(); err != nil {
		w.endAll(err)
	}
}

// push pushes entries to all subscriptions. A write to a peer that is gone can end a subscription meanwhile.
func (w *watch) push() {
	w.pushing = true
	defer func() { w.pushing = false }()
	for _, sub := range w.subs {
		sub.push()
	}
}

// drop removes a subscription.
func (w *watch) drop(sub *subscription) {
	if w.pushing { // do not change the list that push iterates over
		w.subs = slices.Clone(w.subs)
	}
	w.subs = slices.DeleteFunc(w.subs, func(o *subscription) bool { return o == sub })
}

// endAll ends what waits for a partition that is gone.
func (w *watch) endAll(err error) {
	for _, sub := range slices.Clone(w.subs) {
		sub.fail(asWireError(err))
	}
	for _, q := range slices.Clone(w.polls) {
		q.fail(err)
	}
}

// ack is a reply that waits until an entry has reached a level.
type ack struct {
	to          acknowledger
	op          wire.Op
	correlation uint32
	level       wire.Level
	index       uint64
	base        uint64 // OpPublish: offset of the first record; OpSchedule: first id; settlements: messages lost
	count       uint32 // OpPublish: records
	held        int    // OpPublish: bytes that count against the session's limit
	arrived     int64  // OpPublish: when it arrived, in ns since 1970; for the latency metric
	duplicate   bool   // OpPublish, OpSchedule: an earlier request stored it
	join        *join  // set when the reply waits for several partitions
}

// acknowledger waits for an ack: a session of either protocol.
type acknowledger interface {
	// acknowledged is called once on the loop, even when the connection is gone. An error means that the level was
	// not reached, or that nobody knows.
	acknowledged(p *partition.Partition, a ack, err error)
}

// join is a reply that waits for several acks.
type join struct {
	left int
	any  bool // something was waited for
	err  error
}

// ackQueue is a queue of acks in index order, the order in which entries are appended.
type ackQueue struct {
	items []ack
	head  int
}

func (q *ackQueue) len() int { return len(q.items) - q.head }

func (q *ackQueue) push(a ack) { q.items = append(q.items, a) }

func (q *ackQueue) pop() ack {
	a := q.items[q.head]
	q.items[q.head] = ack{}
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head > 1024 && q.head*2 > len(q.items):
		q.items = append(q.items[:0], q.items[q.head:]...)
		q.head = 0
	}
	return a
}

// await makes a wait until its entry has reached its level.
func (w *watch) await(a ack) {
	q := &w.acks[0]
	if a.level > wire.LevelOS {
		q = &w.acks[1]
	}
	idle := w.idle()
	q.push(a)
	w.loop.pending++
	if idle {
		w.arm(a.index, a.level)
	}
}

// arm arms the watcher, and then looks once at changes that came before.
func (w *watch) arm(index uint64, level wire.Level) {
	w.watcher.Arm()
	if w.p.Reached(index, level) || w.p.Failure() != nil {
		w.loop.post(w)
	}
}

// releaseAcks answers the acks whose level is reached and, after a storage failure, all others with an error.
func (w *watch) releaseAcks() {
	for i, level := range [...]wire.Level{wire.LevelOS, wire.LevelDisk} {
		q := &w.acks[i]
		for q.len() > 0 && w.p.Reached(q.items[q.head].index, level) {
			w.loop.answer(w.p, q.pop(), nil)
		}
	}
	if err := w.p.Failure(); err != nil {
		for i := range w.acks {
			for w.acks[i].len() > 0 {
				w.loop.answer(w.p, w.acks[i].pop(), err)
			}
		}
	}
}

// awaitLevel makes a wait until its entry has reached its level, or answers it at once for level memory.
func (l *loop) awaitLevel(p *partition.Partition, a ack) {
	if a.level <= wire.LevelMemory {
		l.pending++
		l.answer(p, a, nil)
		return
	}
	l.flush(p, a.level)
	l.watch(p).await(a)
}

// awaitState makes a wait until a state entry has reached the partition's StateLevel.
func (l *loop) awaitState(p *partition.Partition, a ack) {
	a.level = p.StateLevel()
	if a.join != nil {
		a.join.any = true
	}
	l.awaitLevel(p, a)
}

// answer ends the wait of an ack. For a join, the last ack sends the reply.
func (l *loop) answer(p *partition.Partition, a ack, err error) {
	l.pending--
	if a.join != nil {
		if a.join.left--; a.join.err == nil {
			a.join.err = err
		}
		if a.join.left > 0 {
			return
		}
		err = a.join.err
	}
	a.to.acknowledged(p, a, err)
}

// acknowledged sends the reply, unless the connection is gone.
func (b *binary) acknowledged(p *partition.Partition, a ack, err error) {
	b.held -= a.held
	switch {
	case b.s.closed:
	case err != nil:
		b.fail(a.op, a.correlation, asWireError(err))
	case a.op == wire.OpPublish:
		b.s.loop.acknowledged(a)
		b.acknowledgeOne(p, a.correlation, a.base, a.count, a.level, a.duplicate)
	case a.op == wire.OpAck || a.op == wire.OpNack || a.op == wire.OpReject || a.op == wire.OpDiscard || a.op == wire.OpCancel:
		b.replySettled(a.op, a.correlation, uint32(a.base))
	case a.op == wire.OpSchedule:
		b.replyScheduled(a.correlation, a.base, a.level, a.duplicate)
	default:
		b.replyTo(a.op, a.correlation, 0, nil)
	}
}
