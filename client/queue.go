package client

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// QueueConsumer takes messages of one queue on one topic, for programs that settle messages
// themselves; Run is simpler. It is safe for concurrent use.
type QueueConsumer struct {
	c      *Client
	s      Source
	topic  string
	group  []byte
	arrive func() // called after the queue's state changed
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	asked  chan struct{} // tells pull that want or ready has changed

	flushing sync.Mutex // held from taking the gathered acknowledgements until they are queued for sending; taken before mu
	mu       sync.Mutex // guards the fields below
	fetching int        // calls of Fetch in progress
	want     int        // how many messages should be ready
	asking   int        // messages requested and not received
	leases   int        // lease requests in progress
	several  bool       // the last request brought more than one message
	full     bool       // the last request brought all that it asked for
	renews   bool       // the consumer belongs to a Run, which extends leases
	ready    []*Message
	changed  chan struct{} // closed and replaced when ready, acks, closed or err changed
	held     leaseList
	spare    [][]Message // slabs for reuse
	acks     acks
	closed   bool
	err      error // why leasing has ended, or nil
}

// OpenQueue creates a queue unless it exists, and returns a consumer of it. The source must name
// one topic. Its Workers, Middleware, Prefetch and MaxLease are ignored: only Run uses them. Close
// the consumer when done.
func (c *Client) OpenQueue(ctx context.Context, s Source) (*QueueConsumer, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	if !s.queue || len(s.Topics) != 1 {
		return nil, errors.New("client: OpenQueue needs a queue on exactly one topic; use OpenGroup for a group")
	}
	return c.openQueue(ctx, s, s.Topics[0], func() {})
}

func (c *Client) openQueue(ctx context.Context, s Source, topic string, arrive func()) (*QueueConsumer, error) {
	q := &QueueConsumer{
		c: c, s: s, topic: topic, group: []byte(s.Name), arrive: arrive,
		asked: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	q.acks.gathered = settlement{}
	q.ctx, q.cancel = context.WithCancel(c.ctx)
	if err := q.open(ctx); err != nil {
		q.cancel()
		return nil, err
	}
	c.mu.Lock()
	ended := c.err
	if ended == nil {
		c.queues[q] = struct{}{}
	}
	c.mu.Unlock()
	if ended != nil { // meanwhile: nobody would tell the consumer
		q.cancel()
		return nil, ended
	}
	for range maxLeases {
		q.wg.Go(q.pull)
	}
	return q, nil
}

// open makes the broker create the queue, or set its policy.
func (q *QueueConsumer) open(ctx context.Context) error {
	var flags wire.Flags
	if q.s.OrderByKey {
		flags = wire.FlagOrderByKey
	}
	return q.c.request(ctx, call{
		op: wire.OpOpenQueue, flags: flags, topic: q.topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.OpenQueue{
				Handle: b.Handle, Group: q.s.Name, Start: q.s.From.wire(), LeaseMs: policyMs(q.s.Lease),
				BackoffMinMs: policyMs(q.s.BackoffMin), BackoffMaxMs: policyMs(q.s.BackoffMax),
				MaxDeliveries: uint32(min(q.s.MaxDeliveries, math.MaxInt32)), DeadLetter: q.s.DeadLetter,
			}
			return m.Append(dst)
		},
	}, nil)
}

// Fetch leases up to limit messages, but at least one. It waits for the first. The caller may keep the messages, and
// must settle each of them before its lease ends; see Message.Ack. The error is the context's,
// ErrClosed, or the reason why the broker will deliver no more messages.
func (q *QueueConsumer) Fetch(ctx context.Context, limit int) ([]*Message, error) {
	if ctx.Err() != nil { // a busy queue always has one more message
		return nil, context.Cause(ctx)
	}
	limit = max(1, limit)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fetching++
	defer q.fetchedLocked()
	for {
		ms := q.takeLocked(limit)
		err := q.err
		if q.closed {
			err = ErrClosed
		}
		if len(ms) > 0 || err != nil {
			return ms, err
		}
		q.want = max(q.want, min(limit, mostAhead))
		q.ask()
		if err := q.waitLocked(ctx); err != nil {
			return nil, err
		}
	}
}

// fetchedLocked ends a Fetch. After the last one in progress, no more messages are leased.
func (q *QueueConsumer) fetchedLocked() {
	if q.fetching--; q.fetching == 0 && !q.renews {
		q.want = 0
	}
}

