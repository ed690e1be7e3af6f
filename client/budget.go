package client

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget bounds the bytes of messages that are not answered.
type budget struct {
	limit   int64
	used    atomic.Int64
	waiting atomic.Int32

	mu    sync.Mutex    // guards freed
	freed chan struct{} // closed and replaced when bytes return while somebody waits
}

func newBudget(limit int) *budget {
	return &budget{limit: int64(limit), freed: make(chan struct{})}
}

// acquire takes n bytes, and waits for them until ctx ends or open is closed. An n over the limit
// is granted when nothing else is taken.
func (b *budget) acquire(ctx context.Context, open <-chan struct{}, n int) error {
	if b.try(n) {
		return nil
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for {
		b.mu.Lock()
		freed := b.freed
		b.mu.Unlock()
		if b.try(n) {
			return nil
		}
		select {
		case <-freed:
		case <-open:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// try takes n bytes if they are free.
func (b *budget) try(n int) bool {
	for {
		used := b.used.Load()
		if used > 0 && used+int64(n) > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

// release gives n bytes back.
func (b *budget) release(n int) {
	b.used.Add(-int64(n))
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	close(b.freed)
	b.freed = make(chan struct{})
	b.mu.Unlock()
}
