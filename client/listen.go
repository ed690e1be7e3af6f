package client

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/rafka-mq/rafka/wire"
)

// ListenOptions configures a Listener. The zero value of each field means its default.
type ListenOptions struct {
	// Queue names a queue group: each message goes to one of the group's listeners. Default: no
	// group, so that this listener gets every message.
	Queue string
	// Workers is how many handlers run at once. Default 1, which handles messages in the order of
	// their arrival. At most 65,536.
	Workers int
	// MaxPendingBytes bounds the messages that wait for a handler. Further ones are dropped, and
	// ErrSlowListener is reported to Options.OnError. Default 64 MiB.
	MaxPendingBytes int
}

// Listener is a subscription to a pattern of subjects. After a lost connection it continues on the
// next one; it misses what was sent in between.
type Listener struct {
	c       *Client
	pattern string
	o       ListenOptions
	inline  func(m *Message, nobody bool) // called instead of workers; must not block

	mu      sync.Mutex // guards the fields below
	cond    sync.Cond  // of mu: a message waits, or ended was set
	waiting []*Message
	head    int // index in waiting of the next message
	bytes   int
	dropped int // messages dropped in a row
	ended   bool
	err     error // why the broker ended the subscription, or nil

	done    chan struct{} // closed when the last handler has returned
	workers sync.WaitGroup
	release []func() bool // detach the listener from contexts
}

// ErrSlowListener is passed to Options.OnError when a Listener begins to drop messages, because
// they arrive faster than its handler takes them. See ListenOptions.MaxPendingBytes.
var ErrSlowListener = errors.New("client: a listener is too slow, messages were dropped")

// Listen calls h for every message on a subject that matches the pattern, for example "orders.*" or
// "orders.>", until ctx ends, or the Listener or the client is closed. It returns when the broker
// has confirmed the subscription.
//
// The context passed to h ends when the client is closed. A handler may keep its message. Messages
// that arrived together may share memory, up to 64 messages and 32 KiB; see Message.Clone. A panic of a
// handler is reported to Options.OnError as a *PanicError, as with Run.
func (c *Client) Listen(ctx context.Context, pattern string, o ListenOptions, h func(context.Context, *Message)) (*Listener, error) {
	if h == nil {
		return nil, errNoHandler
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	set(&o.Workers, 1)
	set(&o.MaxPendingBytes, defaultPendingBytes)
	l := c.newListener(pattern, o)
	if !c.beginRun() {
		return nil, ErrClosed
	}
	for range o.Workers {
		l.workers.Go(func() { l.work(h) })
	}
	go func() {
		l.workers.Wait()
		c.runs.Done()
		close(l.done)
	}()
	opening, cancel := c.opening(ctx)
	defer cancel()
	if err := l.start(opening); err != nil {
		l.end(nil)
		return nil, err
	}
	l.mu.Lock()
	l.release = append(l.release,
		context.AfterFunc(ctx, func() { _ = l.Close() }), context.AfterFunc(c.open, func() { _ = l.Close() }))
	l.mu.Unlock()
	return l, nil
}

func (o *ListenOptions) validate() error {
	switch {
	case o.Workers > MaxWorkers:
		return errManyWorkers
	case o.Workers < 0 || o.MaxPendingBytes < 0:
		return errors.New("client: Workers and MaxPendingBytes of a listener must not be negative")
	}
	return nil
}

func (c *Client) newListener(pattern string, o ListenOptions) *Listener {
	l := &Listener{c: c, pattern: pattern, o: o, done: make(chan struct{})}
	l.cond.L = &l.mu
	return l
}

// start subscribes on the live connection and waits for the answer. If the connection is lost
// before, it tries again on the next one.
func (l *Listener) start(ctx context.Context) error {
	for {
		cn, err := l.c.live(ctx)
		if err != nil {
			return explain(err, wire.OpListen, "", anyPartition)
		}
		answered := make(chan error, 1)
		l.c.mu.Lock()
		l.c.listeners[l] = struct{}{}
		l.c.mu.Unlock()
		cn.listen(l, func(err error) { answered <- err })
		select {
		case err = <-answered:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if _, cut := lost(err); !cut {
			return explain(err, wire.OpListen, "", anyPartition)
		}
		l.c.awaitReplaced(ctx, cn)
	}
}

// listen subscribes unless that was done. It calls reply once, with the outcome.
func (cn *conn) listen(l *Listener, reply func(error)) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil {
		go reply(&lostError{reason: cn.err})
		return
	}
	if _, ok := cn.listening[l]; ok {
		go reply(nil)
		return
	}
	var id uint32
	id = cn.enqueueLocked(wire.OpListen, 0, wire.Listen{Pattern: l.pattern, Queue: l.o.Queue}.Append, func(_ *frame, err error) {
		if err != nil {
			cn.mu.Lock()
			delete(cn.listens, id)
			delete(cn.listening, l)
			cn.mu.Unlock()
		}
		reply(err)
	})
	cn.listens[id], cn.listening[l] = l, id
	cn.wakeWriter()
}

// resume subscribes again on a new connection.
func (l *Listener) resume(cn *conn) {
	cn.listen(l, func(err error) {
		if _, cut := lost(err); err != nil && !cut {
			l.broken(explain(err, wire.OpListen, "", anyPartition))
		}
	})
}

// broken ends the subscription for a reason that the broker gave.
func (l *Listener) broken(err error) {
	l.c.report(err)
	l.end(err)
	if l.inline != nil {
		l.c.inbox.broken(err)
	}
}

// take queues messages for the handlers. It runs on the connection's reader.
func (l *Listener) take(ms []*Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if 2*l.head > len(l.waiting) {
		n := copy(l.waiting, l.waiting[l.head:])
		clear(l.waiting[n:])
		l.waiting, l.head = l.waiting[:n], 0
	}
	for _, m := range ms {
		size := listenedSize(m)
		if l.bytes+size > l.o.MaxPendingBytes && l.bytes > 0 {
			if l.dropped++; l.dropped == 1 {
				go l.c.report(ErrSlowListener)
			}
			continue
		}
		l.dropped = 0
		l.bytes += size
		l.waiting = append(l.waiting, m)
	}
	if len(ms) == 1 || l.o.Workers == 1 {
		l.cond.Signal()
	} else {
		l.cond.Broadcast()
	}
}

// listenedSize is roughly the memory of a message that waits.
func listenedSize(m *Message) int { return len(m.Value) + len(m.Subject) + 256 }

// takenAtOnce is how many messages a single worker takes under one lock. When there are several
// workers, each takes one message, so that the next one goes to whoever is free first.
const takenAtOnce = 64

func (l *Listener) work(h func(context.Context, *Message)) {
	var ms []*Message
	for {
		ms = l.next(ms[:0])
		if len(ms) == 0 {
			return
		}
		for i, m := range ms {
			if l.c.ctx.Err() != nil {
				return
			}
			ms[i] = nil
			l.handle(h, m)
		}
	}
}

// handle calls h. One message that makes it panic does not end a program that serves others, too.
func (l *Listener) handle(h func(context.Context, *Message), m *Message) {
	defer func() {
		if v := recover(); v != nil {
			l.c.report(fmt.Errorf("%s: %w", m.Subject, &PanicError{Value: v, Stack: debug.Stack()}))
		}
	}()
	h(l.c.ctx, m)
}

// next waits for messages and appends them to ms. It appends none when the listener has ended.
func (l *Listener) next(ms []*Message) []*Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head == len(l.waiting) && !l.ended {
		l.cond.Wait()
	}
	n := min(len(l.waiting)-l.head, takenAtOnce)
	if l.o.Workers > 1 {
		n = min(n, 1)
	}
	for _, m := range l.waiting[l.head : l.head+n] {
		l.bytes -= listenedSize(m)
		ms = append(ms, m)
	}
	clear(l.waiting[l.head : l.head+n])
	l.head += n
	return ms
}

