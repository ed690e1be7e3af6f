package client

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// groupRun gives the partitions that are assigned to a member of a group to workers. One worker at
// a time works on a partition, so its messages stay in order. While a failed message of a partition
// backs off, the partition waits aside. tend keeps the work equal to the assignment; see
// grouptend.go.
type groupRun struct {
	*crew
	s       Source
	h       Handler
	member  *membership
	cursors sync.Pool

	// What follows is guarded by crew.mu.
	tasks   map[place]*task
	opening map[place]struct{} // partitions that are about to become tasks
	seen    uint32             // revision of the assignment that tend has seen
	ready   []*task            // tasks that have something to do and no worker
	held    atomic.Bool        // no message is begun until the member has joined again; changed under mu

	parked   chan struct{}  // signals that a worker has given back a task while held is set; of capacity 1
	tendWake chan struct{}  // wakes tend: the assignment or a task has changed; of capacity 1
	jobs     sync.WaitGroup // goroutines that begin and release tasks for tend

	progress gate   // held during a commit; guards forfeit
	forfeit  *place // of progress that was lost and that Commit has not reported, or nil
}

func (c *Client) runGroup(ctx context.Context, s Source, h Handler) error {
	cr, dismiss := c.gather(ctx)
	defer dismiss()
	r, err := c.joinGroup(ctx, cr, s)
	if err != nil {
		return err
	}
	r.h = h
	return r.run(ctx, r.worker)
}

// joinGroup returns a member that is joining the group.
func (c *Client) joinGroup(ctx context.Context, cr *crew, s Source) (*groupRun, error) {
	r := &groupRun{
		crew: cr, s: s, tasks: map[place]*task{}, opening: map[place]struct{}{},
		tendWake: make(chan struct{}, 1), parked: make(chan struct{}, 1), progress: newGate(),
	}
	r.cursors.New = func() any { return new(cursor) }
	r.member = c.newMembership(&r.s)
	r.member.changed, r.member.failed, r.member.working = r.wakeTend, r.stop, r.working
	r.member.hold, r.member.settle = r.hold, r.settle
	ctx, cancel := c.opening(ctx)
	defer cancel()
	for _, topic := range s.Topics { // report a missing topic early and clearly
		if _, err := c.Topic(ctx, topic); err != nil {
			return nil, err
		}
	}
	return r, r.member.start()
}

// run works until the crew stops, then commits and leaves the group. It returns why the crew
// stopped.
func (r *groupRun) run(ctx context.Context, worker func()) error {
	stopTending, stopCommitting := r.tend(), repeat(r.ctx, r.s.CommitInterval, func(ctx context.Context) {
		r.commit(ctx, r.running())
	})
	err := r.work(r.s.Workers, worker)
	stopCommitting()
	stopTending()
	finish, cancel := finishing(ctx)
	defer cancel()
	r.end(finish)
	r.member.end(finish)
	return err
}

// wakeTend makes tend compare the work with the assignment again.
func (r *groupRun) wakeTend() {
	signal(r.tendWake)
}

// arrive is the sink of a task's feed.
func (r *groupRun) arrive(t *task, d delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case t.halted:
		if d.buf != nil {
			t.part.release(&d)
		}
	case d.final:
		r.stopLocked(d.err)
	default:
		t.arrived = append(t.arrived, d)
		r.readyLocked(t)
	}
}

// readyLocked puts a task on the ready list if it has something to do, and nobody has it.
func (r *groupRun) readyLocked(t *task) {
	if t.busy || t.halted || len(t.arrived) == 0 && t.open == nil {
		return
	}
	t.busy = true
	r.ready = append(r.ready, t)
	r.cond.Signal()
}

// giveBack ends a worker's ownership of a task.
func (r *groupRun) giveBack(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.busy, t.rest = false, nil
	r.parkedLocked()
	if t.halted {
		r.wakeTend()
		return
	}
	r.readyLocked(t)
}

// rest gives a task back after a pause.
func (r *groupRun) rest(t *task, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parkedLocked()
	if t.halted {
		t.busy = false
		r.wakeTend()
		return
	}
	t.rest = time.AfterFunc(pause, func() { r.giveBack(t) })
}

func (r *groupRun) worker() {
	for {
		t := r.take()
		if t == nil {
			return
		}
		if pause := r.handle(t); pause > 0 {
			r.rest(t, pause)
			continue
		}
		r.giveBack(t)
	}
}

// take waits for a task, which the caller then owns. It returns nil when the run has stopped.
func (r *groupRun) take() *task { return r.takeUntil(context.Background()) }

// takeUntil is take that also returns nil when ctx has ended; the caller must call wake when it
// ends.
func (r *groupRun) takeUntil(ctx context.Context) *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	for (len(r.ready) == 0 || r.held.Load()) && !r.stoppedLocked() && ctx.Err() == nil {
		r.cond.Wait()
	}
	if r.stoppedLocked() || len(r.ready) == 0 || r.held.Load() {
		return nil
	}
	t := r.ready[0]
	r.ready = append(r.ready[:0], r.ready[1:]...)
	if t.open == nil {
		d := t.arrived[0]
		t.arrived = append(t.arrived[:0], t.arrived[1:]...)
		t.open = &d
	}
	return t
}

