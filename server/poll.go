package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// poll is a request that waits for records: a fetch, or a lease of queue messages. It is registered
// with the watch of every partition it could be answered from.
type poll struct {
	timed
	b     *binary
	parts []*partition.Partition                                // of one topic
	try   func(some []*partition.Partition, now time.Time) bool // answers from some of parts if it can, and reports that
	last  func(now time.Time)                                   // answers with what there is
	fail  func(err error)                                       // answers with an error and ends the poll
	done  bool
}

// start tries at once and else waits until deadline for one of the partitions to move.
func (q *poll) start(deadline, now time.Time) error {
	if q.try(q.parts, now) {
		return nil
	}
	b, l := q.b, q.b.s.loop
	if !deadline.After(now) || l.draining {
		q.last(now)
		return nil
	}
	if len(b.polls) >= maxWaits || b.polled+len(q.parts) > maxPolled {
		return wire.Errorf(wire.CodeLimit, "%d requests of this connection wait for records on %d partitions", len(b.polls), b.polled)
	}
	if b.polls == nil {
		b.polls = map[*poll]struct{}{}
	}
	b.polls[q] = struct{}{}
	b.polled += len(q.parts)
	q.at, q.expire = deadline, func(now time.Time) { q.end(); q.last(now) }
	l.timers.add(&q.timed)
	var armed []*partition.Partition
	for _, p := range q.parts {
		w := l.watch(p)
		if w.idle() {
			w.watcher.Arm()
			armed = append(armed, p)
		}
		w.polls.add(q)
	}
	if len(armed) > 0 {
		l.post(jobFunc(func(now time.Time) { q.again(armed, now) })) // records that came before the watchers were armed
	}
	return nil
}

// again tries once more to answer from some of the partitions.
func (q *poll) again(some []*partition.Partition, now time.Time) {
	if !q.done && (q.b.s.closed || q.try(some, now)) {
		q.end()
	}
}

// end takes the poll out of everything that could wake it.
func (q *poll) end() {
	if q.done {
		return
	}
	q.done = true
	if _, waits := q.b.polls[q]; !waits {
		return
	}
	delete(q.b.polls, q)
	q.b.polled -= len(q.parts)
	l := q.b.s.loop
	l.timers.remove(&q.timed)
	for _, p := range q.parts {
		l.watches[p].polls.left()
	}
}

// over reports whether the poll was answered, or nobody is left to be answered.
func (q *poll) over() bool { return q.done }

func waitOf(ms uint32) time.Duration {
	return time.Duration(min(ms, wire.MaxWaitMs)) * time.Millisecond
}
