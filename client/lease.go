package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// leaseWait is how long the broker may hold one lease request. It is short, because a request
	// that nobody waits for any more may still bring messages.
	leaseWait = 5 * time.Second
	// leaseBytes bounds the answer to one lease request.
	leaseBytes = 4 << 20
)

// leasing is what the messages of one lease reply share.
type leasing struct {
	origin
	q     *QueueConsumer
	since time.Time

	slab []Message // holds the messages
	buf  *buffer   // holds the bytes that they point to
	left int       // messages that were not acknowledged by Run yet; guarded by q.mu
}

// lease is the right to settle one message.
type lease struct {
	*leasing
	offset   uint64
	attempt  uint32
	settled  bool     // guarded by q.mu
	gone     bool     // settled, because the lease was lost; guarded by q.mu
	held     bool     // in q.held; guarded by q.mu
	handling handling // the context of its handler

	before, after *lease // neighbours in q.held; guarded by q.mu
}

// leaseList is a linked list of the leases that are held. A lease leaves it in constant time, and
// the list needs no memory of its own.
type leaseList struct {
	first *lease
}

func (ls *leaseList) add(l *lease) {
	l.held, l.before, l.after = true, nil, ls.first
	if ls.first != nil {
		ls.first.before = l
	}
	ls.first = l
}

func (ls *leaseList) remove(l *lease) {
	if !l.held {
		return
	}
	if l.before == nil {
		ls.first = l.after
	} else {
		l.before.after = l.after
	}
	if l.after != nil {
		l.after.before = l.before
	}
	l.held, l.before, l.after = false, nil, nil
}

// each calls f for every lease. f may remove that lease.
func (ls *leaseList) each(f func(l *lease)) {
	for l := ls.first; l != nil; {
		next := l.after
		f(l)
		l = next
	}
}

// errLeaseLost is the cause of a handler's context when the lease of its message is lost.
var errLeaseLost = fmt.Errorf("client: %w", wire.CodeLeaseLost)

// pull leases messages while more are wanted. maxLeases goroutines run it; see missingLocked.
func (q *QueueConsumer) pull() {
	pause := newPauser()
	for {
		n := q.claim()
		if n == 0 {
			select {
			case <-q.asked:
				continue
			case <-q.ctx.Done():
				return
			}
		}
		err := q.lease(n)
		if err == nil {
			pause = newPauser()
			continue
		}
		if err := q.repair(err); err != nil {
			q.fail(explain(err, wire.OpLease, q.topic, anyPartition))
			return
		}
		if pause.wait(q.ctx) != nil {
			return
		}
	}
}

// claim returns how many messages to request now, and counts them as requested.
func (q *QueueConsumer) claim() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.missingLocked()
	if n > 0 {
		q.asking += n
		q.leases++
	}
	return n
}

// claimedLocked ends a claim of n messages. The request brought the given number of them.
func (q *QueueConsumer) claimedLocked(n, brought int) {
	q.asking -= n
	q.leases--
	q.several = brought > 1
}

// maxLeases is how many lease requests are in progress at once: the next messages travel while
// those of the previous answer are handled.
const maxLeases = 2

// missingLocked returns how many messages to request now. Fetch takes what one request brings. Run
// leases ahead, in large steps: it sends a first request when half of the wanted messages are used
// up. It sends a second one beside it when another quarter is used up, unless the last answer
// suggests that the queue is empty.
func (q *QueueConsumer) missingLocked() int {
	missing := q.want - len(q.ready) - q.asking
	switch {
	case q.want == 0 || q.closed:
		return 0
	case !q.renews && (len(q.ready) > 0 || q.leases > 0):
		return 0
	case q.leases == maxLeases, q.leases == 1 && (!q.several || missing < q.want/4):
		return 0
	case q.renews && q.leases == 0 && len(q.ready) > q.want/2:
		return 0
	}
	return max(0, missing)
}

// growLocked leases more ahead when the workers of a Run had nothing to do while the answer travelled that brought so
// many of the messages asked for, although the one before it also brought all: otherwise a distant broker allows
// only Source.Prefetch messages in each round trip.
func (q *QueueConsumer) growLocked(asked, brought int) {
	dry := q.full && len(q.ready) == 0
	q.full = brought == asked
	if dry && q.full && q.renews && q.s.grows {
		q.want = min(2*q.want, mostAhead)
	}
}