// handle works through the open delivery. It returns how long the task must pause.
func (r *groupRun) handle(t *task) time.Duration {
	if !r.openTask(t) {
		return 0
	}
	for !t.halting.Load() && !r.held.Load() && !r.isStopped() {
		if !t.retrying {
			ok, err := t.walk.more()
			if undecodable(err) {
				r.c.report(r.explain(t, err))
				continue
			}
			if err != nil {
				r.stop(r.explain(t, err))
				return 0
			}
			if !ok {
				r.finish(t)
				return 0
			}
			t.walk.take(&t.msg)
			t.msg.Attempt = 0
		}
		if pause := r.attempt(t); pause > 0 {
			return pause
		}
	}
	return 0
}

// openTask prepares to walk through the open delivery. When that is a range which cannot be read,
// it reports and skips the range, and returns false.
func (r *groupRun) openTask(t *task) bool {
	d := t.open
	if d.err != nil {
		r.c.report(d.err)
		if e, ok := errors.AsType[*Error](d.err); ok {
			t.done.Store(e.Err.Next)
		}
		t.open = nil
		return false
	}
	if t.walk == nil {
		t.walk = r.cursors.Get().(*cursor)
		t.walk.reset(d.entries, d.seed, d.from)
		t.msg.Topic, t.msg.Partition = t.place.topic, int(t.place.partition)
	}
	return true
}

func (r *groupRun) explain(t *task, err error) error {
	return explain(err, wire.OpSubscribe, t.place.topic, int(t.place.partition))
}

// finish ends the open delivery, all of which was handled. Offsets that the broker left out count
// as done.
func (r *groupRun) finish(t *task) {
	t.done.Store(t.open.next)
	r.cursors.Put(t.walk)
	t.part.release(t.open)
	t.walk, t.open = nil, nil
}

// attempt runs the handler for the current message. It returns how long to wait before the next
// attempt, or 0 when the message is done.
func (r *groupRun) attempt(t *task) time.Duration {
	m := &t.msg
	m.Attempt++
	t.retrying = false
	err := r.h(t.ctx, m)
	v := judge(err)
	if v.stop {
		r.stop(ErrStop)
	}
	if !v.done && !v.reject && interrupted(t.ctx, err) {
		m.Attempt--
		t.retrying = true
		return r.s.backoff(1)
	}
	if !v.done && m.Attempt == 1 {
		t.failed = time.Now()
	}
	last := r.s.MaxDeliveries > 0 && m.Attempt >= r.s.MaxDeliveries
	if !v.done && (v.reject || last) && r.giveUp(t, v.reason) {
		v.done = true
	}
	if v.done {
		t.done.Store(m.Offset + 1)
		return 0
	}
	t.retrying = true
	if v.after < 0 || v.reject || last {
		return r.s.backoff(m.Attempt)
	}
	return max(v.after, time.Nanosecond)
}

// giveUp moves the message of a task to the dead-letter topic, or skips it when there is none. It returns false
// when the message could not be moved.
func (r *groupRun) giveUp(t *task, reason string) bool {
	m := &t.msg
	we := wire.Errorf(wire.CodeInvalid, "offset %d given up after %d attempts: %s", m.Offset, m.Attempt, reason)
	r.c.report(&Error{Op: "handle", Topic: m.Topic, Partition: m.Partition, Err: we})
	if r.s.DeadLetter == "" {
		return true
	}
	// As the broker does for queues: a dead letter outlives its message, and is no duplicate of another.
	dead := *m
	dead.Topic, dead.Pinned, dead.ID, dead.TTL = r.s.DeadLetter, false, "", 0
	why := r.obituary(t, reason)
	dead.Headers = slices.Concat(why, m.Headers)
	if m.ID != "" {
		dead.Headers = append(dead.Headers, Header{wire.HeaderID, []byte(m.ID)})
	}
	_, err := r.c.Publish(t.ctx, &dead)
	if errors.Is(err, wire.CodeTooLarge) && len(dead.Headers) > len(why) {
		dead.Headers = why
		_, err = r.c.Publish(t.ctx, &dead)
	}
	if err != nil {
		r.c.report(err)
		return false
	}
	return true
}

// obituary returns the headers that say where the message of a task was, and why it died.
func (r *groupRun) obituary(t *task, reason string) []Header {
	m := &t.msg
	return []Header{
		{wire.HeaderDeadTopic, []byte(m.Topic)},
		{wire.HeaderDeadPartition, strconv.AppendInt(nil, int64(m.Partition), 10)},
		{wire.HeaderDeadOffset, strconv.AppendUint(nil, m.Offset, 10)},
		{wire.HeaderDeadGroup, []byte(r.s.Name)},
		{wire.HeaderDeadReason, []byte(reason[:min(len(reason), wire.MaxReasonBytes)])},
		{wire.HeaderDeadAttempts, strconv.AppendInt(nil, int64(m.Attempt), 10)},
		{wire.HeaderDeadFirst, t.failed.UTC().AppendFormat(nil, time.RFC3339Nano)},
		{wire.HeaderDeadLast, time.Now().UTC().AppendFormat(nil, time.RFC3339Nano)},
	}
}
