package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// leaseWait is how long one lease request waits at the broker. It is short, because a request
	// that nobody waits for any more may still bring messages.
	leaseWait = 5 * time.Second
	// leaseBytes bounds the reply to one lease request.
	leaseBytes = 4 << 20
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

	mu      sync.Mutex // guards the fields below
	want    int        // messages that should be ready
	renews  bool       // leases are extended while held
	ready   []*Message
	changed chan struct{} // closed and replaced when ready, err or unsettled changed
	held    map[*lease]struct{}
	acks    acks
	closed  bool
	err     error // why nothing can be leased any more
}

// lease is the right to settle one message.
type lease struct {
	q         *QueueConsumer
	b         *binding // of the connection that leased
	partition uint16
	offset    uint64
	attempt   uint32
	since     time.Time
	settled   bool                    // guarded by q.mu
	gone      bool                    // settled because it was lost; guarded by q.mu
	lose      context.CancelCauseFunc // ends the handler's context; guarded by q.mu; may be nil
}

// errLeaseLost is the cause in the context of a handler whose lease is gone.
var errLeaseLost = fmt.Errorf("client: %w", wire.CodeLeaseLost)

// OpenQueue makes the queue, unless it exists, and returns a consumer of it. The source names one
// topic. Of its fields Workers, Prefetch and MaxLease are Run's own. Close the consumer when done.
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
		asked: make(chan struct{}, 1), changed: make(chan struct{}), held: map[*lease]struct{}{},
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
	q.wg.Go(q.pull)
	return q, nil
}

// open has the broker make the queue.
func (q *QueueConsumer) open(ctx context.Context) error {
	_, err := q.c.do(ctx, call{
		op: wire.OpOpenQueue, topic: q.topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.OpenQueue{
				Handle: b.Handle, Group: q.s.Name, Start: q.s.From.wire(), LeaseMs: milliseconds(q.s.Lease),
				BackoffMinMs: milliseconds(q.s.BackoffMin), BackoffMaxMs: milliseconds(q.s.BackoffMax),
				MaxDeliveries: uint32(q.s.MaxDeliveries), DeadLetter: q.s.DeadLetter,
			}
			return m.Append(dst)
		},
	})
	return err
}