// aheadTime is how long a message may be ready until workers count as too slow for more than Source.Prefetch.
const aheadTime = time.Second

// shrinkLocked undoes growLocked when messages wait for workers. It returns what is too much then, which other
// consumers can have.
func (q *QueueConsumer) shrinkLocked(now time.Time) (surplus []*Message) {
	if q.want <= q.s.Prefetch || len(q.ready) == 0 || now.Sub(q.ready[0].lease.since) < aheadTime {
		return nil
	}
	q.want = q.s.Prefetch
	keep := min(len(q.ready), q.want)
	surplus = slices.Clone(q.ready[keep:])
	q.ready = q.ready[:keep:keep]
	return surplus
}

// repair returns why leasing cannot succeed later, or nil. It first repairs what it can.
func (q *QueueConsumer) repair(err error) error {
	if code := wire.CodeOf(err); code == wire.CodeGroupNotFound || stale(err) {
		err = q.open(q.ctx) // the broker restarted, or the queue was deleted
	}
	_, cut := lost(err)
	switch {
	case cut, retryLater(err), errors.Is(err, context.DeadlineExceeded):
		return nil // without an answer it is tried again
	case q.ctx.Err() != nil:
		return nil // the caller sees that the context has ended
	}
	return err
}

// fail ends leasing for good. Only the first reason counts.
func (q *QueueConsumer) fail(err error) {
	q.mu.Lock()
	q.err = cmp.Or(q.err, err)
	q.changeLocked()
	q.mu.Unlock()
	q.arrive()
}

// lease requests n messages, which were claimed, and waits for the answer.
func (q *QueueConsumer) lease(n int) error {
	b, err := q.bind()
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.claimedLocked(n, 0)
		return err
	}
	q.flushAcks()
	m := wire.Lease{
		Handle: b.Handle, Partition: wire.AnyPartition, Group: q.group, MaxMessages: uint32(n),
		MaxBytes: leaseBytes, MaxWaitMs: waitMs(leaseWait), LeaseMs: policyMs(q.s.Lease),
	}
	done := make(chan error, 1)
	b.conn.ask(wire.OpLease, 0, m.Append, func(f *frame, err error) {
		var ms []*Message
		if err == nil {
			ms, err = q.leased(b, f, n)
		} else if stale(err) {
			b.conn.forget(b, q.topic)
		}
		q.onLeased(n, ms)
		done <- err
	})
	select {
	case err = <-done:
	case <-q.ctx.Done():
		err = context.Cause(q.ctx)
	}
	return err
}

// bind waits for a connection and resolves the topic on it.
func (q *QueueConsumer) bind() (*binding, error) {
	cn, err := q.c.live(q.ctx)
	if err != nil {
		return nil, err
	}
	return cn.resolve(q.ctx, q.topic, false)
}

