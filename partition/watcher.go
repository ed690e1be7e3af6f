package partition

import (
	"slices"
	"sync/atomic"
)

// Watcher is told once, after Arm, that a partition moved: records became visible, an index became
// durable, a lease came due, or the partition failed or was deleted. Its owner then looks at the
// partition and arms it again.
//
// The order that loses nothing: Arm, look, wait. A move after Arm fires the watcher; a move before
// it is seen by the look.
type Watcher struct {
	fire  func()
	armed atomic.Bool
}

// NewWatcher returns a watcher that calls fire. fire runs on any goroutine, often on the one that
// publishes; it must not block and must not take locks that are held around Publish.
func NewWatcher(fire func()) *Watcher { return &Watcher{fire: fire} }

// Arm lets the next move fire the watcher.
func (w *Watcher) Arm() { w.armed.Store(true) }

// Watch registers w, disarmed.
func (p *Partition) Watch(w *Watcher) {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	next := append(slices.Clone(p.watching()), w)
	p.watchers.Store(&next)
}

// Unwatch removes w. It may still fire once afterwards.
func (p *Partition) Unwatch(w *Watcher) {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	next := slices.DeleteFunc(slices.Clone(p.watching()), func(o *Watcher) bool { return o == w })
	p.watchers.Store(&next)
}

func (p *Partition) watching() []*Watcher {
	if l := p.watchers.Load(); l != nil {
		return *l
	}
	return nil
}

// moved fires the armed watchers.
func (p *Partition) moved() {
	for _, w := range p.watching() {
		if w.armed.Load() && w.armed.CompareAndSwap(true, false) {
			w.fire()
		}
	}
}
