package client

import (
	"context"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// queueRun hands the messages of a queue's topics to workers.
type queueRun struct {
	*crew
	s      Source
	h      Handler
	queues []*QueueConsumer
	turn   int // of the queue to look at first; guarded by crew.mu
}

func (c *Client) runQueue(ctx context.Context, s Source, h Handler) error {
	cr, dismiss := c.gather(ctx)
	defer dismiss()
	r := &queueRun{crew: cr, s: s, h: h}
	err := r.open(ctx)
	if err == nil {
		stop := r.extendEvery(s.Lease / 3)
		err = r.work(s.Workers, r.worker)
		stop()
	}
	finish, cancel := finishing(ctx)
	defer cancel()
	for _, q := range r.queues {
		if err := q.Close(finish); err != nil && wire.CodeOf(err) != wire.CodeLeaseLost { // those were reported
			c.report(err)
		}
	}
	return err
}

func (r *queueRun) open(ctx context.Context) error {
	for _, topic := range r.s.Topics {
		q, err := r.c.openQueue(ctx, r.s, topic, r.wake)
		if err != nil {
			return err
		}
		r.queues = append(r.queues, q)
		q.mu.Lock()
		q.want, q.renews = r.s.Prefetch, true
		q.mu.Unlock()
		q.ask()
	}
	return nil
}

func (r *queueRun) worker() {
	for {
		m := r.take()
		if m == nil {
			return
		}
		r.handle(m)
	}
}

// take waits for a message; nil means to stop.
func (r *queueRun) take() *Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stoppedLocked() {
		for range r.queues {
			r.turn++
			q := r.queues[r.turn%len(r.queues)]
			m, err := q.one()
			if m != nil {
				return m
			}
			if err != nil {
				r.stopped, r.err = true, err
				r.cond.Broadcast()
				return nil
			}
		}
		r.cond.Wait()
	}
	return nil
}

// one takes a message that is ready.
func (q *QueueConsumer) one() (*Message, error) {
	q.mu.Lock()
	ms := q.takeLocked(1)
	err := q.err
	q.mu.Unlock()
	if len(ms) == 0 {
		return nil, err
	}
	q.ask()
	return ms[0], nil
}

// handle runs the handler and settles the message.
func (r *queueRun) handle(m *Message) {
	q := m.lease.q
	ctx, lose := context.WithCancelCause(r.ctx)
	defer lose(nil)
	q.mu.Lock()
	m.lease.lose = lose
	if m.lease.gone {
		lose(errLeaseLost)
	}
	q.mu.Unlock()
	v := judge(r.h(ctx, m))
	if v.stop {
		defer r.stop(ErrStop)
	}
	q.mu.Lock()
	gone, settled := m.lease.gone, m.lease.settled
	m.lease.lose = nil
	q.mu.Unlock()
	if gone {
		q.reportLost(1)
	}
	if settled { // by the handler itself, or lost
		return
	}
	if err := r.settle(m, v); err != nil {
		r.c.report(err)
	}
}

func (r *queueRun) settle(m *Message, v verdict) error {
	ctx, cancel := finishing(r.ctx)
	defer cancel()
	switch {
	case v.done:
		return m.Ack(ctx)
	case v.reject:
		return m.Reject(ctx, v.reason)
	}
	return m.nack(ctx, v.after, v.reason)
}

// extendEvery keeps the leases of messages that wait or are being handled, until the returned
// function is called.
func (r *queueRun) extendEvery(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(max(every, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				for _, q := range r.queues {
					q.extendHeld()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// extendHeld starts the leases of all held messages anew. Those held for too long are let go.
func (q *QueueConsumer) extendHeld() {
	now := time.Now()
	parts := map[uint16][]wire.LeaseRange{}
	var b *binding
	q.mu.Lock()
	for l := range q.held {
		if now.Sub(l.since) > q.s.MaxLease {
			q.loseLocked(l)
			continue
		}
		b = l.b
		parts[l.partition] = appendRange(parts[l.partition], l)
	}
	q.mu.Unlock()
	for p, ranges := range parts {
		for len(ranges) > 0 {
			ranges = mergeRanges(ranges)
			n := min(len(ranges), maxRanges)
			q.extend(b, p, ranges[:n])
			ranges = ranges[n:]
		}
	}
}

func (q *QueueConsumer) extend(b *binding, partition uint16, ranges []wire.LeaseRange) {
	m := wire.Settle{
		Handle: b.Handle, Partition: partition, Group: q.group, Ranges: ranges, Ms: delayMs(q.s.Lease),
	}
	b.conn.ask(wire.OpExtend, 0, m.Append, func(_ *frame, err error) {
		if _, cut := lost(err); err != nil && !cut {
			q.c.report(explain(err, wire.OpExtend, q.topic, int(partition)))
		}
	})
}
