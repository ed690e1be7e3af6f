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
// themselves; Run is the simpler way. It is safe for concurrent use.
type QueueConsumer struct {
	c      *Client
	s      Source
	topic  string
	group  []byte
	arrive func() // called after the queue's state changed
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	asked  chan struct{} // tells the puller that want or ready changed

	flushing sync.Mutex // held from taking the gathered acknowledgements until their requests are made; before mu
	mu       sync.Mutex // guards the fields below
	fetching int        // calls of Fetch
	want     int        // messages that should be ready
	asking   int        // messages that are asked for
	leases   int        // requests for them
	several  bool       // the last one brought more than one message
	renews   bool       // leases are extended while held: it is Run's
	ready    []*Message
	changed  chan struct{} // closed and replaced when ready, acks, closed or err changed
	held     leaseList
	spare    [][]Message // of replies whose messages were handled
	acks     acks
	closed   bool
	err      error // why nothing can be leased any more
}

// OpenQueue creates the queue unless it exists, and returns a consumer of it. The source must name one
// topic. Its Workers, Prefetch and MaxLease are ignored: only Run uses them. Close the consumer when done.
func (c *Client) OpenQueue(ctx context.Context, s Source) (*QueueConsumer, error) {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	if !s.queue || len(s.Topics) != 1 {
		return nil, errors.New("client: OpenQueue needs a queue on one topic")
	}
	return c.openQueue(ctx, s, s.Topics[0], func() {})
}

func (c *Client) openQueue(ctx context.Context, s Source, topic string, arrive func()) (*QueueConsumer, error) {
	q := &QueueConsumer{
		c: c, s: s, topic: topic, group: []byte(s.Name), arrive: arrive,
		asked: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	q.acks.byPartition = map[uint16][]wire.LeaseRange{}
	q.ctx, q.cancel = context.WithCancel(c.ctx)
	if err := q.open(ctx); err != nil {
		q.cancel()
		return nil, err
	}
	c.mu.Lock()
	c.queues[q] = struct{}{}
	c.mu.Unlock()
	for range maxLeases {
		q.wg.Go(q.pull)
	}
	return q, nil
}

// open has the broker make the queue.
func (q *QueueConsumer) open(ctx context.Context) error {
	var flags wire.Flags
	if q.s.OrderByKey {
		flags = wire.FlagOrderByKey
	}
	_, err := q.c.do(ctx, call{
		op: wire.OpOpenQueue, flags: flags, topic: q.topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.OpenQueue{
				Handle: b.Handle, Group: q.s.Name, Start: q.s.From.wire(), LeaseMs: policyMs(q.s.Lease),
				BackoffMinMs: policyMs(q.s.BackoffMin), BackoffMaxMs: policyMs(q.s.BackoffMax),
				MaxDeliveries: uint32(q.s.MaxDeliveries), DeadLetter: q.s.DeadLetter,
			}
			return m.Append(dst)
		},
	})
	return err
}

// policyMs is a duration of a queue's policy. The broker bounds it.
func policyMs(d time.Duration) uint32 {
	return uint32(min((d+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
}

// Fetch leases up to limit messages; it waits for the first. The caller may keep them, and must settle each
// before its lease ends: see Message.Ack. The error is the context's, ErrClosed, or the broker's reason why
// there will be no more messages.
func (q *QueueConsumer) Fetch(ctx context.Context, limit int) ([]*Message, error) {
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
		q.want = max(q.want, min(limit, maxPrefetch))
		q.ask()
		if err := q.waitLocked(ctx); err != nil {
			return nil, err
		}
	}
}

// fetchedLocked ends a Fetch: when it was the last one, nothing more is leased.
func (q *QueueConsumer) fetchedLocked() {
	if q.fetching--; q.fetching == 0 && !q.renews {
		q.want = 0
	}
}

// waitLocked lets go of the lock until the queue's state changes, or returns why ctx ended.
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

// takeLocked removes up to limit ready messages. Those whose lease ended while they waited are
// dropped: the broker has given them to somebody else.
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

// nextLocked removes a ready message whose lease was not lost, nil when there is none.
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

// ask wakes the puller.
func (q *QueueConsumer) ask() {
	select {
	case q.asked <- struct{}{}:
	default:
	}
}

// changeLocked wakes those who wait for another state of the queue.
func (q *QueueConsumer) changeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Lost returns how many acknowledgements were too late: the lease had ended, and the message is delivered
// again.
func (q *QueueConsumer) Lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acks.lost
}

// Flush sends the acknowledgements made so far and waits until the broker has answered them, as durably as
// the topic asks for. It returns an *Error with wire.CodeLeaseLost when some since the last Flush were too
// late.
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
		we := wire.Errorf(wire.CodeLeaseLost, "%d messages were acknowledged too late", lost)
		return explain(we, wire.OpAck, q.topic, anyPartition)
	}
	return nil
}

// Close releases the messages that Fetch did not return, sends the acknowledgements and waits for the
// answer. Messages that Fetch returned and that were not settled are delivered again when their lease ends.
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
	q.giveBack(ready)
	err := q.Flush(ctx)
	q.cancel()
	q.wg.Wait()
	q.c.mu.Lock()
	delete(q.c.queues, q)
	q.c.mu.Unlock()
	return err
}

// flushAcks has all queues send their acknowledgements, because cn is going away.
func (c *Client) flushAcks(*conn) {
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
