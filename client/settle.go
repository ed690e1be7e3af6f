package client

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// ackDelay is how long an acknowledgement waits for others to go with it.
	ackDelay = 2 * time.Millisecond
	// maxRanges bounds the ranges of one request; broken runs of offsets are what makes many.
	maxRanges = 2048
)

// acks gathers acknowledgements, so that many messages are settled by one request.
type acks struct {
	binding     *binding // of the connection they are for
	byPartition map[uint16][]wire.LeaseRange
	scheduled   bool   // a timer will send them
	unanswered  int    // messages gathered or sent, whose fate is not known
	lost        uint64 // messages acknowledged too late
	told        uint64 // of lost, reported by Flush
}

// drop forgets what was not sent and returns how many messages that were.
func (a *acks) drop() (n int) {
	for _, ranges := range a.byPartition {
		n += countMessages(ranges)
	}
	clear(a.byPartition)
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

// lateRanges is how many ranges a message may continue: workers finish a little out of order.
const lateRanges = 4

// appendRange adds one message, to one of the last ranges when it continues that.
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

// mergeRanges sorts ranges and joins neighbours, in place.
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

// Ack marks a message of a queue as done. It returns at once: acknowledgements are sent together, within
// milliseconds; QueueConsumer.Flush waits for them. It returns ErrNotLeased when the message was settled
// before or did not come from a queue, and an error with wire.CodeLeaseLost when the connection that leased
// it is gone.
func (m *Message) Ack(context.Context) error {
	if m.lease == nil {
		return ErrNotLeased
	}
	return m.lease.q.ack(m.lease)
}

// Nack has a message of a queue delivered again after delay; a negative delay means the queue's backoff. It
// returns when that is stored, as durably as the topic asks for. Errors are those of Ack.
func (m *Message) Nack(ctx context.Context, delay time.Duration) error {
	return m.nack(ctx, delay, "")
}

func (m *Message) nack(ctx context.Context, delay time.Duration, reason string) error {
	return m.settle(ctx, wire.OpNack, delayMs(delay), reason)
}

// delayMs rounds up: a short delay must not become none. The wire can say 24 days at most.
func delayMs(d time.Duration) int32 {
	if d < 0 {
		return -1
	}
	return int32(min((d+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// Reject moves a message of a queue to the dead-letter topic with the reason, of which at most
// wire.MaxReasonBytes are kept. It returns when that is stored. Errors are those of Ack.
func (m *Message) Reject(ctx context.Context, reason string) error {
	return m.settle(ctx, wire.OpReject, 0, reason)
}

// Extend restarts the lease of a message of a queue. Errors are those of Ack.
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
	settled, live := l.settled, q.liveLocked(l)
	if live && !settled && op != wire.OpExtend {
		q.settleLocked(l)
	}
	q.mu.Unlock()
	if !live {
		return q.leaseLost(op, l)
	}
	if settled {
		return ErrNotLeased
	}
	return q.settleNow(ctx, op, l, ms, reason)
}

// liveLocked reports whether the connection that leased l is still there.
func (q *QueueConsumer) liveLocked(l *lease) bool { return l.b.conn.alive() }

// settleLocked takes a message from those that are held.
func (q *QueueConsumer) settleLocked(l *lease) {
	l.settled = true
	q.held.remove(l)
}

func (q *QueueConsumer) leaseLost(op wire.Op, l *lease) error {
	we := wire.Errorf(wire.CodeLeaseLost, "offset %d", l.offset)
	return explain(we, op, q.topic, int(l.partition))
}

// ack adds a message to the acknowledgements that leave next.
func (q *QueueConsumer) ack(l *lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ackLocked(l)
}

func (q *QueueConsumer) ackLocked(l *lease) error {
	if !q.liveLocked(l) {
		l.settled = true
		q.acks.lost++
		return q.leaseLost(wire.OpAck, l)
	}
	if l.settled {
		return ErrNotLeased
	}
	q.settleLocked(l)
	q.acks.binding = l.b
	q.acks.byPartition[l.partition] = appendRange(q.acks.byPartition[l.partition], l)
	q.acks.unanswered++
	if !q.acks.scheduled {
		q.acks.scheduled = true
		time.AfterFunc(ackDelay, q.flushAcks)
	}
	return nil
}

// flushAcks sends the acknowledgements gathered so far. When it returns their requests are made, also those that
// somebody else is sending: a connection that drains may close behind it.
func (q *QueueConsumer) flushAcks() {
	q.flushing.Lock()
	defer q.flushing.Unlock()
	q.mu.Lock()
	q.acks.scheduled = false
	b, parts := q.acks.binding, q.acks.byPartition
	if len(parts) == 0 {
		q.mu.Unlock()
		return
	}
	q.acks.byPartition = map[uint16][]wire.LeaseRange{}
	q.mu.Unlock()
	for p, ranges := range parts {
		for chunk := range slices.Chunk(mergeRanges(ranges), maxRanges) {
			q.send(wire.OpAck, b, p, chunk, 0)
		}
	}
}

// send settles ranges in the background. ms is for nacks.
func (q *QueueConsumer) send(op wire.Op, b *binding, partition uint16, ranges []wire.LeaseRange, ms int32) {
	m := wire.Settle{Handle: b.Handle, Partition: partition, Group: q.group, Ranges: ranges, Ms: ms}
	n := countMessages(ranges)
	if op != wire.OpAck {
		q.mu.Lock()
		q.acks.unanswered += n
		q.mu.Unlock()
	}
	b.conn.ask(op, 0, m.Append, func(f *frame, err error) {
		if retryLater(err) {
			time.AfterFunc(jitter(100*time.Millisecond), func() { q.resend(op, b, partition, ranges, ms) })
			return
		}
		var r wire.SettleReply
		if err == nil {
			err = r.Parse(f.Body)
		}
		if err != nil {
			r.Lost = uint32(n)
			q.c.report(explain(err, op, q.topic, int(partition)))
		}
		q.answered(op, n, int(r.Lost))
	})
}

// resend tries a settlement again that the broker was too busy for.
func (q *QueueConsumer) resend(op wire.Op, b *binding, partition uint16, ranges []wire.LeaseRange, ms int32) {
	if op != wire.OpAck {
		q.mu.Lock()
		q.acks.unanswered -= countMessages(ranges)
		q.mu.Unlock()
	}
	q.send(op, b, partition, ranges, ms)
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
