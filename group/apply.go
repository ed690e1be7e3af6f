package group

import "math"

// reach makes the queue track all offsets below end. Messages that were still fresh, as during a replay,
// now wait for their redelivery.
func (q *Queue) reach(end uint64) {
	q.settled = max(q.settled, end)
	if end > q.next {
		q.track(run{first: q.next, count: end - q.next})
		q.next = end
	}
}

// within calls change for every run r that overlaps s, with the part of it that lies in s. change may
// replace part or remove it.
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

// applyAck makes messages done, except dead letters.
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

// applyFail makes messages wait for their redelivery, or dead letters. A failure counts only when its
// attempt is later than that of the last failure, so a command that was planned twice changes nothing
// the second time.
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

// applyBury makes dead letters done.
func (q *Queue) applyBury(ranges spans) {
	for s, ok := ranges.next(); ok; s, ok = ranges.next() {
		q.within(s, func(r, part run) {
			if r.isDead() {
				q.remove(r, part.first, part.end())
			}
		})
	}
}

// miss returns r after a failed attempt. A lease under a later attempt goes on: its worker has the
// message right now.
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

// failedSince returns the time of the first failure in seconds since 1970: at when there was none before.
func (r *run) failedSince(at int64) uint32 {
	if r.since != 0 {
		return r.since
	}
	return uint32(min(max(1, at/1000), math.MaxUint32))
}
