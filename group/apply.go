package group

import "math"

// reach makes the queue know all offsets below end. What no lease touched since the start of the
// process, as in a replay, waits from now on for its redelivery.
func (q *Queue) reach(end uint64) {
	q.settled = max(q.settled, end)
	if end > q.next {
		q.runs.append(run{first: q.next, count: end - q.next})
		q.next = end
	}
}

// within calls change for every part of a run that lies in s. change may put something else in the
// place of part.
func (q *Queue) within(s span, change func(r, part run)) {
	for from := s.first; from < s.end(); {
		r, ok := q.runs.find(from, probe{})
		if !ok || r.first >= s.end() {
			return
		}
		part := r.clip(from, s.end())
		from = part.end()
		change(r, part)
	}
}

func (q *Queue) applyAck(ranges spans) {
	for s, ok := ranges.next(); ok; s, ok = ranges.next() {
		q.reach(s.end())
		q.within(s, func(r, part run) {
			if r.isDead() {
				return
			}
			q.acked += part.count
			q.remove(r, part.first, part.end())
		})
	}
}

// applyFail sends messages back or to the dead letters. Only a failure later than the last one
// counts, so a command that was planned twice does nothing the second time.
func (q *Queue) applyFail(ranges spans, at int64, reason []byte) {
	id, died := q.causeID+1, uint64(0)
	for s, ok := ranges.next(); ok; s, ok = ranges.next() {
		q.reach(s.end())
		q.within(s, func(r, part run) {
			if r.isDead() || r.fails >= s.attempt {
				return
			}
			if s.wait == 0 {
				died += part.count
				q.set(r, part.die(s.attempt, at, id))
				q.leaveAll(part.first, part.end())
				return
			}
			q.set(r, part.miss(s.attempt, at, at+int64(s.wait)-1))
			q.park(part.first, part.end())
		})
	}
	if died > 0 {
		q.keep(id, &cause{reason: string(reason), at: at, messages: died})
	}
}

func (q *Queue) applyBury(ranges spans) {
	for s, ok := ranges.next(); ok; s, ok = ranges.next() {
		q.within(s, func(r, part run) {
			if r.isDead() {
				q.remove(r, part.first, part.end())
			}
		})
	}
}

// miss returns r after a failed attempt. A lease under a later attempt goes on: somebody works on
// the message right now.
func (r run) miss(attempt uint16, at, due int64) run {
	if r.attempts <= attempt {
		r.attempts = attempt
		r.deadline, r.tag = 0, 0
	}
	r.fails, r.due, r.since = attempt, due, r.failedSince(at)
	return r
}

// die returns r as dead letters.
func (r run) die(attempt uint16, at int64, cause uint64) run {
	r.since = r.failedSince(at)
	r.attempts, r.fails = attempt, attempt
	r.deadline, r.due, r.tag = 0, never, cause
	return r
}

// failedSince returns the second of the first failure, which is now if there was none before.
func (r *run) failedSince(at int64) uint32 {
	if r.since != 0 {
		return r.since
	}
	return uint32(min(max(1, at/1000), math.MaxUint32))
}
