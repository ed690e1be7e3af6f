package client

import (
	"context"
	"sync"
)

// handling is the context of the handler of a queue's message: Run's, until the lease is lost or the
// handler has returned. What it takes to be cancelled is made when somebody waits for that, because most
// handlers are done first.
type handling struct {
	context.Context // Run's

	mu     sync.Mutex // guards the fields below
	inner  context.Context
	cancel context.CancelCauseFunc
	ended  bool
	cause  error // why it ended
}

// open returns the context that can be cancelled.
func (h *handling) open() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inner == nil {
		h.inner, h.cancel = context.WithCancelCause(h.Context)
		if h.ended {
			h.cancel(h.cause)
		}
	}
	return h.inner
}

// opened returns the context that can be cancelled, or Run's while nobody needs it.
func (h *handling) opened() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inner == nil && !h.ended {
		return h.Context
	}
	if h.inner == nil {
		h.inner, h.cancel = context.WithCancelCause(h.Context)
		h.cancel(h.cause)
	}
	return h.inner
}

// Done implements context.Context.
func (h *handling) Done() <-chan struct{} { return h.open().Done() }

// Err implements context.Context.
func (h *handling) Err() error { return h.opened().Err() }

// Value implements context.Context. Package context finds the cause and children through it.
func (h *handling) Value(key any) any { return h.opened().Value(key) }

// end ends the context. The first cause counts; nil says that the handler has returned.
func (h *handling) end(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	h.ended, h.cause = true, cause
	if h.cancel != nil {
		h.cancel(cause)
	}
}