// Fetch leases up to limit messages; it waits for the first. They are valid until they are
// garbage, and each is to be settled before its lease ends: see Message.Ack. The error is the
// context's, ErrClosed, or the broker's reason why there will be no more.
func (q *QueueConsumer) Fetch(ctx context.Context, limit int) ([]*Message, error) {
	for {
		q.mu.Lock()
		ms := q.takeLocked(limit)
		err, changed := q.err, q.changed
		if q.closed {
			err = ErrClosed
		}
		if q.want = 0; len(ms) == 0 && err == nil {
			q.want = min(limit, maxPrefetch)
		}
		q.mu.Unlock()
		if len(ms) > 0 || err != nil {
			return ms, err
		}
		q.ask()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// takeLocked removes up to limit ready messages. Those whose lease ended while they waited are
// dropped: the broker has given them to somebody else.
func (q *QueueConsumer) takeLocked(limit int) []*Message {
	old := time.Now().Add(-q.s.Lease)
	var ms []*Message
	for len(q.ready) > 0 && len(ms) < limit {
		m := q.ready[0]
		q.ready = q.ready[1:]
		if m.lease.settled {
			continue
		}
		if !q.renews && m.lease.since.Before(old) {
			q.settleLocked(m.lease)
			continue
		}
		ms = append(ms, m)
	}
	return ms
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

// pull leases messages while they are wanted.
func (q *QueueConsumer) pull() {
	pause := newPauser()
	for {
		n := q.missing()
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
		if !q.canGoOn(err) {
			q.fail(explain(err, wire.OpLease, q.topic, anyPartition))
			return
		}
		if pause.wait(q.ctx) != nil {
			return
		}
	}
}

// missing returns how many messages to lease now. They are leased in groups: only when half of what
// is wanted is used up.
func (q *QueueConsumer) missing() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ready) > q.want/2 || q.want == 0 || q.closed {
		return 0
	}
	return q.want - len(q.ready)
}

// canGoOn reports whether leasing may work later, after repairing what can be repaired.
func (q *QueueConsumer) canGoOn(err error) bool {
	if q.ctx.Err() != nil {
		return true // the caller notices
	}
	if _, cut := lost(err); cut || retryLater(err) {
		return true
	}
	if code := wire.CodeOf(err); code != wire.CodeGroupNotFound && code != wire.CodeTopicNotFound {
		return false
	}
	return q.open(q.ctx) == nil // the broker was restarted, or somebody deleted the queue
}

// fail ends leasing for good. The first reason counts.
func (q *QueueConsumer) fail(err error) {
	q.mu.Lock()
	q.err = cmp.Or(q.err, err)
	q.changeLocked()
	q.mu.Unlock()
	q.arrive()
}

// lease asks for n messages and waits for the answer.
func (q *QueueConsumer) lease(n int) error {
	cn, err := q.c.live(q.ctx)
	if err != nil {
		return err
	}
	b, err := cn.resolve(q.ctx, q.topic, false)
	if err != nil {
		return err
	}
	q.flushAcks()
	m := wire.Lease{
		Handle: b.Handle, Partition: wire.AnyPartition, Group: q.group, MaxMessages: uint32(n),
		MaxBytes: leaseBytes, MaxWaitMs: milliseconds(leaseWait), LeaseMs: milliseconds(q.s.Lease),
	}
	done := make(chan error, 1)
	cn.ask(wire.OpLease, 0, m.Append, func(f *frame, err error) {
		if err == nil {
			err = q.onLeased(b, f, n)
		} else if wire.CodeOf(err) == wire.CodeTopicNotFound {
			cn.forget(b, q.topic)
		}
		done <- err
	})
	select {
	case err = <-done:
	case <-q.ctx.Done():
		err = context.Cause(q.ctx)
	}
	return err
}

// onLeased takes the messages of a reply.
func (q *QueueConsumer) onLeased(b *binding, f *frame, limit int) error {
	now := time.Now()
	var l wire.Leased
	buf := f.keep() // the messages' for good
	if err := l.Parse(buf.body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	ms, err := q.messages(b, &l, limit, now)
	if err != nil {
		return err
	}
	q.mu.Lock()
	closed := q.closed
	if !closed {
		q.ready = append(q.ready, ms...)
		for _, m := range ms {
			q.held[m.lease] = struct{}{}
		}
		q.changeLocked()
	}
	q.mu.Unlock()
	if closed {
		q.giveBack(ms)
		return nil
	}
	q.arrive()
	return nil
}

// messages makes a message of every record that the ranges name.
func (q *QueueConsumer) messages(b *binding, l *wire.Leased, limit int, now time.Time) ([]*Message, error) {
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
	slab, leases := make([]Message, 0, total), make([]lease, 0, total)
	ms := make([]*Message, 0, total)
	walk := cursor{keep: true}
	walk.reset(l.Bytes, b.seed(int(l.Partition)), l.Ranges[0].First)
	ranges := l.Ranges
	for {
		ok, err := walk.more()
		if err != nil {
			return nil, fmt.Errorf("%s/%d: %w", q.topic, l.Partition, err)
		}
		if !ok {
			return ms, nil
		}
		off := walk.offset()
		for len(ranges) > 0 && off >= ranges[0].First+uint64(ranges[0].Count) {
			ranges = ranges[1:]
		}
		if len(ranges) == 0 {
			return ms, nil
		}
		if off < ranges[0].First || len(ms) == total {
			walk.skip()
			continue
		}
		leases = append(leases, lease{
			q: q, b: b, partition: l.Partition, offset: off, attempt: ranges[0].Attempt, since: now,
		})
		slab = append(slab, Message{
			Topic: q.topic, Partition: int(l.Partition), Attempt: int(ranges[0].Attempt), lease: &leases[len(leases)-1],
		})
		m := &slab[len(slab)-1]
		walk.take(m)
		ms = append(ms, m)
	}
}

// onLost forgets everything that was leased on the connection that is gone.
func (q *QueueConsumer) onLost() {
	q.mu.Lock()
	n := q.acks.drop()
	for l := range q.held {
		q.loseLocked(l)
	}
	q.ready = nil
	q.changeLocked()
	q.mu.Unlock()
	if n > 0 {
		q.reportLost(n)
	}
	q.arrive()
}

// loseLocked lets a lease go, and ends the context of its handler.
func (q *QueueConsumer) loseLocked(l *lease) {
	q.settleLocked(l)
	l.gone = true
	if l.lose != nil {
		l.lose(errLeaseLost)
	}
}

// reportLost tells that settled messages will be delivered again.
func (q *QueueConsumer) reportLost(n int) {
	we := wire.Errorf(wire.CodeLeaseLost, "%d messages were settled too late and will be delivered again", n)
	q.c.report(explain(we, wire.OpAck, q.topic, anyPartition))
}

// giveBack has messages that nobody handled delivered to somebody else at once.
func (q *QueueConsumer) giveBack(ms []*Message) {
	byBinding := map[*binding]map[uint16][]wire.LeaseRange{}
	q.mu.Lock()
	for _, m := range ms {
		l := m.lease
		if l.settled {
			continue
		}
		q.settleLocked(l)
		if byBinding[l.b] == nil {
			byBinding[l.b] = map[uint16][]wire.LeaseRange{}
		}
		byBinding[l.b][l.partition] = appendRange(byBinding[l.b][l.partition], l)
	}
	q.mu.Unlock()
	for b, parts := range byBinding {
		for p, ranges := range parts {
			q.send(wire.OpNack, b, p, ranges, 0)
		}
	}
}

// Lost returns how many messages were acknowledged too late: their lease had ended, and they will be
// delivered again.
func (q *QueueConsumer) Lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.acks.lost
}

// Flush sends the acknowledgements made so far and waits until the broker has answered them, as
// durably as the topic asks for. It returns an *Error with wire.CodeLeaseLost when some were too
// late since the last Flush.
func (q *QueueConsumer) Flush(ctx context.Context) error {
	q.flushAcks()
	for {
		q.mu.Lock()
		waiting, changed := q.acks.unanswered, q.changed
		lost := q.acks.lost - q.acks.told
		if waiting == 0 {
			q.acks.told = q.acks.lost
		}
		q.mu.Unlock()
		if waiting == 0 && lost > 0 {
			we := wire.Errorf(wire.CodeLeaseLost, "%d messages were acknowledged too late", lost)
			return explain(we, wire.OpAck, q.topic, anyPartition)
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close gives back what was not handed out, sends what was acknowledged and waits for the answer,
// and ends the consumer. Messages that were handed out and not settled are delivered to somebody
// else when their lease ends.
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
	qs := make([]*QueueConsumer, 0, len(c.queues))
	for q := range c.queues {
		qs = append(qs, q)
	}
	return qs
}
