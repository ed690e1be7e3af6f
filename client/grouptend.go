package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// task is the work on one partition under one generation. The worker that took it owns it.
type task struct {
	place      place
	generation uint32
	feed       *feed
	part       *part
	ctx        context.Context // of the handlers
	cancel     context.CancelCauseFunc

	// What follows is guarded by crew.mu.
	arrived []delivery
	busy    bool        // a worker, a pause or the ready list has it
	rest    *time.Timer // of a pause
	halted  bool        // takes no more messages
	lost    bool        // nothing is committed any more
	ending  bool        // release has it
	grace   *time.Timer // ends the context of a handler that takes too long

	halting atomic.Bool // halted, to be asked for every message

	open     *delivery
	walk     *cursor
	msg      Message
	retrying bool // msg was handled and failed

	done      atomic.Uint64 // everything before is handled
	committed uint64        // guarded by groupRun.progress
}

// tend keeps what is worked on equal to what is assigned, and the membership alive, until the returned
// function is called. That waits for what is under way.
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
			case <-r.turn:
			case <-beat.C:
				r.member.check()
				r.member.beat()
			case <-done:
				return
			}
			if r.compare(beginning, releasing) {
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

// compare begins and ends work according to the assignment. It reports whether that is a new one: then
// the broker should hear soon what is not worked on.
func (r *groupRun) compare(beginning, releasing context.Context) (fresh bool) {
	now := r.member.current()
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh = now.revision != r.seen
	r.seen = now.revision
	var free []*task
	for p, t := range r.tasks {
		switch g, mine := now.parts[p]; {
		case mine && g.generation != t.generation: // a seek, or another broker
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

// haltLocked lets a task take no more messages. Its handler may finish within the hand-over time.
func (r *groupRun) haltLocked(t *task) {
	if t.halted {
		return
	}
	t.halted = true
	t.halting.Store(true)
	if t.rest != nil && t.rest.Stop() {
		t.busy, t.rest = false, nil
	}
	if i := slices.Index(r.ready, t); i >= 0 { // all workers may be busy for long
		r.ready = slices.Delete(r.ready, i, i+1)
		t.busy = false
	}
	t.grace = time.AfterFunc(r.s.HandoverTimeout, func() { t.cancel(ErrPartitionLost) })
}

// loseLocked ends a task whose partition is another member's.
func (r *groupRun) loseLocked(t *task) {
	t.lost = true
	r.haltLocked(t)
	t.cancel(ErrPartitionLost)
}

// release ends tasks that nobody works on: commits what they did, and has the broker know that they
// are free. When the run ends meanwhile they are left to end.
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
	r.mu.Lock()
	for _, t := range free {
		r.dropLocked(t)
	}
	r.mu.Unlock()
	r.member.beat()
	r.look()
}

// dropLocked forgets a task and gives its memory back.
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

// begin starts to read partitions of one topic where the group is, and where it begins when it is
// nowhere yet. That is committed at once: who takes over before the first commit must not begin
// anywhere else, and the lag is known.
func (r *groupRun) begin(ctx context.Context, topic string, parts map[place]grant) {
	starts, err := r.starts(ctx, topic, parts)
	if !r.started(ctx, parts, starts, err) {
		r.member.beat() // some of them are another member's by now
	}
}

// started makes tasks of what begin found out. It returns false when not all of it is still assigned.
func (r *groupRun) started(ctx context.Context, parts map[place]grant, starts map[place]uint64, err error) (all bool) {
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
				r.startLocked(p, g.generation, starts[p], window)
			}
		}
	case ctx.Err() != nil || wire.CodeOf(err) == wire.CodeFenced: // another assignment is on its way
	case retryLater(err) || errors.Is(err, ErrConnectionLost) || errors.Is(err, context.DeadlineExceeded):
		r.c.report(err)
	default:
		r.stopLocked(err)
		r.cond.Broadcast()
	}
	if err != nil {
		time.AfterFunc(r.member.every/2, r.look)
		return false
	}
	r.look()
	return all
}