// Close stops listening, and waits until the messages are handled that the broker has sent to the listener. So a
// service that closes its listeners answers every request that it was given. When the broker had ended the
// subscription, Close returns the reason. A handler must not call Close.
func (l *Listener) Close() error {
	l.drain()
	l.end(nil)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done returns a channel that is closed when the listener has ended and its handlers have returned.
func (l *Listener) Done() <-chan struct{} { return l.done }

// drain has the broker end the subscription. When it returns, all that the broker has sent to the listener has arrived,
// unless the connection is lost.
func (l *Listener) drain() {
	c := l.c
	c.mu.Lock()
	delete(c.listeners, l) // the next connection does not begin anew
	cn := c.conn.Load()
	c.mu.Unlock()
	if cn == nil || l.hasEnded() {
		return
	}
	cn.mu.Lock()
	id, ok := cn.listening[l]
	cn.mu.Unlock()
	if !ok {
		return
	}
	ctx, cancel := c.bounded(c.ctx)
	defer cancel()
	// The outcome does not matter: a refusal says that there is no subscription.
	_, _ = cn.do(ctx, wire.OpUnlisten, 0, wire.Unlisten{Subscription: id}.Append)
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.forgetListenerLocked(l)
}

func (l *Listener) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// end stops the subscription. Only the first reason counts.
func (l *Listener) end(err error) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	l.ended, l.err = true, err
	release := l.release
	l.cond.Broadcast()
	l.mu.Unlock()
	for _, stop := range release {
		stop()
	}
	l.c.mu.Lock()
	delete(l.c.listeners, l)
	cn := l.c.conn.Load()
	l.c.mu.Unlock()
	if cn != nil {
		cn.unlisten(l)
	}
}

func (cn *conn) unlisten(l *Listener) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	id, ok := cn.forgetListenerLocked(l)
	if !ok || cn.err != nil {
		return
	}
	cn.enqueueLocked(wire.OpUnlisten, 0, wire.Unlisten{Subscription: id}.Append, func(*frame, error) {})
	cn.wakeWriter()
}

// forgetListenerLocked makes the connection ignore messages to a subscription, and returns its id.
func (cn *conn) forgetListenerLocked(l *Listener) (id uint32, ok bool) {
	if id, ok = cn.listening[l]; ok {
		delete(cn.listens, id)
		delete(cn.listening, l)
	}
	return id, ok
}
