package partition

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// maxNap bounds how long the scheduler sleeps while messages wait, so that it notices a step of the wall clock.
	maxNap = 100 * time.Millisecond
	// fireGroup is how many partitions publish together: they share one wait for the disk.
	fireGroup = 16
	// loadRetry is the pause after a schedule, or the state of a partition, could not be read.
	loadRetry = 10 * time.Second
	// tidyEvery is how often space of companion logs is given back.
	tidyEvery = time.Second
	// tidyAgain is the pause while messages are copied for that. Requests wait while the index is searched for them.
	tidyAgain = 50 * time.Millisecond
	// defaultMaxScheduled keeps the index of all messages below 240 MB.
	defaultMaxScheduled = 10_000_000
)

// scheduler publishes scheduled messages, with one goroutine for all partitions.
type scheduler struct {
	clock  *slewClock
	logger *slog.Logger
	limit  int64                                             // of pending
	fired  func(t *Topic, b *wire.Batch, late time.Duration) // may be nil
	wake   chan struct{}                                     // holds one ring
	zones  zones

	pending atomic.Int64  // messages that wait
	done    atomic.Uint64 // messages published
	lost    atomic.Uint64 // messages that were unreadable or refused

	mu    sync.Mutex // guards all and fresh
	all   map[*schedule]struct{}
	fresh []*schedule // to be loaded

	warned bool // a refusal was logged since the last tidyAll; used by the scheduler's goroutine only
}

func newScheduler(o *Options) *scheduler {
	sc := &scheduler{
		logger: o.Logger, limit: int64(o.MaxScheduled), fired: o.Fired,
		wake: make(chan struct{}, 1), all: map[*schedule]struct{}{},
	}
	sc.clock = newSlewClock(o.Now, func(by time.Duration) {
		sc.logger.Warn("the wall clock jumped; scheduled messages follow it slowly", "took", by)
	})
	return sc
}

// SchedulerStats are the counters of the scheduler since the broker started.
type SchedulerStats struct {
	Pending    int64  // messages that wait now
	Published  uint64 // messages published
	Lost       uint64 // messages that were unreadable when due, or that the topic refused for good
	ClockSteps uint64 // steps of the wall clock by more than a second
	Unread     int    // partitions whose scheduled messages could not be read; that is tried again
}

// SchedulerStats returns a snapshot of the scheduler's counters.
func (r *Registry) SchedulerStats() SchedulerStats {
	sc := r.scheduler
	return SchedulerStats{
		Pending: sc.pending.Load(), Published: sc.done.Load(), Lost: sc.lost.Load(), ClockSteps: sc.clock.Steps(),
		Unread: sc.unread(),
	}
}

// unread counts the schedules that could not be read and are tried again. The logs of those that are damaged refuse
// writes, and are counted with the logs.
func (sc *scheduler) unread() (n int) {
	for _, s := range sc.schedules() {
		if s.failed.Load() != nil && !s.store.log.Stats().ReadOnly {
			n++
		}
	}
	return n
}

// reserve counts n more messages, or returns an error when that would be too many.
func (sc *scheduler) reserve(n uint64) error {
	if sc.pending.Add(int64(n)) > sc.limit {
		sc.pending.Add(-int64(n))
		return wire.Errorf(wire.CodeLimit, "the broker has room for %d scheduled messages", sc.limit)
	}
	return nil
}

// ring wakes the scheduler's goroutine.
func (sc *scheduler) ring() {
	select {
	case sc.wake <- struct{}{}:
	default:
	}
}

// add gives s to the scheduler, which loads it if necessary.
func (sc *scheduler) add(s *schedule) {
	sc.mu.Lock()
	sc.all[s] = struct{}{}
	if !s.loaded.Load() {
		sc.fresh = append(sc.fresh, s)
	}
	sc.mu.Unlock()
	sc.ring()
}

// run loads schedules and publishes what is due until stop is closed.
func (sc *scheduler) run(stop <-chan struct{}) {
	nap := time.NewTimer(0)
	defer nap.Stop()
	tidyAt := time.Time{}
	for {
		now := sc.clock.Now()
		sc.loadAll(now)
		if !sc.turn(now, stop) {
			return
		}
		if !now.Before(tidyAt) {
			tidyAt = now.Add(sc.tidyAll(now))
			sc.warned = false
		}
		wait, any := sc.idle()
		wait = max(0, min(wait, tidyAt.Sub(sc.clock.Now())))
		if any {
			nap.Reset(wait)
		} else {
			nap.Stop()
		}
		select {
		case <-stop:
			return
		case <-sc.wake:
		case <-nap.C:
		}
	}
}