func (r *groupRun) starts(ctx context.Context, topic string, parts map[place]grant) (map[place]uint64, error) {
	committed, err := r.c.Committed(ctx, r.s.Name, topic)
	if err != nil {
		return nil, err
	}
	starts := make(map[place]uint64, len(parts))
	fresh := map[uint32]map[int]uint64{} // by generation
	for p, g := range parts {
		n := int(p.partition)
		if offset, ok := committed[n]; ok {
			starts[p] = offset
			continue
		}
		o, err := r.c.offsets(ctx, topic, n, r.s.From, r.s.Name)
		if err != nil {
			return nil, err
		}
		starts[p] = o.Offset
		if fresh[g.generation] == nil {
			fresh[g.generation] = map[int]uint64{}
		}
		fresh[g.generation][n] = o.Offset
	}
	for generation, offsets := range fresh {
		if err := r.c.commit(ctx, r.s.Name, topic, generation, offsets); err != nil {
			return nil, err
		}
	}
	return starts, nil
}

func (r *groupRun) startLocked(p place, generation uint32, from uint64, window int) {
	t := &task{place: p, generation: generation, committed: from}
	t.done.Store(from)
	t.ctx, t.cancel = context.WithCancelCause(r.ctx)
	t.feed = r.c.newFeed(p.topic, window, map[int]uint64{int(p.partition): from}, func(d delivery) { r.arrive(t, d) })
	t.part = t.feed.parts[0]
	r.tasks[p] = t
	r.jobs.Go(func() {
		if err := t.feed.start(); err != nil {
			r.stop(err)
		}
	})
}

// end commits what was handled and stops reading.
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

// commitEvery commits in the background until the returned function is called.
func (r *groupRun) commitEvery(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.commit(ctx, r.running())
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (r *groupRun) running() []*task {
	r.mu.Lock()
	defer r.mu.Unlock()
	tasks := make([]*task, 0, len(r.tasks))
	for _, t := range r.tasks {
		if !t.ending {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// commitKey is what one commit is about.
type commitKey struct {
	topic      string
	generation uint32
}

// commit is store that reports errors.
func (r *groupRun) commit(ctx context.Context, tasks []*task) {
	if err := r.store(ctx, tasks); err != nil && ctx.Err() == nil {
		r.c.report(err)
	}
}

// behind reports whether something that is done of a task is not committed.
func (r *groupRun) behind(t *task) bool {
	r.progress.Lock()
	defer r.progress.Unlock()
	return t.done.Load() != t.committed
}

// store commits the progress that tasks made since the last commit, but of those that were lost.
func (r *groupRun) store(ctx context.Context, tasks []*task) error {
	r.progress.Lock()
	defer r.progress.Unlock()
	batches := map[commitKey][]*task{}
	r.mu.Lock()
	for _, t := range tasks {
		if !t.lost && t.done.Load() != t.committed {
			key := commitKey{t.place.topic, t.generation}
			batches[key] = append(batches[key], t)
		}
	}
	r.mu.Unlock()
	var errs []error
	for key, batch := range batches {
		err := r.commitBatch(ctx, key, batch)
		if wire.CodeOf(err) != wire.CodeFenced || len(batch) == 1 {
			errs = append(errs, err)
			continue
		}
		for _, t := range batch { // one of them
			errs = append(errs, r.commitBatch(ctx, key, []*task{t}))
		}
	}
	return errors.Join(errs...)
}

func (r *groupRun) commitBatch(ctx context.Context, key commitKey, batch []*task) error {
	offsets := make(map[int]uint64, len(batch))
	for _, t := range batch {
		offsets[int(t.place.partition)] = t.done.Load()
	}
	err := r.c.commit(ctx, r.s.Name, key.topic, key.generation, offsets)
	switch {
	case err == nil:
		for _, t := range batch {
			t.committed = offsets[int(t.place.partition)]
		}
	case wire.CodeOf(err) == wire.CodeFenced && len(batch) == 1:
		r.mu.Lock()
		batch[0].lost = true
		r.haltLocked(batch[0])
		r.mu.Unlock()
		r.look() // the assignment says whether the partition is another member's
		return fmt.Errorf("what was handled is not committed: %w", err)
	}
	return err
}
