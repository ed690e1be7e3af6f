package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// watch is everything on one loop that waits for one partition. It is a job that runs when the partition has changed.
type watch struct {
	loop    *loop
	p       *partition.Partition
	watcher *partition.Watcher
	acks    [2]ackQueue // those that wait for the kernel, and for the device
	subs    waiters[*subscription]
	polls   waiters[*poll]
	own     [1]*partition.Partition // p
}

// watch returns the loop's watch of p.
func (l *loop) watch(p *partition.Partition) *watch {
	w := l.watches[p]
	if w == nil {
		w = &watch{loop: l, p: p, own: [1]*partition.Partition{p}}
		w.watcher = partition.NewWatcher(func() { l.post(w) })
		l.watches[p] = w
		p.Watch(w.watcher)
	}
	return w
}

// idle reports whether nothing waits.
func (w *watch) idle() bool {
	return w.subs.len() == 0 && w.polls.len() == 0 && w.acks[0].len() == 0 && w.acks[1].len() == 0
}

// end stops watching.
func (w *watch) end() {
	w.p.Unwatch(w.watcher)
	delete(w.loop.watches, w.p)
}

// run continues everything that the change of the partition allows to continue.
func (w *watch) run(now time.Time) {
	w.loop.clock = now
	w.watcher.Arm()
	w.releaseAcks()
	w.subs.each((*subscription).push) // a write to a peer that is gone can end a subscription meanwhile
	w.polls.each(func(q *poll) { q.again(w.own[:], now) })
	if w.idle() {
		return
	}
	if err := w.p.Err(); err != nil {
		w.endAll(err)
	}
}

// endAll ends what waits for a partition that is gone.
func (w *watch) endAll(err error) {
	w.subs.each(func(sub *subscription) { sub.fail(asWireError(err)) })
	w.polls.each(func(q *poll) { q.fail(err) })
}

// await makes a wait until its entry has reached its level.
func (w *watch) await(a ack) {
	q := &w.acks[0]
	if a.level > wire.LevelOS {
		q = &w.acks[1]
	}
	idle := w.idle()
	q.push(a)
	w.loop.pending++
	if idle {
		w.arm(a.index, a.level)
	}
}

// arm arms the watcher, and then looks once at changes that came before.
func (w *watch) arm(index uint64, level wire.Level) {
	w.watcher.Arm()
	if w.p.Reached(index, level) || w.p.Failure() != nil {
		w.loop.post(w)
	}
}

// releaseAcks answers the acks whose level is reached and, after a storage failure, all others with an error.
func (w *watch) releaseAcks() {
	for i, level := range [...]wire.Level{wire.LevelOS, wire.LevelDisk} {
		q := &w.acks[i]
		for q.len() > 0 && w.p.Reached(q.items[q.head].index, level) {
			w.loop.answer(w.p, q.pop(), nil)
		}
	}
	if err := w.p.Failure(); err != nil {
		for i := range w.acks {
			for w.acks[i].len() > 0 {
				w.loop.answer(w.p, w.acks[i].pop(), err)
			}
		}
	}
}
