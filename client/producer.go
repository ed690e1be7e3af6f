package client

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/rafka-mq/rafka/wire"
)

// messageBytes is what a buffered message costs besides its content: its framing and callback.
const messageBytes = 32

// producer is the publishing half of a Client.
type producer struct {
	c       *Client
	budget  *budget
	batches batchPool
	waiters sync.Pool
	stream  wire.Producer // the start of every lane's numbering
	usual   batchKind     // of messages with only a key and a value

	// last is the topic of the latest publish. It is set while mu is held for reading, and cleared
	// while mu is held for writing, so it is always one of topics.
	last atomic.Pointer[topic]

	closing atomic.Bool // lanes and connections take no more messages; read while their mu is held

	mu     sync.RWMutex // guards the fields below
	topics map[string]*topic
	ending []*topic // dropped topics whose last callbacks may not have returned
	err    error    // why the producer takes no more messages, or nil
}

func (p *producer) init(c *Client) {
	p.c = c
	p.budget = newBudget(c.opts.MaxBufferedBytes)
	p.batches.keepBytes = 2 * c.opts.MaxBatchBytes
	p.batches.keep = max(4, c.opts.MaxBufferedBytes/c.opts.MaxBatchBytes)
	p.waiters.New = func() any { return newWaiter() }
	p.topics = map[string]*topic{}
	p.stream = newStream(&c.opts)
	p.usual = c.kindOf(&Message{})
}

// newStream returns the identity under which the client's messages are numbered: a random one, or
// that of ProducerName. Of two clients with the same name, the later one has the higher epoch.
func newStream(o *Options) wire.Producer {
	switch {
	case o.NoIdempotence:
		return wire.Producer{}
	case o.ProducerName != "":
		return wire.Producer{ID: max(1, xxhash.Sum64String(o.ProducerName)), Epoch: uint64(time.Now().UnixMilli()) << epochBits}
	}
	return wire.Producer{ID: max(1, rand.Uint64())}
}

// epochBits is the part of an epoch that counts how often a lane's numbering began again.
const epochBits = 16

// Publish sends m and waits until it is stored as durably as its level asks for. The caller may
// reuse m afterwards. While there is no connection, a message to a topic that the client knows waits
// for the next one, as long as ctx allows.
//
// When ctx ends first, the error wraps ErrUnknownOutcome and the context's error: the message may
// still be stored. Other errors are an *Error with the broker's reason, ErrUnknownOutcome when the
// connection was lost meanwhile, and ErrClosed.
func (c *Client) Publish(ctx context.Context, m *Message) (Receipt, error) {
	for {
		w := c.producer.waiter()
		if err := c.publish(ctx, m, w, w.fn); err != nil {
			c.producer.waiters.Put(w)
			return Receipt{}, err
		}
		if r, err := c.await(ctx, m.Topic, w); !isPlacedElsewhere(err) {
			return r, err
		}
	}
}

// await waits for the outcome of what was published with w, and returns w to its pool.
func (c *Client) await(ctx context.Context, topic string, w *waiter) (Receipt, error) {
	if w.conn != nil {
		w.conn.attend(ctx, w.id)
	}
	select {
	case <-w.done:
		r, err := w.receipt, w.err
		c.producer.waiters.Put(w)
		return r, err
	case <-ctx.Done(): // w is not reused: its callback may still run
		return Receipt{}, fmt.Errorf("publish %s: %w: %w", topic, ErrUnknownOutcome, context.Cause(ctx))
	}
}

// waiter receives the outcome of one publish that is waited for.
type waiter struct {
	done    chan struct{}
	fn      func(Receipt, error)
	receipt Receipt
	err     error

	conn *conn  // where the waiter may read the answer itself: it will be about this publish alone; else nil
	id   uint32 // the correlation id of the answer
}

func newWaiter() *waiter {
	w := &waiter{done: make(chan struct{}, 1)}
	w.fn = w.finish
	return w
}

// waiter returns an unused waiter.
func (p *producer) waiter() *waiter {
	w := p.waiters.Get().(*waiter)
	w.conn = nil
	return w
}

func (w *waiter) finish(r Receipt, err error) {
	w.receipt, w.err = r, err
	w.done <- struct{}{}
}

// PublishAsync copies m and sends it in the background. When it returns nil, done is called once
// with the outcome, unless done is nil. The calls for one partition come in the order of
// publishing, as long as nothing fails; those for several partitions, or levels, may come at the same time.
// done runs on a goroutine of the client and must not block. In particular it must not publish, because that may
// wait for room that only done's return can make.
//
// A message waits for the next connection while there is none. When there is none before Close runs
// out of time, done is called with ErrClosed. When the topic is deleted and created again meanwhile with
// another number of partitions, the error is wire.CodeTopicDeleted: the partition was chosen for the old
// one. Publish then chooses again by itself.
//
// PublishAsync blocks while Options.MaxBufferedBytes are not answered, and while it asks the broker
// for a topic that it does not know yet. ctx bounds only these waits. After an error the message is
// not sent; it is an *Error, ErrClosed or the context's error.
func (c *Client) PublishAsync(ctx context.Context, m *Message, done func(Receipt, error)) error {
	if t := c.producer.last.Load(); t != nil && t.name == m.Topic && ctx.Err() == nil && t.join(m, done) {
		return nil
	}
	return c.publish(ctx, m, nil, done)
}

