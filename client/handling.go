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

	mu    sync.Mutex  // guards the fields below
	own   *cancelling // nil while nobody needs it
	ended bool        // the handler has returned, or the lease is lost
	lost  bool        // the lease was lost first
}

// cancelling is a context that ends with the handling.
type cancelling struct {
	context.Context
	cancel context.CancelCauseFunc
}

// open returns the context that can be cancelled.
func (h *handling) open() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.openLocked()
}

func (h *handling) openLocked() *cancelling {
	if h.own == nil {
		h.own = &cancelling{}
		h.own.Context, h.own.cancel = context.WithCancelCause(h.Context)
		if h.ended {
			h.own.cancel(h.causeLocked())
		}
	}
	return h.own
}

// opened returns the context that can be cancelled, or Run's while nobody needs it.
func (h *handling) opened() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own == nil && !h.ended {
		return h.Context
	}
	return h.openLocked()
}

// Done implements context.Context.
func (h *handling) Done() <-chan struct{} { return h.open().Done() }

// Err implements context.Context.
func (h *handling) Err() error { return h.opened().Err() }

// Value implements context.Context. Package context finds the cause and children through it.
func (h *handling) Value(key any) any { return h.opened().Value(key) }

// end ends the context, because the lease is lost or the handler has returned. What comes first counts.
func (h *handling) end(lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	h.ended, h.lost = true, lost
	if h.own != nil {
		h.own.cancel(h.causeLocked())
	}
}

// causeLocked is why the context ended.
func (h *handling) causeLocked() error {
	if h.lost {
		return errLeaseLost
	}
	return nil
}
