package client

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// ackDelay is how long an acknowledgement waits for others to be sent with it.
	ackDelay = 2 * time.Millisecond
	// maxRanges bounds the ranges of one request. Many ranges arise when offsets have gaps.
	maxRanges = 2048
)

// acks gathers acknowledgements, so that one request settles many messages.
type acks struct {
	gathered   settlement
	scheduled  bool   // a timer will send the acknowledgements
	unanswered int    // messages whose settlement is gathered or sent, and not answered
	lost       uint64 // messages that were acknowledged too late
	told       uint64 // how many of lost were reported by Flush
}

// origin is where messages were leased: a partition of a topic, as a connection knows it. After the topic was
// deleted and created again, the same connection can have leases of both.
type origin struct {
	b         *binding
	partition uint16
}

// settlement is a set of leased messages.
type settlement map[origin][]wire.LeaseRange

func (s settlement) add(l *lease) { s[l.origin] = appendRange(s[l.origin], l) }

// requests returns the messages in pieces that fit in one request. It uses up the settlement.
func (s settlement) requests() iter.Seq2[origin, []wire.LeaseRange] {
	return func(yield func(origin, []wire.LeaseRange) bool) {
		for o, ranges := range s {
			for some := range slices.Chunk(mergeRanges(ranges), maxRanges) {
				if !yield(o, some) {
					return
				}
			}
		}
	}
}

// drop discards what was not sent, and returns how many messages that were.
func (a *acks) drop() (n int) {
	for _, ranges := range a.gathered {
		n += countMessages(ranges)
	}
	clear(a.gathered)
	a.unanswered -= n
	a.lost += uint64(n)
	return n
}

func countMessages(ranges []wire.LeaseRange) (n int) {
	for _, r := range ranges {
		n += int(r.Count)
	}
	return n
}

// lateRanges is how many of the last ranges a message may continue, because workers finish slightly
// out of order.
const lateRanges = 4

// appendRange adds one message to ranges, extending one of the last ones if possible.
func appendRange(ranges []wire.LeaseRange, l *lease) []wire.LeaseRange {
	for i := len(ranges) - 1; i >= max(0, len(ranges)-lateRanges); i-- {
		last := &ranges[i]
		if last.Attempt == l.attempt && last.First+uint64(last.Count) == l.offset {
			last.Count++
			return ranges
		}
	}
	return append(ranges, wire.LeaseRange{First: l.offset, Count: 1, Attempt: l.attempt})
}

// mergeRanges sorts ranges and joins adjacent ones, in place.
func mergeRanges(ranges []wire.LeaseRange) []wire.LeaseRange {
	slices.SortFunc(ranges, func(a, b wire.LeaseRange) int { return cmp.Compare(a.First, b.First) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].Attempt == r.Attempt && out[n-1].First+uint64(out[n-1].Count) == r.First {
			out[n-1].Count += r.Count
			continue
		}
		out = append(out, r)
	}
	return out
}

// Ack marks a message from a queue as done. It returns at once: acknowledgements are sent together,
// within milliseconds, and QueueConsumer.Flush waits for the answers. The context is not used. The
// error is ErrNotLeased when the message was settled before or did not come from a queue, and
// wire.CodeLeaseLost when the connection that leased it is lost, or Run has extended the lease for
// Source.MaxLease.
func (m *Message) Ack(context.Context) error {
	if m.lease == nil {
		return ErrNotLeased
	}
	return m.lease.q.ack(m.lease)
}

// Nack makes the queue deliver a message again after delay; a negative delay means the queue's
// backoff. It returns when that is stored as durably as the topic asks for. The errors are those of
// Ack, and the broker's.
func (m *Message) Nack(ctx context.Context, delay time.Duration) error {
	return m.nack(ctx, delay, "")
}

func (m *Message) nack(ctx context.Context, delay time.Duration, reason string) error {
	return m.settle(ctx, wire.OpNack, delayMs(delay), reason)
}

// Reject moves a message from a queue to the dead-letter topic, with the reason, of which at most
// wire.MaxReasonBytes are kept. It returns when that is stored. The errors are those of Ack, and
// the broker's.
func (m *Message) Reject(ctx context.Context, reason string) error {
	return m.settle(ctx, wire.OpReject, 0, reason)
}

// Extend starts the lease of a message from a queue anew. The errors are those of Ack, and the
// broker's.
func (m *Message) Extend(ctx context.Context) error {
	if m.lease == nil {
		return ErrNotLeased
	}
	return m.settle(ctx, wire.OpExtend, delayMs(m.lease.q.s.Lease), "")
}

func (m *Message) settle(ctx context.Context, op wire.Op, ms int32, reason string) error {
	l := m.lease
	if l == nil {
		return ErrNotLeased
	}
	q := l.q
	q.mu.Lock()
	err := q.refuseLocked(op, l)
	if err == nil && op != wire.OpExtend {
		q.settleLocked(l)
	}
	q.mu.Unlock()
	if err != nil {
		return err
	}
	return q.settleNow(ctx, op, l, ms, reason)
}

