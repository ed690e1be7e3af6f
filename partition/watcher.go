package partition

import (
	"slices"
	"sync/atomic"
)

// Watcher is called once after Arm when a partition changes: records became visible, an index became durable, a
// redelivery came due, or the partition failed or was deleted. Its owner then looks at the partition and arms the
// watcher again.
//
// The order Arm, look, wait misses nothing: a change before Arm is seen by the look, and a change after Arm fires
// the watcher.
type Watcher struct {
	fire  func()
	armed atomic.Bool
}

// NewWatcher returns a watcher that calls fire. fire may run on any goroutine, often the one that publishes. It
// must not block, and must not take a lock that is held around Publish.
func NewWatcher(fire func()) *Watcher { return &Watcher{fire: fire} }

// Arm makes the next change fire the watcher.
func (w *Watcher) Arm() { w.armed.Store(true) }

// Watch registers w, disarmed.
func (p *Partition) Watch(w *Watcher) {
	p.watchMu.Lock()
	defer p.watchMu.Unlock()
	next := append(slices.Clone(p.watching()), w)
	p.watchers.Store(&next)
}

// Unwatch removes w, which may still fire once afterwards.
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
