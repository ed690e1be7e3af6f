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

// Run reads the source and calls h for every message. It ends when ctx ends, h returns ErrStop, the
// client is closed, or reading has become impossible, for example because the topic was deleted. It
// then waits for the running handlers, and commits or acknowledges what they finished, for at most 5
// seconds if the broker does not answer. It returns nil after ErrStop, ErrClosed after Close, the
// cause of ctx, or the reason why reading is impossible.
//
// A message is committed only after its handler has returned, so every message is handled at least
// once. When the broker announces that it stops, no further message is begun until the member has
// joined again, and what is handled is committed. Nor is one begun when there has been no connection
// for 0.75 s, because others may have the partitions by then. A message is handled again after a crash, or when
// the connection is lost before the commit. It is also handled again when the broker restarts just
// before the run ends: the broker does not know the member any more and refuses the last commit,
// which is reported to Options.OnError.
func (c *Client) Run(ctx context.Context, s Source, h Handler) error {
	s = s.withDefaults()
	if err := s.validate(); err != nil {
		return err
	}
	h, err := s.wrap(h)
	if err != nil {
		return err
	}
	if !c.beginRun() {
		return ErrClosed
	}
	defer c.runs.Done()
	h = guard(h, c.report)
	if s.queue {
		return c.runQueue(ctx, s, h)
	}
	return c.runGroup(ctx, s, h)
}

// beginRun makes Close wait until c.runs.Done is called. It returns false when the client is
// closing.
func (c *Client) beginRun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.runs.Add(1)
	return true
}

// opening returns a context for what a run needs before it begins: it ends with ctx, or when the client begins to
// close, which would otherwise wait for a broker as long as the run does.
func (c *Client) opening(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.open, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// crew is the workers of a Run, and when they stop. Whoever has work for them calls wake.
type crew struct {
	c      *Client
	ctx    context.Context // of the handlers
	cancel context.CancelCauseFunc

	stopped atomic.Bool   // set under mu
	quit    chan struct{} // closed when stopped is set

	mu   sync.Mutex // guards the fields below and what the crew works on
	cond sync.Cond  // of mu
	err  error      // why the crew stopped
}

// gather starts a crew that stops with ctx or when the client begins to close. dismiss must be
// called when the workers have ended.
func (c *Client) gather(ctx context.Context) (cr *crew, dismiss func()) {
	cr = &crew{c: c, quit: make(chan struct{})}
	cr.cond.L = &cr.mu
	cr.ctx, cr.cancel = context.WithCancelCause(ctx)
	stops := []func() bool{
		context.AfterFunc(ctx, func() { cr.stop(context.Cause(ctx)) }),
		context.AfterFunc(c.open, func() { cr.stop(ErrClosed) }),
		context.AfterFunc(c.ctx, func() { cr.cancel(ErrClosed) }),
	}
	return cr, func() {
		for _, stop := range stops {
			stop()
		}
		cr.cancel(nil)
	}
}

// stop makes the workers end after the messages that they are handling. Only the first reason
// counts.
func (cr *crew) stop(err error) {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	cr.stopLocked(err)
}

func (cr *crew) stopLocked(err error) {
	if !cr.stopped.Load() {
		cr.err = err
		cr.stopped.Store(true)
		close(cr.quit)
		cr.cond.Broadcast()
	}
}

func (cr *crew) wake() {
	cr.mu.Lock()
	cr.cond.Broadcast()
	cr.mu.Unlock()
}

// isStopped reports whether the crew has stopped. It is cheap enough to be asked for every message.
func (cr *crew) isStopped() bool {
	if cr.stopped.Load() {
		return true
	}
	if cr.ctx.Err() == nil && cr.c.open.Err() == nil {
		return false
	}
	cr.mu.Lock()
	defer cr.mu.Unlock()
	return cr.stoppedLocked()
}

// stoppedLocked reports whether the crew has stopped. It does not rely on the goroutine that calls
// stop when a context ends.
func (cr *crew) stoppedLocked() bool {
	if !cr.stopped.Load() && cr.ctx.Err() != nil {
		cr.stopLocked(context.Cause(cr.ctx))
	}
	if !cr.stopped.Load() && cr.c.open.Err() != nil {
		cr.stopLocked(ErrClosed)
	}
	return cr.stopped.Load()
}

// work runs n workers until the crew stops, and returns the reason; nil for ErrStop.
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

// interrupted reports whether a handler failed with err because ctx, its own or its run's, has ended. That says
// nothing about its message.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

// finishing returns a context for the work that is left when ctx has ended.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTime)
}
