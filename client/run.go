package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// finishTime bounds what Run does after its context has ended: the last commit or acknowledgements.
const finishTime = 5 * time.Second

// Run reads the source and calls h for every message, until ctx ends, h returns ErrStop, the client is
// closed, or reading becomes impossible, for example because the topic was deleted. It then waits for the
// running handlers, and commits or acknowledges what they finished. Run returns nil after ErrStop,
// ErrClosed after Close, the context's cause, or what made reading impossible. A message is never committed
// before its handler has returned.
//
// Every message is handled at least once: a crash, or a connection lost before the commit, causes messages
// to be handled again. So does a restart of the broker just before the run ends, when the broker does not
// know the member any more: the last commit is refused, and reported to Options.OnError.
func (c *Client) Run(ctx context.Context, s Source, h Handler) error {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return err
	}
	if !c.beginRun() {
		return ErrClosed
	}
	defer c.runs.Done()
	h = s.guard(h, c.report)
	if s.queue {
		return c.runQueue(ctx, s, h)
	}
	return c.runGroup(ctx, s, h)
}

// beginRun has Close wait for a run, until c.runs is told that it ended. It returns false when the client
// is closing.
func (c *Client) beginRun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.runs.Add(1)
	return true
}

// crew is the workers of a Run. Whoever has work for them calls wake.
type crew struct {
	c      *Client
	ctx    context.Context // of the handlers
	cancel context.CancelCauseFunc

	ending atomic.Bool   // stopped, to be asked for every message
	quit   chan struct{} // closed then

	mu      sync.Mutex // guards the fields below and what the crew works on
	cond    sync.Cond  // of mu
	stopped bool
	over    atomic.Bool // stopped, to be read without mu
	err     error       // why
}

// gather starts a crew that stops with ctx or when the client begins to close. dismiss must be called
// when its workers are gone.
func (c *Client) gather(ctx context.Context) (cr *crew, dismiss func()) {
	cr = &crew{c: c, quit: make(chan struct{})}
	cr.cond.L = &cr.mu
	cr.ctx, cr.cancel = context.WithCancelCause(ctx)
	stops := []func() bool{
		context.AfterFunc(ctx, func() { cr.stop(context.Cause(ctx)) }),
		context.AfterFunc(c.wind, func() { cr.stop(ErrClosed) }),
		context.AfterFunc(c.ctx, func() { cr.cancel(ErrClosed) }),
	}
	return cr, func() {
		for _, stop := range stops {
			stop()
		}
		cr.cancel(nil)
	}
}

// stop has the workers end after the messages they are handling. The first reason counts.
func (cr *crew) stop(err error) {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	cr.stopLocked(err)
	cr.cond.Broadcast()
}

func (cr *crew) stopLocked(err error) {
	if !cr.stopped {
		cr.stopped, cr.err = true, err
		cr.over.Store(true)
		cr.ending.Store(true)
		close(cr.quit)
	}
}

func (cr *crew) wake() {
	cr.mu.Lock()
	cr.cond.Broadcast()
	cr.mu.Unlock()
}

// halted reports whether the crew has stopped or is about to.
func (cr *crew) halted() bool {
	return cr.over.Load() || cr.ctx.Err() != nil || cr.c.wind.Err() != nil
}

// isStopped is cheap enough to be asked for every message.
func (cr *crew) isStopped() bool {
	if cr.ending.Load() {
		return true
	}
	if cr.ctx.Err() == nil && cr.c.wind.Err() == nil {
		return false
	}
	cr.mu.Lock()
	defer cr.mu.Unlock()
	return cr.stoppedLocked()
}

// stoppedLocked reports whether to end, without waiting for anybody to call stop.
func (cr *crew) stoppedLocked() bool {
	if !cr.stopped && cr.ctx.Err() != nil {
		cr.stopLocked(context.Cause(cr.ctx))
	}
	if !cr.stopped && cr.c.wind.Err() != nil {
		cr.stopLocked(ErrClosed)
	}
	return cr.stopped
}

// work runs n workers until the crew stops, and returns why it did; nil after ErrStop.
func (cr *crew) work(n int, worker func()) error {
	var wg sync.WaitGroup
	for range n {
		wg.Go(worker)
	}
	wg.Wait()
	cr.mu.Lock()
	defer cr.mu.Unlock()
	if errors.Is(cr.err, ErrStop) {
		return nil
	}
	return cr.err
}

// finishing returns the context for what is left to do after ctx may have ended.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTime)
}