// idle returns how long to sleep, and false when only a ring can bring work.
func (sc *scheduler) idle() (wait time.Duration, any bool) {
	now := sc.clock.Now()
	wait = maxNap
	for _, s := range sc.schedules() {
		at, ok := s.nextTurn()
		if ok {
			wait = min(wait, max(0, at.Sub(now)))
		}
		any = any || ok || s.unread() || len(s.waiting) > 0 || s.store.log.Stats().Bytes >= tidyBytes
	}
	return wait, any
}

// nextTurn returns when there is something to publish, and false when nothing waits. What was refused is tried again after
// a pause.
func (s *schedule) nextTurn() (at time.Time, ok bool) {
	if len(s.stuck) > 0 {
		return s.retryAt, true
	}
	due := s.earliest.Load()
	if due == noDue {
		return at, false
	}
	if at = time.UnixMilli(due); at.Before(s.retryAt) {
		at = s.retryAt
	}
	return at, true
}

func (sc *scheduler) schedules() []*schedule {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	list := make([]*schedule, 0, len(sc.all))
	for s := range sc.all {
		list = append(list, s)
	}
	return list
}

// drop forgets a schedule whose topic was deleted.
func (sc *scheduler) drop(s *schedule) {
	sc.mu.Lock()
	delete(sc.all, s)
	sc.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	sc.pending.Add(-int64(s.index.messages))
	s.index = scheduleIndex{}
	s.earliest.Store(noDue)
}

// loadAll loads the schedules that are not loaded yet. What could not be read is tried again after loadRetry.
func (sc *scheduler) loadAll(now time.Time) {
	sc.mu.Lock()
	list := sc.fresh
	sc.fresh = nil
	sc.mu.Unlock()
	var again []*schedule
	for _, s := range list {
		if now.Before(s.retryAt) || !s.tryLoad(now) {
			again = append(again, s)
		}
	}
	sc.mu.Lock()
	sc.fresh = append(sc.fresh, again...)
	sc.mu.Unlock()
}

// turn publishes what is due. It returns false when stop is closed. Then a round may be logged and not published, and
// there must be no later one: a restart that finds a later round published takes this one for published, too.
func (sc *scheduler) turn(now time.Time, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return false
	default:
	}
	var group []*schedule
	for _, s := range sc.schedules() {
		if s.target.Err() != nil {
			sc.drop(s)
			continue
		}
		if !s.loaded.Load() || now.Before(s.retryAt) {
			continue
		}
		if len(s.stuck) == 0 && s.earliest.Load() <= now.UnixMilli() {
			if !s.collect(now) {
				continue
			}
			s.store.Flush(s.firedLevel())
		} else if len(s.stuck) == 0 {
			continue
		}
		if group = append(group, s); len(group) == fireGroup {
			if !sc.publish(group, stop) {
				return false
			}
			group = group[:0]
		}
	}
	return sc.publish(group, stop)
}

// publish waits until the fired entries of the group's rounds have reached firedLevel, and publishes the rounds. It
// returns false when stop was closed before.
func (sc *scheduler) publish(group []*schedule, stop <-chan struct{}) bool {
	for _, s := range group {
		for {
			s.watcher.Arm()
			if len(s.round.list) == 0 || s.written() || s.target.Err() != nil {
				break
			}
			select {
			case <-sc.wake:
			case <-stop:
				return false
			}
		}
		s.publishRound(sc.clock.Now())
	}
	if len(group) > 0 {
		sc.ring() // rings were consumed above, and more may be due by now
	}
	return true
}

// published counts a batch that was published, and tells Options.Fired.
func (sc *scheduler) published(t *Topic, b *readyBatch, now time.Time) {
	sc.done.Add(b.of.count())
	if sc.fired == nil {
		return
	}
	if batch, err := wire.ViewBatch(b.raw); err == nil {
		sc.fired(t, &batch, now.Sub(time.UnixMilli(b.of.due)))
	}
}
