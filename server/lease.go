package server

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// leaseRequest is one lease until it is answered.
type leaseRequest struct {
	b           *binary
	correlation uint32
	parts       []*partition.Partition
	next        int // index of the partition to try first, so that none starves
	group       string
	messages    int
	bytes       int
	lease       time.Duration
	deadline    time.Time // of the wait

	poll   *poll                // the last one that waited for messages
	source *partition.Partition // of what a worker reads
	leased []group.Lease        // what a worker reads
	over   bool                 // it was answered
}

// maxLeased bounds the messages of one lease, so that the reply can count its ranges.
const maxLeased = 1<<16 - 1

// leaseReserve is the room in a frame for the ranges of a reply.
const leaseReserve = 2 << 20

func (b *binary) lease(f wire.Frame, now time.Time) error {
	var m wire.Lease
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	parts, err := b.leasable(&m)
	if err != nil {
		return err
	}
	r := &leaseRequest{
		b: b, correlation: f.Correlation, parts: parts, group: b.groupName(m.Group),
		messages: min(max(1, int(m.MaxMessages)), maxLeased),
		bytes:    min(max(1, int(m.MaxBytes)), wire.MaxFrameBytes-leaseReserve),
		lease:    milliseconds(m.LeaseMs),
		deadline: now.Add(waitOf(m.MaxWaitMs)),
	}
	if m.MaxMessages == 0 {
		r.endOthers(now)
		return nil
	}
	if b.s.blocked() || len(b.blocked) > 0 {
		if err := b.later(r); err != nil {
			return err
		}
	} else {
		r.start(now)
	}
	if !r.over {
		if b.leasing == nil {
			b.leasing = map[*leaseRequest]struct{}{}
		}
		b.leasing[r] = struct{}{}
	}
	return nil
}

// endOthers answers the connection's waiting leases of the queue, and then r itself, without messages. A worker that
// ends asks for this, so that the messages it gives back do not come to itself.
func (r *leaseRequest) endOthers(now time.Time) {
	for other := range r.b.leasing {
		shared := func(p *partition.Partition) bool { return slices.Contains(other.parts, p) }
		if other.group == r.group && slices.ContainsFunc(r.parts, shared) {
			other.end(now)
		}
	}
	r.reply(r.parts[0], nil, nil)
}

// end answers without messages, whatever r waits for. What a worker reads for it goes back to the queue.
func (r *leaseRequest) end(now time.Time) {
	if r.poll != nil {
		r.poll.end()
	}
	if r.source != nil {
		giveBack(r.source, r.group, r.leased, nil, now)
	}
	r.reply(r.parts[0], nil, nil)
}

