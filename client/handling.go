package client

import (
	"context"
	"sync"
)

// handling is the context of the handler of a message from a queue. It ends with the Run, when the
// lease is lost, or when the handler has returned. The context that can be cancelled is made only
// when somebody waits for it, because most handlers return before.
type handling struct {
	context.Context // the context of the Run

	mu    sync.Mutex  // guards the fields below
	own   *cancelling // the context that can be cancelled; nil while nobody needs it
	ended bool        // the handler has returned, or the lease is lost
	lost  bool        // the lease was lost before the handler returned
}

// cancelling is a context that ends with the handling.
type cancelling struct {
	context.Context
	cancel context.CancelCauseFunc
}

// openLocked returns the context that can be cancelled.
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

// opened returns the context that can be cancelled, or that of the Run while nobody needs it.
func (h *handling) opened() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own == nil && !h.ended {
		return h.Context
	}
	return h.openLocked()
}

// Done implements context.Context.
func (h *handling) Done() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.openLocked().Done()
}

// Err implements context.Context.
func (h *handling) Err() error { return h.opened().Err() }

// Value implements context.Context. Package context uses it to find the cause, and to link
// children.
func (h *handling) Value(key any) any { return h.opened().Value(key) }

// end ends the context, because the lease is lost or the handler has returned. Only the first call
// counts.
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

// causeLocked returns the cause of the cancelled context.
func (h *handling) causeLocked() error {
	if h.lost {
		return errLeaseLost
	}
	return nil
}