// publish is PublishAsync. If w is not nil, the caller waits for the outcome with it, and done is
// w.fn.
func (c *Client) publish(ctx context.Context, m *Message, w *waiter, done func(Receipt, error)) error {
	p := &c.producer
	if ctx.Err() != nil {
		return fmt.Errorf("publish %s: %w", m.Topic, context.Cause(ctx))
	}
	for {
		t, err := p.topic(ctx, m.Topic)
		if err != nil {
			return err
		}
		l, size, alone, err := t.accept(m)
		if err != nil && outdated(err) { // errors.Is is slow for a nil, too
			if now := t.learn(ctx); now != nil {
				t = now
				l, size, alone, err = t.accept(m)
			}
		}
		if err != nil {
			return err
		}
		var at *wire.ScheduleItem
		if m.isLater() {
			it, err := t.schedule(m)
			if err != nil {
				return err
			}
			l, at = l.forLater(), &it
		}
		if !p.budget.try(size) {
			if err := c.awaitRoom(ctx, m.Topic, size); err != nil {
				return err
			}
		}
		if l.add(m, at, c.kindOf(m), size, alone, w, done) {
			return nil
		}
		p.budget.release(size)
	}
}

// awaitRoom takes size bytes of the buffer, and waits for them.
func (c *Client) awaitRoom(ctx context.Context, topic string, size int) error {
	if err := c.producer.budget.acquire(ctx, c.ctx.Done(), size); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

// kindOf returns what m must have in common with the other messages of its batch.
func (c *Client) kindOf(m *Message) batchKind {
	k := batchKind{level: m.Level, timed: !m.Time.IsZero(), ids: m.ID != ""}
	if m.TTL != 0 {
		k.ttl = wholeMs(m.TTL)
	}
	if k.level == wire.LevelDefault {
		k.level = c.opts.Level
	}
	if k.level == wire.LevelNone && m.isLater() {
		k.level = wire.LevelMemory // the answer holds the id of the scheduled message
	}
	return k
}

// accept returns the lane that m goes to, and what measure returns.
func (t *topic) accept(m *Message) (l *lane, size int, alone bool, err error) {
	if l, err = t.place(m); err != nil {
		return nil, 0, false, err
	}
	size, alone, err = t.measure(m)
	return l, size, alone, err
}

// measure returns how much of the buffer m takes, and whether it must travel alone, so that a
// refusal for its size affects no other message. It refuses what cannot be stored, for the same
// reason.
func (t *topic) measure(m *Message) (size int, alone bool, err error) {
	headers, pairs := 0, len(m.Headers)
	for i := range m.Headers {
		headers += len(m.Headers[i].Name) + len(m.Headers[i].Value)
	}
	if m.ID != "" {
		headers, pairs = headers+len(wire.HeaderID)+len(m.ID), pairs+1
	}
	content := len(m.Key) + len(m.Value) + headers
	headers += pairs * 2 * 3 // their lengths
	payload := len(m.Key) + len(m.Value) + headers + len(m.Subject)
	info := t.info.Load()
	limit := info.maxMessage
	switch {
	case len(m.Key) > wire.MaxKeyBytes:
		return 0, false, t.tooLarge("key has", len(m.Key), wire.MaxKeyBytes)
	case headers > wire.MaxHeaderBytes:
		return 0, false, t.tooLarge("headers have", headers, wire.MaxHeaderBytes)
	case len(m.Subject) > wire.MaxSubjectBytes:
		return 0, false, t.tooLarge("subject has", len(m.Subject), wire.MaxSubjectBytes)
	case content > limit:
		return 0, false, t.tooLarge("message has", content, limit)
	case payload > info.maxAtomic: // what is around the content has to fit the frame, too
		return 0, false, t.tooLarge("message has", payload, info.maxAtomic)
	case len(m.ID) > wire.MaxMessageID:
		return 0, false, t.tooLarge("message id has", len(m.ID), wire.MaxMessageID)
	case !m.Level.Valid():
		return 0, false, t.invalid("unknown durability level %d", m.Level)
	case m.TTL < 0 || m.TTL.Milliseconds() > wire.MaxTTLMs:
		return 0, false, t.invalid("a time to live of %v, it must be between 0 and a hundred years", m.TTL)
	}
	return payload + messageBytes, payload+messageBytes > limit, nil
}

func (t *topic) invalid(format string, args ...any) error {
	return t.refused(wire.CodeInvalid, format, args...)
}

func (t *topic) tooLarge(what string, is, limit int) error {
	return t.refused(wire.CodeTooLarge, "the %s %d bytes, the limit is %d", what, is, limit)
}

func (t *topic) refused(code wire.Code, format string, args ...any) error {
	we := wire.Errorf(code, format, args...)
	return explain(we, wire.OpPublish, t.name, anyPartition)
}

// Flush sends open batches at once, and waits until every message that was published before the
// call is answered. The outcomes go to the callbacks; Flush returns only the context's error.
func (c *Client) Flush(ctx context.Context) error {
	f := newFlush()
	for _, t := range c.producer.unfinished() {
		for _, l := range *t.lanes.Load() {
			l.waitFor(f)
		}
	}
	f.finished()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", context.Cause(ctx))
	}
}

