package client

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// groupRun hands the partitions of a group's topics to workers: a partition belongs to one worker at
// a time, so its messages stay in order, and waits aside while a message of it backs off.
type groupRun struct {
	*crew
	s        Source
	h        Handler
	tasks    map[*part]*task
	ready    []*task // have something to do and no worker; guarded by crew.mu
	cursors  sync.Pool
	progress sync.Mutex // held during a commit
}

// task is the work on one partition. The worker that took it owns it.
type task struct {
	part      *part
	arrived   []delivery // guarded by crew.mu
	busy      bool       // a worker, a pause or the ready list has it; guarded by crew.mu
	open      *delivery
	walk      *cursor
	msg       Message
	retrying  bool          // msg was handled and failed
	done      atomic.Uint64 // everything before is handled
	committed uint64        // guarded by groupRun.progress
}

func (c *Client) runGroup(ctx context.Context, s Source, h Handler) error {
	cr, dismiss := c.gather(ctx)
	defer dismiss()
	r := &groupRun{crew: cr, s: s, h: h, tasks: map[*part]*task{}}
	r.cursors.New = func() any { return new(cursor) }
	feeds, err := r.feeds(ctx)
	if err != nil {
		return err
	}
	defer closeAll(feeds)
	for _, f := range feeds {
		if err := f.start(); err != nil {
			return err
		}
	}
	stop := r.commitEvery(s.CommitInterval)
	err = r.work(s.Workers, r.worker)
	stop()
	finish, cancel := finishing(ctx)
	defer cancel()
	r.commit(finish)
	return err
}

func closeAll(feeds []*feed) {
	for _, f := range feeds {
		f.close()
	}
}

// feeds prepares the partitions of all topics, each where the group left it.
func (r *groupRun) feeds(ctx context.Context) ([]*feed, error) {
	var feeds []*feed
	for _, topic := range r.s.Topics {
		from, err := r.c.origins(ctx, topic, nil, r.s.From, r.s.Name)
		if err != nil {
			return nil, err
		}
		committed, err := r.c.Committed(ctx, r.s.Name, topic)
		if err != nil {
			return nil, err
		}
		for p, off := range committed {
			from[p] = off
		}
		f := r.c.newFeed(topic, max(leastCredit, r.s.CreditBytes/max(1, len(from))), from, r.arrive)
		for _, p := range f.parts {
			t := &task{part: p, committed: p.next}
			t.done.Store(p.next)
			r.tasks[p] = t
		}
		feeds = append(feeds, f)
	}
	return feeds, nil
}

// arrive is the sink of the feeds.
func (r *groupRun) arrive(d delivery) {
	if d.final {
		r.stop(d.err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[d.part]
	t.arrived = append(t.arrived, d)
	r.readyLocked(t)
}

// readyLocked puts a task that nobody has on the ready list, if it has something to do.
func (r *groupRun) readyLocked(t *task) {
	if t.busy || len(t.arrived) == 0 && t.open == nil {
		return
	}
	t.busy = true
	r.ready = append(r.ready, t)
	r.cond.Signal()
}

// giveBack ends a worker's hold of a task.
func (r *groupRun) giveBack(t *task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.busy = false
	r.readyLocked(t)
}

func (r *groupRun) worker() {
	for {
		t := r.take()
		if t == nil {
			return
		}
		if pause := r.handle(t); pause > 0 {
			time.AfterFunc(pause, func() { r.giveBack(t) })
			continue
		}
		r.giveBack(t)
	}
}

// take waits for a task; nil means to stop.
func (r *groupRun) take() *task {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ready) == 0 && !r.stoppedLocked() {
		r.cond.Wait()
	}
	if r.stoppedLocked() {
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

// handle works through the open delivery. It returns how long to leave the task alone.
func (r *groupRun) handle(t *task) time.Duration {
	d := t.open
	if d.err != nil { // a range that cannot be read
		r.c.report(d.err)
		if e, ok := errors.AsType[*Error](d.err); ok {
			t.done.Store(e.Err.Next)
		}
		t.open = nil
		return 0
	}
	if t.walk == nil {
		t.walk = r.cursors.Get().(*cursor)
		t.walk.reset(d.entries, d.seed, d.from)
		t.msg.Topic, t.msg.Partition = d.part.f.topic, int(d.part.partition)
	}
	for !r.isStopped() {
		if !t.retrying {
			ok, err := t.walk.more()
			if err != nil {
				r.stop(explain(err, wire.OpSubscribe, t.msg.Topic, t.msg.Partition))
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

// finish ends the open delivery.
func (r *groupRun) finish(t *task) {
	r.cursors.Put(t.walk)
	t.part.release(t.open)
	t.walk, t.open = nil, nil
}

// attempt has the message handled. It returns how long to wait before it is handled again, 0 when it
// is done.
func (r *groupRun) attempt(t *task) time.Duration {
	m := &t.msg
	m.Attempt++
	t.retrying = false
	v := judge(r.h(r.ctx, m))
	if v.stop {
		r.stop(ErrStop)
	}
	last := r.s.MaxDeliveries > 0 && m.Attempt >= r.s.MaxDeliveries
	if !v.done && (v.reject || last) && r.giveUp(m, v.reason) {
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

// giveUp moves a message to the dead-letter topic, or skips it when there is none. It returns false
// when the message has to stay.
func (r *groupRun) giveUp(m *Message, reason string) bool {
	we := wire.Errorf(wire.CodeInvalid, "offset %d given up after %d attempts: %s", m.Offset, m.Attempt, reason)
	r.c.report(&Error{Op: "handle", Topic: m.Topic, Partition: m.Partition, Err: we})
	if r.s.DeadLetter == "" {
		return true
	}
	dead := *m
	dead.Topic, dead.Pinned, dead.lease = r.s.DeadLetter, false, nil
	dead.Headers = append([]Header{ // as the broker does for queues
		{"rafka-dead-topic", []byte(m.Topic)},
		{"rafka-dead-partition", strconv.AppendInt(nil, int64(m.Partition), 10)},
		{"rafka-dead-offset", strconv.AppendUint(nil, m.Offset, 10)},
		{"rafka-dead-group", []byte(r.s.Name)},
		{"rafka-dead-reason", []byte(reason[:min(len(reason), wire.MaxReasonBytes)])},
		{"rafka-dead-attempts", strconv.AppendInt(nil, int64(m.Attempt), 10)},
	}, m.Headers...)
	if _, err := r.c.Publish(r.ctx, &dead); err != nil {
		r.c.report(err)
		return false
	}
	return true
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
				r.commit(ctx)
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

// commit stores the progress made since the last commit.
func (r *groupRun) commit(ctx context.Context) {
	r.progress.Lock()
	defer r.progress.Unlock()
	topics := map[string]map[int]uint64{}
	for p, t := range r.tasks {
		if done := t.done.Load(); done != t.committed {
			if topics[p.f.topic] == nil {
				topics[p.f.topic] = map[int]uint64{}
			}
			topics[p.f.topic][int(p.partition)] = done
		}
	}
	for topic, offsets := range topics {
		err := r.c.Commit(ctx, r.s.Name, topic, offsets)
		if err != nil {
			if ctx.Err() == nil {
				r.c.report(err)
			}
			continue
		}
		for p, t := range r.tasks {
			if done, ok := offsets[int(p.partition)]; ok && p.f.topic == topic {
				t.committed = done
			}
		}
	}
}
