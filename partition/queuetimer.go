package partition

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/group"
)

const (
	// timerInterval is how exactly lease expiry and redelivery keep their time.
	timerInterval = 10 * time.Millisecond
	// timerNap is how often queues are looked at of which none needs that soon.
	timerNap = time.Second
)

// queueTimer expires the leases of all queues and wakes workers whose redeliveries came due. While no
// queue needs the clock soon, it sleeps: an idle broker costs nothing.
type queueTimer struct {
	now     func() time.Time
	rest    time.Duration // timerNap
	napping atomic.Bool   // rouse has to ring
	wake    chan struct{} // holds one ring

	mu         sync.Mutex // guards partitions
	partitions map[*Partition]struct{}
	scan       []*Partition // reused by run
}

func newQueueTimer(now func() time.Time) queueTimer {
	return queueTimer{now: now, rest: timerNap, wake: make(chan struct{}, 1), partitions: map[*Partition]struct{}{}}
}

// add has the timer look after p, which has queues.
func (t *queueTimer) add(p *Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions[p] = struct{}{}
}

// rouse is called behind a change that may need the clock soon.
func (t *queueTimer) rouse() {
	if !t.napping.Load() || !t.napping.CompareAndSwap(true, false) {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default: // one is on its way
	}
}

// run drives every partition with queues until stop is closed.
func (t *queueTimer) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		t.napping.Store(true) // before the look: what comes behind it rings
		if !t.tick() && t.nap(timer, stop) {
			return
		}
		t.napping.Store(false)
		timer.Reset(timerInterval)
	}
}

// nap waits for a while, or until somebody rings. It reports whether stop was closed.
func (t *queueTimer) nap(timer *time.Timer, stop <-chan struct{}) (stopped bool) {
	timer.Reset(t.rest)
	select {
	case <-stop:
		return true
	case <-timer.C:
	case <-t.wake:
	}
	return false
}

// tick looks at every partition once and reports whether one needs the next look soon.
func (t *queueTimer) tick() (soon bool) {
	now := t.now()
	for _, p := range t.alive() {
		next, ok := p.tick(now)
		soon = soon || ok && next.Before(now.Add(t.rest+timerInterval))
	}
	return soon
}

// alive returns the partitions that exist.
func (t *queueTimer) alive() []*Partition {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scan = t.scan[:0]
	for p := range t.partitions {
		if p.Err() != nil {
			delete(t.partitions, p)
			continue
		}
		t.scan = append(t.scan, p)
	}
	return t.scan
}

// tick follows retention, expires leases and wakes workers whose redeliveries came due. It returns when
// the next of these is due, and false when there is none.
func (p *Partition) tick(now time.Time) (next time.Time, ok bool) {
	if first := p.First(); first != p.seenFirst {
		p.seenFirst = first
		p.truncated()
	}
	next, due := p.expire(now)
	if due {
		p.moved()
	}
	return next, !next.IsZero()
}

// expire expires leases and reports whether anything was due. next is when the next thing is, zero for never.
// Messages that may be leased again are due at every look until they are, and need no next one: who leases
// them rings.
func (p *Partition) expire(now time.Time) (next time.Time, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.state.Queues() {
		at, ok := q.Deadline()
		if ok && !at.After(now) {
			due = true
			p.expireLocked(q, now)
			if at, ok = q.Deadline(); ok && !at.After(now) {
				at, ok = q.Expiry()
			}
		}
		if ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, due
}

func (p *Partition) expireLocked(q *group.Queue, now time.Time) {
	command, n := q.PlanExpire(p.command[:0], now)
	if n == 0 {
		return
	}
	// A refused append leaves the leases expired; the next tick tries again.
	if _, err := p.logLocked(command, now); err == nil {
		p.buryLater(q)
	}
}
