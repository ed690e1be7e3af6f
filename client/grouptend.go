package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// task is the work on one partition in one tenure. The worker that took it owns it.
type task struct {
	place  place
	tenure tenure
	feed   *feed
	part   *part
	ctx    context.Context // of the handlers
	cancel context.CancelCauseFunc

	// What follows is guarded by crew.mu.
	arrived []delivery
	busy    bool        // a worker, a pause or the ready list has the task
	rest    *time.Timer // ends the pause
	halted  bool        // the task takes no more messages
	lost    bool        // the task commits nothing any more
	ending  bool        // release has the task
	grace   *time.Timer // cancels ctx when a handler takes too long

	halting atomic.Bool // equals halted; read for every message without a lock

	// What follows belongs to the worker that owns the task.
	open     *delivery
	walk     *cursor
	msg      Message
	retrying bool      // msg has failed and must be handled again
	failed   time.Time // when msg first failed, if it did

	done      atomic.Uint64 // all offsets before it are handled
	committed uint64        // the committed offset; guarded by groupRun.progress
}

// tend keeps the tasks equal to the assignment, and the membership alive, until stop is called.
// stop waits for what is in progress.
func (r *groupRun) tend() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	beginning, stopBeginning := context.WithCancel(r.ctx)
	releasing, stopReleasing := context.WithCancel(r.ctx)
	wg.Go(func() {
		beat := time.NewTicker(r.member.every)
		defer beat.Stop()
		for {
			select {
			case <-r.tendWake:
			case <-beat.C:
				r.member.check()
				r.member.beat()
			case <-done:
				return
			}
			if r.reconcile(beginning, releasing) {
				r.member.beat()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		stopBeginning()
		late := time.AfterFunc(finishTime, stopReleasing)
		r.jobs.Wait()
		late.Stop()
		stopReleasing()
	}
}

// working returns the partitions that are worked on.
func (r *groupRun) working() map[place]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	places := make(map[place]struct{}, len(r.tasks)+len(r.opening))
	for p := range r.tasks {
		places[p] = struct{}{}
	}
	for p := range r.opening {
		places[p] = struct{}{}
	}
	return places
}

// reconcile begins and ends tasks so that they equal the assignment. It returns true when the
// assignment is new: then the broker should be told soon which partitions are not worked on.
func (r *groupRun) reconcile(beginning, releasing context.Context) (fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.member.current()
	fresh = now.revision != r.seen
	r.seen = now.revision
	var free []*task
	for p, t := range r.tasks {
		switch g, mine := now.parts[p]; {
		case mine && g.tenure != t.tenure: // a seek, or another broker
			t.lost = true
			r.haltLocked(t)
		case !mine && (t.lost || now.revision == 0):
			r.loseLocked(t)
		case !mine || g.paused:
			r.haltLocked(t)
		}
		if t.halted && !t.busy && !t.ending {
			t.ending = true
			free = append(free, t)
		}
	}
	if held := now.isHeld(); r.held.Swap(held) && !held { // tasks of other tenures are halted by now
		r.cond.Broadcast()
	}
	if len(free) > 0 {
		r.jobs.Go(func() { r.release(releasing, free) })
	}
	if r.stoppedLocked() {
		return fresh
	}
	topics := map[string]map[place]grant{}
	for p, g := range now.parts {
		if _, opening := r.opening[p]; opening || r.tasks[p] != nil || g.paused {
			continue
		}
		r.opening[p] = struct{}{}
		if topics[p.topic] == nil {
			topics[p.topic] = map[place]grant{}
		}
		topics[p.topic][p] = g
	}
	for topic, parts := range topics {
		r.jobs.Go(func() { r.begin(beginning, topic, parts) })
	}
	return fresh
}

// hold makes workers begin no message when the broker stops, or cannot be reached, that gave the member its assignment.
// The tasks stay, so the member claims their partitions when it joins again; reconcile ends the hold.
func (r *groupRun) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.member.current().isHeld() {
		r.held.Store(true)
	}
}

// settle commits what is handled, and then what the handlers finish that were running.
func (r *groupRun) settle(ctx context.Context) {
	r.commit(ctx, r.running())
	for r.atHand() > 0 {
		select {
		case <-r.parked:
		case <-ctx.Done():
			return
		}
	}
	r.commit(ctx, r.running())
}

// atHand returns how many tasks workers have.
func (r *groupRun) atHand() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tasks {
		if t.busy && t.rest == nil {
			n++
		}
	}
	return n - len(r.ready)
}

// parkedLocked tells settle that a worker has given a task back.
func (r *groupRun) parkedLocked() {
	if r.held.Load() {
		signal(r.parked)
	}
}

// haltLocked makes a task take no more messages. Its handler may go on for the hand-over time.
func (r *groupRun) haltLocked(t *task) {
	if t.halted {
		return
	}
	t.halted = true
	t.halting.Store(true)
	if t.rest != nil && t.rest.Stop() {
		t.busy, t.rest = false, nil
	}
	if i := slices.Index(r.ready, t); i >= 0 { // do not wait for a worker, all of them may be busy for long
		r.ready = slices.Delete(r.ready, i, i+1)
		t.busy = false
	}
	t.grace = time.AfterFunc(r.s.HandoverTimeout, func() { t.cancel(ErrPartitionLost) })
}

// loseLocked ends a task whose partition another member owns.
func (r *groupRun) loseLocked(t *task) {
	t.lost = true
	r.haltLocked(t)
	t.cancel(ErrPartitionLost)
}