// waitLocked releases mu until the state has changed. It returns the context's cause when ctx ends
// first.
func (q *QueueConsumer) waitLocked(ctx context.Context) error {
	changed := q.changed
	q.mu.Unlock()
	defer q.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// takeLocked removes up to limit ready messages. It drops those whose lease ended while they
// waited, because the broker has given them to another worker.
func (q *QueueConsumer) takeLocked(limit int) []*Message {
	old := time.Now().Add(-q.s.Lease)
	var ms []*Message
	for len(ms) < limit {
		m := q.nextLocked()
		if m == nil {
			break
		}
		if m.lease.since.Before(old) {
			q.settleLocked(m.lease)
			continue
		}
		ms = append(ms, m)
	}
	return ms
}

// nextLocked removes the next ready message whose lease is not lost. It returns nil when there is
// none.
func (q *QueueConsumer) nextLocked() *Message {
	for len(q.ready) > 0 {
		m := q.ready[0]
		q.ready = q.ready[1:]
		if !m.lease.settled {
			return m
		}
	}
	return nil
}

// ask wakes pull.
func (q *QueueConsumer) ask() {
	signal(q.asked)
}

// changeLocked wakes those who wait for a change of the state.
func (q *QueueConsumer) changeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Lost returns how many acknowledgements came too late: the lease had ended, and the message is
// delivered again.
func (q *QueueConsumer) Lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acks.lost
}

// Flush sends the acknowledgements made so far, and waits until the broker has stored them as
// durably as the topic asks for. The error is wire.CodeLeaseLost when acknowledgements since the
// last Flush came too late.
func (q *QueueConsumer) Flush(ctx context.Context) error {
	q.flushAcks()
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.acks.unanswered > 0 {
		if err := q.waitLocked(ctx); err != nil {
			return err
		}
	}
	lost := q.acks.lost - q.acks.told
	q.acks.told = q.acks.lost
	if lost > 0 {
		we := wire.Errorf(wire.CodeLeaseLost, "messages that were acknowledged too late: %d", lost)
		return explain(we, wire.OpAck, q.topic, anyPartition)
	}
	return nil
}

// Close releases the leased messages that Fetch did not return, sends the acknowledgements and
// waits for the answers. Messages that Fetch returned and that were not settled are delivered again
// when their lease ends.
func (q *QueueConsumer) Close(ctx context.Context) error {
	q.mu.Lock()
	again := q.closed
	q.closed = true
	ready := slices.Clone(q.ready)
	q.ready = nil
	q.changeLocked()
	q.mu.Unlock()
	if again {
		return nil
	}
	q.endLeases(ctx)
	q.giveBack(ready)
	err := q.Flush(ctx)
	q.cancel()
	q.wg.Wait()
	q.c.mu.Lock()
	delete(q.c.queues, q)
	q.c.mu.Unlock()
	return err
}

// endLeases has the broker answer the lease requests that wait. Otherwise one of them may take the messages that the
// queue is about to give back, and a lease that nobody is there to receive counts as an attempt.
func (q *QueueConsumer) endLeases(ctx context.Context) {
	pause := newPauser()
	for q.isLeasing() {
		cn := q.c.conn.Load()
		if cn == nil {
			return // leases end with their connection
		}
		b, err := cn.resolve(ctx, q.topic, false)
		if err != nil {
			return
		}
		m := wire.Lease{Handle: b.Handle, Partition: wire.AnyPartition, Group: q.group}
		if _, err := cn.do(ctx, wire.OpLease, 0, m.Append); err != nil {
			return
		}
		if q.isLeasing() && pause.wait(ctx) != nil { // a request may not have been sent yet, or waits for the disk
			return
		}
	}
}

// isLeasing reports whether a lease request is not answered yet.
func (q *QueueConsumer) isLeasing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leases > 0
}

// flushAcks makes all queues send their acknowledgements.
func (c *Client) flushAcks() {
	for _, q := range c.openQueues() {
		q.flushAcks()
	}
}

// flushQueues waits until all acknowledgements are answered.
func (c *Client) flushQueues(ctx context.Context) error {
	var errs []error
	for _, q := range c.openQueues() {
		errs = append(errs, q.Flush(ctx))
	}
	return errors.Join(errs...)
}

func (c *Client) openQueues() []*QueueConsumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.queues))
}
