package group

import "time"

// Phase says what a message that is not done waits for.
type Phase uint8

const (
	// PhaseFresh is a message that was never leased.
	PhaseFresh Phase = 0
	// PhaseLeased is a message that is leased to a worker.
	PhaseLeased Phase = 1
	// PhaseWaiting is a message that is delivered again when it is due.
	PhaseWaiting Phase = 2
	// PhaseParked is a message that waits for an earlier one of its key.
	PhaseParked Phase = 3
	// PhaseDead is a dead letter that the broker has not buried.
	PhaseDead Phase = 4
)

// Pending is a range of messages that are not done.
type Pending struct {
	First, Count uint64
	Attempts     uint32 // deliveries so far
	Phase        Phase
	Due          time.Time // PhaseWaiting: of the redelivery; PhaseLeased: the end of the lease; else zero
}

// Pending appends to dst at most most ranges of messages that are not done, with offsets in [from, limit)
// and in offset order. It changes nothing.
func (q *Queue) Pending(dst []Pending, from, limit uint64, most int) []Pending {
	if from >= limit {
		return dst
	}
	for r, ok := q.runs.find(from, probe{}); ok && r.first < limit; r, ok = q.runs.find(r.end(), probe{}) {
		if most == 0 {
			return dst
		}
		most--
		dst = append(dst, r.clip(from, limit).pending())
	}
	if first := max(from, q.next); first < limit && most > 0 {
		dst = append(dst, Pending{First: first, Count: limit - first})
	}
	return dst
}

func (r run) pending() Pending {
	p := Pending{First: r.first, Count: r.count, Attempts: uint32(r.attempts)}
	switch {
	case r.leased():
		p.Phase, p.Due = PhaseLeased, time.UnixMilli(r.deadline)
	case r.isDead():
		p.Phase = PhaseDead
	case r.tag == parked:
		p.Phase = PhaseParked
	default:
		p.Phase, p.Due = PhaseWaiting, time.UnixMilli(r.due)
	}
	return p
}

// PlanDiscard appends to dst the command that makes messages below limit done without a delivery, and
// returns it. left is the number of messages of s that stay as they are: those that are done or dead
// letters, and those that are leased, which their worker settles. So do fresh ones when the fresh messages
// in front of them, which the queue tracks from then on, would make more than MaxInFlight. The attempts in s
// are ignored. When no message is left to discard, the command is nil. One call looks at maxRanges ranges at
// most. Nothing changes before Apply.
func (q *Queue) PlanDiscard(dst []byte, s []Settle, limit uint64) (cmd []byte, left int) {
	w := newSpanWriter(appendHeader(dst, kindAck, q.name), false)
	looks := maxRanges
	ahead := skips{next: q.next, room: MaxInFlight - min(MaxInFlight, q.tracked())}
	for _, p := range s {
		first := min(p.First, limit)
		end := first + min(uint64(p.Count), limit-first)
		var took uint64
		for from := first; from < min(end, q.next) && looks > 0; looks-- {
			r, ok := q.runs.find(from, probe{})
			if !ok || r.first >= end {
				break
			}
			part := r.clip(from, end)
			from = part.end()
			if r.waiting() {
				took += w.take(span{first: part.first, count: part.count})
			}
		}
		if fresh := max(first, q.next); fresh < end && looks > 0 && ahead.to(fresh, end) {
			looks--
			took += w.take(span{first: fresh, count: end - fresh})
		}
		left += int(uint64(p.Count) - took)
	}
	return w.finish(), left
}

// skips is how far a plan lets the queue track messages that nobody has leased.
type skips struct {
	next uint64 // behind the highest offset that the plan names
	room uint64 // fresh messages that may still be passed over
}

// to notes that the plan names [first, end), and returns false when that passes over too many messages.
func (r *skips) to(first, end uint64) bool {
	gap := first - min(first, r.next)
	if gap > r.room {
		return false
	}
	r.room -= gap
	r.next = max(r.next, end)
	return true
}