// leased reads the messages of a reply.
func (q *QueueConsumer) leased(b *binding, f *frame, limit int) ([]*Message, error) {
	now := time.Now()
	var l wire.Leased
	buf := q.body(f)
	if err := l.Parse(buf.body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return q.messages(b, buf, &l, limit, now)
}

// body returns the body of an answer. In a Run it goes back to the pool when its messages were
// handled.
func (q *QueueConsumer) body(f *frame) *buffer {
	if q.renews {
		return f.keep()
	}
	return f.own()
}

// onLeased ends a claim of n messages and takes the messages that it brought.
func (q *QueueConsumer) onLeased(n int, ms []*Message) {
	q.mu.Lock()
	q.growLocked(n, len(ms))
	q.claimedLocked(n, len(ms))
	closed := q.closed
	if !closed && len(ms) > 0 {
		q.ready = append(q.ready, ms...)
		for _, m := range ms {
			q.held.add(m.lease)
		}
		q.changeLocked()
	}
	q.mu.Unlock()
	if closed {
		q.giveBack(ms)
		return
	}
	q.arrive()
}

// messages returns the leased records: those of the entries that the ranges name.
func (q *QueueConsumer) messages(b *binding, buf *buffer, l *wire.Leased, limit int, now time.Time) ([]*Message, error) {
	total := 0
	for _, r := range l.Ranges {
		total += int(r.Count)
		if total > limit {
			return nil, fmt.Errorf("%w: more messages leased than asked for", ErrProtocol)
		}
	}
	if total == 0 {
		return nil, nil
	}
	g := &leasing{origin: origin{b, l.Partition}, q: q, since: now, buf: buf}
	slab, leases := q.slab(total), make([]lease, 0, total)
	ms := make([]*Message, 0, total)
	walk := cursor{keep: true}
	walk.reset(l.Bytes, b.seed(int(l.Partition)), l.Ranges[0].First)
	ranges := l.Ranges
	for {
		ok, err := walk.more()
		if undecodable(err) { // the broker gives them up when their leases have ended often enough
			q.c.report(explain(err, wire.OpLease, q.topic, int(l.Partition)))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s/%d: %w", q.topic, l.Partition, err)
		}
		if !ok {
			return g.of(slab, ms), nil
		}
		off := walk.offset()
		for len(ranges) > 0 && off >= ranges[0].First+uint64(ranges[0].Count) {
			ranges = ranges[1:]
		}
		if len(ranges) == 0 {
			return g.of(slab, ms), nil
		}
		if off < ranges[0].First || len(ms) == total {
			walk.skip()
			continue
		}
		leases = append(leases, lease{leasing: g, offset: off, attempt: ranges[0].Attempt})
		slab = append(slab, Message{
			Topic: q.topic, Partition: int(l.Partition), Attempt: int(ranges[0].Attempt), lease: &leases[len(leases)-1],
		})
		m := &slab[len(slab)-1]
		walk.take(m)
		ms = append(ms, m)
	}
}

// maxSpare is how many slabs of messages are kept for reuse: one for each lease request.
const maxSpare = maxLeases

// slab returns an empty slab with room for n messages.
func (q *QueueConsumer) slab(n int) []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, s := range q.spare {
		if cap(s) >= n {
			q.spare = slices.Delete(q.spare, i, i+1)
			return s
		}
	}
	return make([]Message, 0, max(n, q.want/2))
}

// of notes that ms are all the messages of slab, and returns them.
func (g *leasing) of(slab []Message, ms []*Message) []*Message {
	g.slab, g.left = slab, len(ms)
	return ms
}

// handledLocked notes that Run is done with l's message. When all messages of a reply are done, its
// memory is used again. A message that failed or was lost never gets here, and leaves that memory
// to the garbage collector.
func (q *QueueConsumer) handledLocked(l *lease) {
	g := l.leasing
	if g.left--; g.left > 0 {
		return
	}
	clear(g.slab)
	if len(q.spare) == maxSpare {
		q.spare = slices.Delete(q.spare, 0, 1)
	}
	q.spare = append(q.spare, g.slab[:0])
	q.c.buffers.put(g.buf)
	g.slab, g.buf = nil, nil
}

// onLost drops everything that was leased on a lost connection.
func (q *QueueConsumer) onLost() {
	q.mu.Lock()
	n := q.acks.drop()
	q.held.each(q.loseLocked)
	q.ready = nil
	q.changeLocked()
	q.mu.Unlock()
	q.ask() // what was ready is gone, so more can be leased
	if n > 0 {
		q.reportLost(n)
	}
	q.arrive()
}

// loseLocked gives a lease up and ends the context of its handler.
func (q *QueueConsumer) loseLocked(l *lease) {
	q.settleLocked(l)
	l.gone = true
	l.handling.end(true)
}

// reportLost reports that n settled messages will be delivered again.
func (q *QueueConsumer) reportLost(n int) {
	we := wire.Errorf(wire.CodeLeaseLost, "messages that were settled too late and will be delivered again: %d", n)
	q.c.report(explain(we, wire.OpAck, q.topic, anyPartition))
}

// giveBack returns unhandled messages to the queue, which delivers them again at once. The delivery does not count
// as an attempt.
func (q *QueueConsumer) giveBack(ms []*Message) {
	unhandled := settlement{}
	q.mu.Lock()
	for _, m := range ms {
		if l := m.lease; !l.settled {
			q.settleLocked(l)
			q.acks.unanswered++
			unhandled.add(l)
		}
	}
	q.mu.Unlock()
	for o, ranges := range unhandled.requests() {
		q.send(wire.OpNack, o, ranges)
	}
}
