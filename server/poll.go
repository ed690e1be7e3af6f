package server

import (
	"slices"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// poll is a request that waits for records: a fetch, or a lease of queue messages. It is registered
// with the watch of every partition it could be answered from.
type poll struct {
	timed
	b       *binary
	queue   string // of a lease
	watches []*watch
	try     func(now time.Time) bool // answers when it can; reports whether it did
	last    func(now time.Time)      // answers with what there is
	fail    func(err error)          // answers with an error and ends the poll
	started bool
}

// start tries at once and else waits until deadline for one of the partitions to move.
func (q *poll) start(ps []*partition.Partition, deadline, now time.Time) error {
	if q.try(now) {
		return nil
	}
	if !deadline.After(now) || q.b.s.loop.draining {
		q.last(now)
		return nil
	}
	if q.b.waits >= maxWaits {
		return wire.Errorf(wire.CodeLimit, "%d requests of this connection wait for records", maxWaits)
	}
	q.b.waits++
	q.started = true
	q.at, q.expire = deadline, func(now time.Time) { q.end(); q.last(now) }
	l := q.b.s.loop
	l.timers.add(&q.timed)
	for _, p := range ps {
		w := l.watch(p)
		idle := w.idle()
		w.polls = append(w.polls, q)
		q.watches = append(q.watches, w)
		if idle {
			w.watcher.Arm()
		}
	}
	l.post(&retryPoll{q}) // records that came before the watchers were armed
	return nil
}

// retryPoll tries a poll once more.
type retryPoll struct{ q *poll }

func (r *retryPoll) run(now time.Time) { r.q.again(now) }

func (q *poll) again(now time.Time) {
	if !q.done && (q.b.s.closed || q.try(now)) {
		q.end()
	}
}

// end takes the poll out of everything that could wake it.
func (q *poll) end() {
	if q.done {
		return
	}
	q.done = true
	if q.started {
		q.b.waits--
	}
	for _, w := range q.watches {
		w.polls = slices.DeleteFunc(w.polls, func(o *poll) bool { return o == q })
	}
}

// runPolls tries everything that waits for the partition.
func (w *watch) runPolls(now time.Time) {
	if len(w.polls) == 0 {
		return
	}
	for _, q := range slices.Clone(w.polls) {
		q.again(now)
	}
}

func waitOf(ms uint32) time.Duration {
	return time.Duration(min(ms, wire.MaxWaitMs)) * time.Millisecond
}
