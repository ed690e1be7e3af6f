package client

import (
	"context"
	"errors"
	"sync"

	"github.com/rafka-mq/rafka/wire"
)

// ListenOptions say how to listen. The zero value of each field means its default.
type ListenOptions struct {
	// Queue is a queue group: each message goes to one of the listeners in the same group. Default: no
	// group.
	Queue string
	// Workers is how many handlers run at once. Default 1, which keeps the order.
	Workers int
	// MaxPendingBytes bounds the messages that wait for the handlers; further ones are dropped, which is
	// reported to Options.OnError. Default 64 MiB.
	MaxPendingBytes int
}

// Listener is a subscription to subjects. It continues on a new connection when one is lost; what was sent
// in between is missed.
type Listener struct {
	c       *Client
	pattern string
	o       ListenOptions
	inline  func(m *Message, nobody bool) // instead of workers; must not block

	mu      sync.Mutex // guards the fields below
	cond    sync.Cond  // of mu: something waits, or ended was set
	waiting []*Message
	head    int // index in waiting: those before it were taken
	bytes   int
	dropped int // since the last message that was not
	ended   bool
	err     error // why

	done    chan struct{} // closed when the last handler has returned
	workers sync.WaitGroup
	release []func() bool
}

// ErrSlowListener is reported when messages were dropped because they arrived faster than they were
// handled.
var ErrSlowListener = errors.New("client: a listener is too slow, messages were dropped")

// Listen calls h for every message on a subject that matches the pattern, "orders.*" or "orders.>" for
// example, until Close, ctx or the client ends. It returns when the broker has confirmed the subscription.
// The context passed to h ends when the client is closed. A handler may keep its message; messages that
// arrived together share memory, up to 32 KiB and 64 messages: see Message.Clone.
func (c *Client) Listen(ctx context.Context, pattern string, o ListenOptions, h func(context.Context, *Message)) (*Listener, error) {
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.MaxPendingBytes == 0 {
		o.MaxPendingBytes = defaultPendingBytes
	}
	l := c.newListener(pattern, o)
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	c.runs.Add(1)
	c.mu.Unlock()
	for range o.Workers {
		l.workers.Go(func() { l.work(h) })
	}
	go func() {
		l.workers.Wait()
		c.runs.Done()
		close(l.done)
	}()
	if err := l.start(ctx); err != nil {
		l.end(nil)
		return nil, err
	}
	l.mu.Lock()
	l.release = append(l.release,
		context.AfterFunc(ctx, func() { _ = l.Close() }), context.AfterFunc(c.wind, func() { _ = l.Close() }))
	l.mu.Unlock()
	return l, nil
}

func (c *Client) newListener(pattern string, o ListenOptions) *Listener {
	l := &Listener{c: c, pattern: pattern, o: o, done: make(chan struct{})}
	l.cond.L = &l.mu
	return l
}

// start subscribes on the live connection and waits for the answer.
func (l *Listener) start(ctx context.Context) error {
	for {
		cn, err := l.c.live(ctx)
		if err != nil {
			return err
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
		l.c.forgotten(ctx, cn)
	}
}

// listen subscribes unless it has; reply is called once.
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
	id := cn.nextIDLocked()
	cn.appendLocked(wire.OpListen, 0, id, wire.Listen{Pattern: l.pattern, Queue: l.o.Queue}.Append)
	cn.pending[id] = request{op: wire.OpListen, end: cn.queued, reply: func(_ *frame, err error) {
		if err != nil {
			cn.mu.Lock()
			delete(cn.listens, id)
			delete(cn.listening, l)
			cn.mu.Unlock()
		}
		reply(err)
	}}
	cn.settling++
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

// broken ends the subscription because the broker did.
func (l *Listener) broken(err error) {
	l.c.report(err)
	l.end(err)
}

// take keeps messages for the handlers. It is called on the connection's goroutine.
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

// listenedSize is about what a message takes while it waits.
func listenedSize(m *Message) int { return len(m.Value) + len(m.Subject) + 256 }

// takenAtOnce is how many messages a lone worker takes under one lock. Of several workers each takes one:
// the next message is for the one that is free next.
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
			h(l.c.ctx, m)
		}
	}
}

// next waits for messages and appends them to ms, none when there will be no more.
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

// Close stops listening and waits until the messages that arrived are handled. It must not be called by a
// handler. If the broker ended the subscription, Close returns why.
func (l *Listener) Close() error {
	l.end(nil)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done returns a channel that is closed when the listener has ended and its handlers have returned.
func (l *Listener) Done() <-chan struct{} { return l.done }

// end stops the subscription. The first reason counts.
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
	cn := l.c.conn
	l.c.mu.Unlock()
	if cn != nil {
		cn.unlisten(l)
	}
}

func (cn *conn) unlisten(l *Listener) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	id, ok := cn.listening[l]
	if !ok {
		return
	}
	delete(cn.listens, id)
	delete(cn.listening, l)
	if cn.err != nil {
		return
	}
	ask := cn.nextIDLocked()
	cn.appendLocked(wire.OpUnlisten, 0, ask, wire.Unlisten{Subscription: id}.Append)
	cn.pending[ask] = request{op: wire.OpUnlisten, end: cn.queued, reply: func(*frame, error) {}}
	cn.settling++
	cn.wakeWriter()
}