// refuseLocked returns why l cannot be settled, or nil.
func (q *QueueConsumer) refuseLocked(op wire.Op, l *lease) error {
	switch {
	case l.settled && !l.gone:
		return ErrNotLeased
	case l.gone || !l.b.conn.alive():
		return q.leaseLost(op, l)
	}
	return nil
}

// settleLocked marks l as settled.
func (q *QueueConsumer) settleLocked(l *lease) {
	l.settled = true
	q.held.remove(l)
}

func (q *QueueConsumer) leaseLost(op wire.Op, l *lease) error {
	we := wire.Errorf(wire.CodeLeaseLost, "offset %d", l.offset)
	return explain(we, op, q.topic, int(l.partition))
}

// ack adds a message to the acknowledgements that are sent next.
func (q *QueueConsumer) ack(l *lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ackLocked(l)
}

func (q *QueueConsumer) ackLocked(l *lease) error {
	if err := q.refuseLocked(wire.OpAck, l); err != nil {
		if wire.CodeOf(err) == wire.CodeLeaseLost {
			q.loseLocked(l)
			q.acks.lost++
		}
		return err
	}
	q.settleLocked(l)
	q.acks.gathered.add(l)
	q.acks.unanswered++
	if !q.acks.scheduled {
		q.acks.scheduled = true
		time.AfterFunc(ackDelay, q.flushAcks)
	}
	return nil
}

// flushAcks sends the acknowledgements gathered so far. When it returns they are queued for
// sending, including those of a concurrent call: a connection that drains may close right after.
func (q *QueueConsumer) flushAcks() {
	q.flushing.Lock()
	defer q.flushing.Unlock()
	q.mu.Lock()
	q.acks.scheduled = false
	gathered := q.acks.gathered
	if len(gathered) == 0 {
		q.mu.Unlock()
		return
	}
	q.acks.gathered = settlement{}
	q.mu.Unlock()
	for o, ranges := range gathered.requests() {
		q.send(wire.OpAck, o, ranges)
	}
}

// send acknowledges ranges in the background, or gives them back with a nack: nobody handled them. The
// caller has counted their messages as unanswered.
func (q *QueueConsumer) send(op wire.Op, o origin, ranges []wire.LeaseRange) {
	m := wire.Settle{Handle: o.b.Handle, Partition: o.partition, Group: q.group, Ranges: ranges}
	n := countMessages(ranges)
	flags := wire.Flags(0)
	if op == wire.OpNack {
		flags = wire.FlagUnhandled
	}
	o.b.conn.ask(op, flags, m.Append, func(f *frame, err error) {
		if retryLater(err) {
			time.AfterFunc(jitter(100*time.Millisecond), func() { q.send(op, o, ranges) })
			return
		}
		var r wire.SettleReply
		if err == nil {
			err = r.Parse(f.Body)
		}
		if err != nil {
			r.Lost = uint32(n)
			q.c.report(explain(err, op, q.topic, int(o.partition)))
		}
		q.answered(op, n, int(r.Lost))
	})
}

// answered counts messages whose settlement was answered.
func (q *QueueConsumer) answered(op wire.Op, n, lost int) {
	q.mu.Lock()
	q.acks.unanswered -= n
	if op == wire.OpAck {
		q.acks.lost += uint64(lost)
	}
	q.changeLocked()
	q.mu.Unlock()
	if op == wire.OpAck && lost > 0 {
		q.reportLost(lost)
	}
}

// settleNow settles one message and waits for the answer.
func (q *QueueConsumer) settleNow(ctx context.Context, op wire.Op, l *lease, ms int32, reason string) error {
	ctx, cancel := q.c.bounded(ctx)
	defer cancel()
	m := wire.Settle{
		Handle: l.b.Handle, Partition: l.partition, Group: q.group, Ms: ms,
		Ranges: []wire.LeaseRange{{First: l.offset, Count: 1, Attempt: l.attempt}},
		Reason: []byte(reason[:min(len(reason), wire.MaxReasonBytes)]),
	}
	pause := newPauser()
	for {
		buf, err := l.b.conn.do(ctx, op, 0, m.Append)
		if err == nil {
			var r wire.SettleReply
			if err := r.Parse(buf.body); err != nil {
				return fmt.Errorf("%s %s: %w: %w", op, q.topic, ErrProtocol, err)
			}
			if r.Lost > 0 {
				return q.leaseLost(op, l)
			}
			return nil
		}
		if _, cut := lost(err); cut {
			return fmt.Errorf("%w (%w)", q.leaseLost(op, l), err)
		}
		if !retryLater(err) || pause.wait(ctx) != nil {
			return explain(err, op, q.topic, int(l.partition))
		}
	}
}