// leasable returns the partitions from which a request may lease.
func (b *binary) leasable(m *wire.Lease) ([]*partition.Partition, error) {
	if m.Partition != wire.AnyPartition {
		p, err := b.partition(m.Handle, m.Partition, actionConsume)
		return []*partition.Partition{p}, err
	}
	t, err := b.topicFor(m.Handle, actionConsume)
	if err != nil {
		return nil, err
	}
	var parts []*partition.Partition
	for _, p := range t.Partitions() {
		if err = p.Err(); err == nil {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return nil, err
	}
	return parts, nil
}

// retry is called when the peer has read.
func (r *leaseRequest) retry(now time.Time) {
	if r.over {
		return
	}
	if err := r.b.allowed(actionConsume, r.parts[0].Topic().Name()); err != nil { // it may have changed meanwhile
		r.fail(err)
		return
	}
	r.start(now)
}

// start answers now, or when there are messages, or when the peer has read.
func (r *leaseRequest) start(now time.Time) {
	r.next = int(r.b.s.loop.srv.leaseTurn.Add(1) % uint64(len(r.parts)))
	q := &poll{b: r.b, parts: r.parts}
	q.try = func(some []*partition.Partition, now time.Time) bool {
		if r.b.s.blocked() {
			return r.b.later(r) == nil // tried again when the peer has read
		}
		return r.take(some, now)
	}
	q.last = func(time.Time) { r.reply(r.parts[0], nil, nil) }
	q.fail = func(err error) {
		q.end()
		r.fail(err)
	}
	r.poll = q
	if err := q.start(r.deadline, now); err != nil {
		r.fail(err)
	}
}

// take leases from the first of some partitions that has messages. It reports whether the lease is answered, or is with a
// worker.
func (r *leaseRequest) take(some []*partition.Partition, now time.Time) (done bool) {
	for i := range some {
		p := some[(r.next+i)%len(some)]
		limit := min(r.messages, p.FitsIn(r.bytes))
		own := &r.b.s.loop.scratch.leased
		var err error
		*own, err = p.Lease((*own)[:0], r.group, limit, r.lease, r.b.s.id, now)
		switch {
		case errors.Is(err, partition.ErrKeys):
			r.learn(p)
			return true
		case err != nil:
			r.fail(err)
			return true
		case len(*own) > 0:
			r.serve(p, *own)
			return true
		}
	}
	return false
}

// learn reads keys on a worker, and then starts the request again.
func (r *leaseRequest) learn(p *partition.Partition) {
	err := r.b.work(wire.OpLease, r.correlation, func() (func(time.Time) error, error) {
		err := p.LearnKeys(r.group)
		return func(now time.Time) error {
			switch {
			case r.over:
			case err != nil:
				r.fail(err)
			default:
				r.start(now)
			}
			return nil
		}, nil
	})
	if err != nil {
		r.fail(err)
	}
}

// serve answers with the leased messages. It reads them on a worker when they are not in memory.
func (r *leaseRequest) serve(p *partition.Partition, leases []group.Lease) {
	b := r.b
	if b.leases == nil {
		b.leases = map[leaseKey]struct{}{}
		b.s.loop.srv.metrics.workers.Add(1)
	}
	b.leases[leaseKey{p, r.group}] = struct{}{}
	slices.SortFunc(leases, func(x, y group.Lease) int { return cmp.Compare(x.First, y.First) })
	own := &b.s.loop.scratch
	g := gatherer{out: b.s.loop.gathered[:0], sent: own.sent[:0], gone: own.ranges[:0], checked: &own.checked}
	err := g.gather(p, leases, p.Read)
	b.s.loop.gathered, own.sent, own.ranges = g.out[:0], g.sent[:0], g.gone[:0]
	if errors.Is(err, log.ErrCold) {
		r.serveCold(p, slices.Clone(leases))
		return
	}
	r.answer(p, &g, err)
}

func (r *leaseRequest) serveCold(p *partition.Partition, leases []group.Lease) {
	r.source, r.leased = p, leases
	err := r.b.workCold(wire.OpLease, r.correlation, func() (func(time.Time) error, error) {
		var g gatherer
		err := g.gather(p, leases, p.ReadCold)
		return func(time.Time) error {
			if !r.over {
				r.answer(p, &g, err)
			}
			return nil
		}, nil
	})
	if err != nil {
		giveBack(p, r.group, leases, nil, r.b.s.loop.srv.opts.Now())
		r.fail(err)
	}
}

// answer sends the leased messages that were gathered.
func (r *leaseRequest) answer(p *partition.Partition, g *gatherer, err error) {
	err = g.settleRest(p, r.group, err, r.b.s.loop.srv.opts.Now())
	if len(g.sent) == 0 && err != nil {
		r.fail(err)
		return
	}
	r.reply(p, g.sent, g.out)
	r.b.s.loop.delivered(p, leasedCount(g.sent), len(g.out))
}

func leasedCount(leases []group.Lease) (n int) {
	for _, l := range leases {
		n += int(l.Count)
	}
	return n
}

// settleRest settles what was leased and is not in sent: what is gone becomes done, and the rest goes back to the queue.
// It returns what the worker is told of err. That retention or a purge was faster than the lease is no failure: the
// worker asks again.
func (g *gatherer) settleRest(p *partition.Partition, queue string, err error, now time.Time) error {
	giveBack(p, queue, g.left, err, now)
	if len(g.gone) > 0 {
		// A refused settlement leaves the lease to expire.
		_, _, _ = p.Settle(queue, partition.Settlement{Op: wire.OpAck, Ranges: g.gone}, now)
	}
	if errors.Is(err, wire.CodeOffsetOutOfRange) {
		return nil
	}
	return err
}

// giveBack settles leased messages that were not sent, because of err or, when it is nil, because the reply was full. Lost
// ones become done, and the others can be delivered again. That the others were leased counts as a delivery only when
// nothing is lost: the next attempt would fail at the same place, and must not do so for ever.
func giveBack(p *partition.Partition, queue string, leases []group.Lease, err error, now time.Time) {
	var lost, rest []group.Settle
	for _, l := range leases {
		gone, others := splitLost(l, asWireError(err))
		lost, rest = append(lost, gone...), append(rest, others...)
	}
	for _, s := range []partition.Settlement{
		{Op: wire.OpAck, Ranges: lost},
		{Op: wire.OpNack, Ranges: rest, Reason: "not delivered", Unhandled: err == nil || len(lost) > 0},
	} {
		if len(s.Ranges) == 0 {
			continue
		}
		// A refused settlement leaves the lease to expire.
		_, _, _ = p.Settle(queue, s, now)
	}
}

// splitLost splits a lease into the messages that are lost to damage or retention, and those that can be delivered again.
func splitLost(l group.Lease, e *wire.Error) (lost, rest []group.Settle) {
	end := l.First + uint64(l.Count)
	from, to := end, end
	switch {
	case e == nil:
	case e.Code == wire.CodeCorruptRange:
		from, to = min(end, max(l.First, e.First)), min(end, e.Next)
	case e.Code == wire.CodeOffsetOutOfRange: // the range of e is what exists
		from, to = l.First, min(end, max(l.First, e.First))
	}
	add := func(dst []group.Settle, first, next uint64) []group.Settle {
		if first >= next {
			return dst
		}
		return append(dst, group.Settle{First: first, Count: uint32(next - first), Attempt: l.Attempt})
	}
	if from >= to {
		return nil, add(nil, l.First, end)
	}
	return add(nil, from, to), add(add(nil, l.First, from), to, end)
}

// answered notes that r was answered.
func (r *leaseRequest) answered() {
	r.over = true
	delete(r.b.leasing, r)
}

func (r *leaseRequest) fail(err error) {
	r.answered()
	r.b.fail(wire.OpLease, r.correlation, asWireError(err))
}

func (r *leaseRequest) reply(p *partition.Partition, leases []group.Lease, entries []byte) {
	r.answered()
	m := &r.b.s.loop.scratch.leaseOut
	m.Partition, m.Ranges, m.Bytes = p.Number(), m.Ranges[:0], entries
	for _, l := range leases {
		m.Ranges = append(m.Ranges, wire.LeaseRange{First: l.First, Count: l.Count, Attempt: l.Attempt})
	}
	r.b.replyTo(wire.OpLease, r.correlation, 0, m.Append)
	m.Bytes = nil
	if s := r.b.s; len(s.out.B) >= spillBytes { // so that the next lease of this turn sees what is unread
		s.spill(s.loop.srv.opts.Now())
	}
}
