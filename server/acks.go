package server

import (
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

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
	l.awaitLevel(p, a)
}

// logged is a state entry that was appended.
type logged struct {
	p     *partition.Partition
	index uint64
}

// awaitStates makes a wait until all entries have reached the StateLevel of their partitions.
func (l *loop) awaitStates(entries []logged, a ack) {
	if len(entries) > 1 {
		a.join = &join{left: len(entries)}
	}
	for _, e := range entries {
		a.index = e.index
		l.awaitState(e.p, a)
	}
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