// release ends tasks that nobody works on: it commits their progress, and tells the broker that
// their partitions are free. When ctx ends, the tasks are left to end.
func (r *groupRun) release(ctx context.Context, free []*task) {
	for _, t := range free {
		t.feed.close()
	}
	bounded, cancel := context.WithTimeout(ctx, r.s.HandoverTimeout)
	defer cancel()
	r.commit(bounded, free)
	if ctx.Err() != nil {
		return
	}
	r.forfeitAll(free)
	r.mu.Lock()
	for _, t := range free {
		r.dropLocked(t)
	}
	r.mu.Unlock()
	r.member.beat()
	r.wakeTend()
}

// dropLocked removes a task and recycles its memory.
func (r *groupRun) dropLocked(t *task) {
	if r.tasks[t.place] == t {
		delete(r.tasks, t.place)
	}
	if t.walk != nil {
		r.cursors.Put(t.walk)
		t.walk = nil
	}
	if t.open != nil {
		t.arrived, t.open = append(t.arrived, *t.open), nil
	}
	for i := range t.arrived {
		if d := &t.arrived[i]; d.buf != nil {
			t.part.release(d)
		}
	}
	t.arrived = nil
	if t.grace != nil {
		t.grace.Stop()
	}
	t.cancel(ErrPartitionLost)
}

// begin starts to read partitions of one topic, at the group's position.
func (r *groupRun) begin(ctx context.Context, topic string, parts map[place]grant) {
	s, err := r.starts(ctx, topic, parts)
	if !r.started(ctx, parts, s, err) {
		r.member.beat() // some of them are another member's by now
	}
}

// started makes tasks of the partitions that begin looked up. It returns false when some of them
// are not assigned any more.
func (r *groupRun) started(ctx context.Context, parts map[place]grant, s starts, err error) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = true
	for p := range parts {
		delete(r.opening, p)
	}
	switch {
	case err == nil:
		now := r.member.current()
		window := max(leastCredit, r.s.CreditBytes/max(1, len(now.parts)))
		for p, g := range parts {
			if now.parts[p] != g {
				all = false
			} else if !r.stoppedLocked() {
				r.startLocked(p, g.tenure, s, window)
			}
		}
	case ctx.Err() != nil || superseded(err): // a new assignment will arrive
	case retryLater(err) || errors.Is(err, ErrConnectionLost) || errors.Is(err, context.DeadlineExceeded):
		r.c.report(err)
	default:
		r.stopLocked(err)
	}
	if err != nil {
		time.AfterFunc(r.member.every/2, r.wakeTend)
		return false
	}
	r.wakeTend()
	return all
}

// superseded reports whether err means that an assignment does not hold any more: another member has the partitions, or
// another topic has the name and does not have them.
func superseded(err error) bool {
	code := wire.CodeOf(err)
	return code == wire.CodeFenced || code == wire.CodePartitionNotFound
}

// starts is where a group is in partitions of one topic.
type starts struct {
	id     [16]byte // of the topic: another one of its name has other messages
	offset map[place]uint64
}

// starts returns the position of the group in each partition. Where the group has none, it commits
// the source's start at once: another member that takes over before the first commit must not start
// anywhere else, and the broker can report the lag.
func (r *groupRun) starts(ctx context.Context, topic string, parts map[place]grant) (starts, error) {
	committed, id, err := r.c.committed(ctx, r.s.Name, topic)
	if err != nil {
		return starts{}, err
	}
	s := starts{id: id, offset: make(map[place]uint64, len(parts))}
	var unknown []int
	for p := range parts {
		n := int(p.partition)
		if offset, ok := committed[n]; ok {
			s.offset[p] = offset
			continue
		}
		unknown = append(unknown, n)
	}
	replies, err := r.c.offsetsOf(ctx, topic, unknown, r.s.From, r.s.Name)
	if err != nil {
		return starts{}, err
	}
	fresh := map[tenure]map[int]uint64{}
	for i, o := range replies {
		p := place{topic, uint16(unknown[i])}
		s.offset[p] = o.Offset
		during := parts[p].tenure
		if fresh[during] == nil {
			fresh[during] = map[int]uint64{}
		}
		fresh[during][unknown[i]] = o.Offset
	}
	for tenure, offsets := range fresh {
		if err := r.c.commit(ctx, r.s.Name, commitKey{topic, id, tenure}, offsets); err != nil {
			return starts{}, err
		}
	}
	return s, nil
}

func (r *groupRun) startLocked(p place, during tenure, s starts, window int) {
	from := s.offset[p]
	t := &task{place: p, tenure: during, committed: from}
	t.done.Store(from)
	t.ctx, t.cancel = context.WithCancelCause(r.ctx)
	t.feed = r.c.newFeed(p.topic, window, map[int]uint64{int(p.partition): from}, func(d delivery) { r.arrive(t, d) })
	t.feed.id = s.id
	t.part = t.feed.parts[0]
	r.tasks[p] = t
	r.jobs.Go(func() {
		if err := t.feed.start(); err != nil {
			r.stop(err)
		}
	})
}

// end stops all tasks and commits their progress.
func (r *groupRun) end(ctx context.Context) {
	r.mu.Lock()
	tasks := make([]*task, 0, len(r.tasks))
	for _, t := range r.tasks {
		r.haltLocked(t)
		tasks = append(tasks, t)
	}
	r.mu.Unlock()
	for _, t := range tasks {
		t.feed.close()
	}
	r.commit(ctx, tasks)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tasks {
		r.dropLocked(t)
	}
}
