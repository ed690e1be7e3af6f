package partition

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/group"
)

const (
	// timerInterval is the precision of lease expiry and redelivery.
	timerInterval = 10 * time.Millisecond
	// expireRetry is the pause after the log has refused an expiry, which plans up to a quarter of a million ranges.
	expireRetry = 100 * time.Millisecond
	// timerNap is how often the timer looks at the queues while none needs it sooner.
	timerNap = time.Second
)

// queueTimer expires the leases of all queues, and wakes workers when redeliveries come due. It also forgets message ids
// that are older than the dedupe window. While nothing needs the clock soon it sleeps, so that an idle broker uses no
// CPU.
type queueTimer struct {
	now     func() time.Time
	rest    time.Duration // timerNap, unless a test changes it
	napping atomic.Bool   // the timer sleeps, or may be about to: rouse has to ring
	wake    chan struct{} // holds one ring

	mu         sync.Mutex // guards partitions
	partitions map[*Partition]struct{}
	scan       []*Partition // reused by run
	last       time.Time    // wall clock of the last tick; used by run
}

func newQueueTimer(now func() time.Time) queueTimer {
	return queueTimer{now: now, rest: timerNap, wake: make(chan struct{}, 1), partitions: map[*Partition]struct{}{}}
}

// add registers p, which has queues or message ids.
func (t *queueTimer) add(p *Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions[p] = struct{}{}
}

// rouse wakes the timer. It is called after every change that may need the clock soon.
func (t *queueTimer) rouse() {
	if !t.napping.Load() || !t.napping.CompareAndSwap(true, false) {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default: // a ring is pending
	}
}

// run drives every registered partition until stop is closed.
func (t *queueTimer) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		t.napping.Store(true) // before the look, so that a change after it rings
		if !t.tick() && t.nap(timer, stop) {
			return
		}
		t.napping.Store(false)
		timer.Reset(timerInterval)
	}
}

// nap waits until the rest is over or rouse rings. It reports whether stop was closed.
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

// tick looks at every partition once, and reports whether one needs another look before a rest would be over.
func (t *queueTimer) tick() (soon bool) {
	now := t.now()
	wall := now.Round(0)
	back := t.last.IsZero() || t.last.Sub(wall) > maxStep // it may have gone back while the broker was stopped
	t.last = wall
	for _, p := range t.alive() {
		if back {
			p.rewind(now)
		}
		next, ok := p.tick(now)
		soon = soon || ok && next.Before(now.Add(t.rest+timerInterval))
	}
	return soon
}

// alive returns the partitions that are usable and drops the others. The slice is valid until the next call.
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

// tick follows retention, expires leases, wakes workers when redeliveries came due or fresh messages have room again, and
// forgets message ids. It returns when the next of that is due, and false when there is none.
func (p *Partition) tick(now time.Time) (next time.Time, ok bool) {
	if first := p.First(); first != p.seenFirst {
		p.seenFirst = first
		p.truncated()
	}
	next, due := p.expire(now)
	if p.roomAgain() || due {
		p.moved()
	}
	if !now.Before(p.forgetAt) {
		p.forgetAt = now.Add(timerNap)
		if p.forgetIDs(now) {
			p.forgetAt, next = now, now
		}
	}
	return next, !next.IsZero()
}

// forgetIDs forgets some of the message ids that are older than the dedupe window, and reports whether there are more. The
// checkpoint of a partition that is idle keeps them until the last is forgotten.
func (p *Partition) forgetIDs(now time.Time) (more bool) {
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	s := &p.producers.ids
	if s.next == 0 {
		return false
	}
	more = s.forget(nowMs(now) - p.topic.Config().DedupeWindow.Milliseconds())
	if s.next == 0 {
		p.log.RefreshState()
	}
	return more
}

// rewind corrects the queues after the wall clock went back.
func (p *Partition) rewind(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.state.Queues() {
		q.Rewind(now)
	}
}

// expire expires leases, and reports whether an expiry or redelivery was due. next is when the next one is due, or zero
// when there is none. A redelivery stays due until the message is leased, and asks for no further look: a lease
// rouses the timer.
func (p *Partition) expire(now time.Time) (next time.Time, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.expireAt) {
		return p.expireAt, false
	}
	for _, q := range p.state.Queues() {
		at, ok := q.Deadline()
		if ok && !at.After(now) {
			due = true
			if !p.expireLocked(q, now) {
				p.expireAt = now.Add(expireRetry)
			}
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

// expireLocked expires the leases of one queue. It returns false when the log refuses that: the leases stay expired.
func (p *Partition) expireLocked(q *group.Queue, now time.Time) bool {
	command, n := q.PlanExpire(p.command[:0], now)
	if n == 0 {
		return true
	}
	if _, err := p.logLocked(command, now); err != nil {
		return false
	}
	p.buryLaterLocked(q)
	return true
}