// topic returns a topic. The first time, it asks the broker.
func (p *producer) topic(ctx context.Context, name string) (*topic, error) {
	if t := p.last.Load(); t != nil && t.name == name {
		return t, nil
	}
	p.mu.RLock()
	t, err := p.topics[name], p.err
	if t != nil && err == nil {
		p.last.Store(t)
	}
	p.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if t != nil {
		return t, nil
	}
	return p.lookup(ctx, name)
}

func (p *producer) lookup(ctx context.Context, name string) (*topic, error) {
	if name == "" || len(name) > wire.MaxTopicName {
		we := wire.Errorf(wire.CodeInvalid, "a topic name has 1 to %d bytes", wire.MaxTopicName)
		return nil, explain(we, wire.OpPublish, name, anyPartition)
	}
	bounded, cancel := p.c.bounded(ctx)
	defer cancel()
	pause := newPauser()
	for {
		cn, err := p.c.live(bounded)
		if err != nil {
			return nil, explain(err, wire.OpResolve, name, anyPartition)
		}
		b, err := cn.resolve(bounded, name, !p.c.opts.NoAutoCreate)
		if err == nil {
			return p.adopt(name, b)
		}
		if _, cut := lost(err); !cut && !retryLater(err) {
			return nil, explain(err, wire.OpResolve, name, anyPartition)
		}
		if waitErr := pause.wait(bounded); waitErr != nil {
			return nil, fmt.Errorf("%w (%w)", explain(err, wire.OpResolve, name, anyPartition), waitErr)
		}
	}
}

// adopt adds a topic that was looked up, unless another call was faster.
func (p *producer) adopt(name string, b *binding) (*topic, error) {
	fresh := newTopic(p, name)
	fresh.bind(b)
	p.mu.Lock()
	t, err := p.topics[name], p.err
	if t == nil && err == nil {
		p.topics[name] = fresh
	}
	p.mu.Unlock()
	if t != nil || err != nil {
		return t, err
	}
	if cn := p.c.conn.Load(); cn != nil && cn != b.conn { // the client reconnected before the topic was added
		fresh.resolve(cn, !p.c.opts.NoAutoCreate)
	}
	return fresh, nil
}

// rebind asks for the handles of all topics on a new connection. A topic that was deleted meanwhile
// is created again only if messages wait for it.
func (p *producer) rebind(cn *conn) {
	for _, t := range p.all() {
		t.resolve(cn, t.busy() && !p.c.opts.NoAutoCreate)
	}
}

func (p *producer) all() []*topic {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Values(p.topics))
}

// unfinished returns all topics that may have messages without an answer.
func (p *producer) unfinished() []*topic {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.AppendSeq(slices.Clone(p.ending), maps.Values(p.topics))
}

// refreshEvery is how often topics are described again, to learn about new partitions.
const refreshEvery = 30 * time.Second

// refresh describes the topics again that are bound on cn: those of the producer now, whose old handles stay in
// use meanwhile, and others with their next request.
func (p *producer) refresh(cn *conn) {
	cn.mu.Lock()
	clear(cn.topics)
	cn.mu.Unlock()
	for _, t := range p.all() {
		if b := t.binding.Load(); b != nil && b.conn == cn {
			t.resolve(cn, false)
		}
	}
}

// drop forgets a topic. Its waiting messages end with err.
func (p *producer) drop(t *topic, err error) {
	p.mu.Lock()
	p.ending = slices.DeleteFunc(p.ending, (*topic).ended)
	if p.topics[t.name] == t {
		delete(p.topics, t.name)
		p.ending = append(p.ending, t)
		p.last.Store(nil)
	}
	p.mu.Unlock()
	t.drop(err)
}

// refuse makes later publishes fail. What was accepted is still sent: whoever takes the mu of a lane or a
// connection after this finds all of it there.
func (p *producer) refuse() {
	p.mu.Lock()
	p.err = cmp.Or(p.err, ErrClosed)
	p.last.Store(nil)
	p.mu.Unlock()
	p.closing.Store(true)
}

// end ends the producer: all waiting messages, and all later ones, fail with err.
func (p *producer) end(err error) {
	p.mu.Lock()
	p.err = err
	p.last.Store(nil)
	topics := p.topics
	p.topics = map[string]*topic{}
	p.mu.Unlock()
	for _, t := range topics {
		t.drop(err)
	}
}
