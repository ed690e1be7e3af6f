package client

import (
	"context"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// queueRun gives the messages of a queue's topics to workers.
type queueRun struct {
	*crew
	s      Source
	h      Handler
	queues []*QueueConsumer
	turn   int // index of the queue that was looked at last; guarded by crew.mu
}

func (c *Client) runQueue(ctx context.Context, s Source, h Handler) error {
	cr, dismiss := c.gather(ctx)
	defer dismiss()
	r := &queueRun{crew: cr, s: s, h: h}
	err := r.open(ctx)
	if err == nil {
		stop := repeat(context.WithoutCancel(ctx), s.Lease/3, r.extendHeld)
		err = r.work(s.Workers, r.worker)
		stop()
	}
	finish, cancel := finishing(ctx)
	defer cancel()
	for _, q := range r.queues {
		if err := q.Close(finish); err != nil && wire.CodeOf(err) != wire.CodeLeaseLost { // lost leases were reported
			c.report(err)
		}
	}
	return err
}

func (r *queueRun) open(ctx context.Context) error {
	ctx, cancel := r.c.opening(ctx)
	defer cancel()
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

// worker handles messages until the run stops. Acknowledging one message and taking the next is one
// step, under one lock.
func (r *queueRun) worker() {
	var done *Message
	for {
		m := r.next(done)
		if m == nil {
			return
		}
		done = r.handle(m)
	}
}

// next acknowledges done, unless it is nil, and waits for a message. It returns nil when the run
// has stopped.
func (r *queueRun) next(done *Message) *Message {
	if done != nil {
		q := done.lease.q
		m, err := q.swap(done.lease, len(r.queues) == 1 && !r.isStopped()) // several queues take turns
		if err != nil {
			r.c.report(err)
		}
		if m != nil {
			return m
		}
	}
	return r.take()
}

// swap acknowledges l. If more is true, it also takes a message that is ready, or returns nil.
func (q *QueueConsumer) swap(l *lease, more bool) (m *Message, err error) {
	q.mu.Lock()
	gone := l.gone
	if !l.settled { // neither settled by the handler nor lost
		err = q.ackLocked(l)
	}
	q.handledLocked(l)
	if more {
		m = q.nextLocked()
	}
	missing := q.missingLocked() > 0
	q.mu.Unlock()
	if missing {
		q.ask()
	}
	if gone {
		q.reportLost(1)
	}
	return m, err
}

// take waits for a message. It returns nil when the run has stopped.
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
				r.stopLocked(err)
				return nil
			}
		}
		r.cond.Wait()
	}
	return nil
}

// one takes a message that is ready. It returns nil when there is none, and an error when there
// will be none.
func (q *QueueConsumer) one() (*Message, error) {
	q.mu.Lock()
	m, err := q.nextLocked(), q.err
	missing := q.missingLocked() > 0
	q.mu.Unlock()
	if missing {
		q.ask()
	}
	if m == nil {
		return nil, err
	}
	return m, nil
}

// handle runs the handler. It returns the message if that is to be acknowledged; otherwise it has
// settled it.
func (r *queueRun) handle(m *Message) (done *Message) {
	l := m.lease
	l.handling.Context = r.ctx
	err := r.h(&l.handling, m)
	v := judge(err)
	l.handling.end(false)
	if v.stop {
		defer r.stop(ErrStop)
	}
	if v.done {
		return m
	}
	l.q.mu.Lock()
	gone, settled := l.gone, l.settled
	l.q.mu.Unlock()
	if gone {
		l.q.reportLost(1)
	}
	if settled { // settled by the handler, or lost
		return nil
	}
	if !v.reject && v.after < 0 && interrupted(r.ctx, err) {
		l.q.giveBack([]*Message{m})
		return nil
	}
	if err := r.settle(m, v); err != nil {
		r.c.report(err)
	}
	return nil
}

func (r *queueRun) settle(m *Message, v verdict) error {
	ctx, cancel := finishing(r.ctx)
	defer cancel()
	if v.reject {
		return m.Reject(ctx, v.reason)
	}
	return m.nack(ctx, v.after, v.reason)
}

// extendHeld extends the leases of messages that wait or are being handled.
func (r *queueRun) extendHeld(context.Context) {
	for _, q := range r.queues {
		q.extendHeld()
	}
}

// extendHeld extends all leases that are held, except those older than MaxLease, which it gives up, and those that
// slow workers should leave to others.
func (q *QueueConsumer) extendHeld() {
	now := time.Now()
	held := settlement{}
	q.mu.Lock()
	surplus := q.shrinkLocked(now)
	q.mu.Unlock()
	q.giveBack(surplus)
	q.mu.Lock()
	q.held.each(func(l *lease) {
		if now.Sub(l.since) > q.s.MaxLease {
			q.loseLocked(l)
			return
		}
		held.add(l)
	})
	q.mu.Unlock()
	for o, ranges := range held.requests() {
		q.extend(o, ranges)
	}
}

func (q *QueueConsumer) extend(o origin, ranges []wire.LeaseRange) {
	m := wire.Settle{
		Handle: o.b.Handle, Partition: o.partition, Group: q.group, Ranges: ranges, Ms: delayMs(q.s.Lease),
	}
	o.b.conn.ask(wire.OpExtend, 0, m.Append, func(_ *frame, err error) {
		if _, cut := lost(err); err != nil && !cut {
			q.c.report(explain(err, wire.OpExtend, q.topic, int(o.partition)))
		}
	})
}
