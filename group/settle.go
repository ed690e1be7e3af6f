package group

import (
	"math"
	"time"
	"unicode/utf8"
)

// Settle is a range of leased messages that a worker has finished, with the attempt of their lease.
type Settle struct {
	First   uint64
	Count   uint32
	Attempt uint32
}

// reasonExpired is the reason of a dead letter whose last lease ran out.
const reasonExpired = "lease expired"

// PlanAck appends to dst the command that acknowledges the messages of s that are still leased under their
// attempt, and returns it. lost is the number of the other messages of s: their lease expired, was never
// given, or was given again under a later attempt. When there is nothing to acknowledge, the command is nil.
// One call looks at maxRanges ranges at most; messages behind them count as lost. Nothing changes before
// Apply.
func (q *Queue) PlanAck(dst []byte, s []Settle) (cmd []byte, lost int) {
	w := newSpanWriter(appendHeader(dst, kindAck, q.name), false)
	lost = q.held(s, func(r run) uint64 {
		return w.take(span{first: r.first, count: r.count})
	})
	return w.finish(), lost
}

// PlanNack is PlanAck for messages that failed. They are delivered again after delay, at most maxDelay, or
// after the policy's backoff when delay is negative. A message at the policy's MaxDeliveries becomes a dead
// letter with this reason instead.
func (q *Queue) PlanNack(
	dst []byte, s []Settle, delay time.Duration, reason string, now time.Time,
) (cmd []byte, lost int) {
	w := q.failWriter(dst, reason, now)
	wait := uint64(0)
	if delay > 0 {
		wait = 1 + uint64(after(now, min(delay, maxDelay))-ms(now))
	} else if delay == 0 {
		wait = 1
	}
	lost = q.held(s, func(r run) uint64 { return q.retry(&w, r, wait) })
	return w.finish(), lost
}

// PlanReject is PlanAck for messages that must not be delivered again: they become dead letters at once.
func (q *Queue) PlanReject(
	dst []byte, s []Settle, reason string, now time.Time,
) (cmd []byte, lost int) {
	w := q.failWriter(dst, reason, now)
	lost = q.held(s, func(r run) uint64 {
		return w.take(span{first: r.first, count: r.count, attempt: r.attempts})
	})
	return w.finish(), lost
}

// PlanExpire appends to dst the command that takes back the leases whose deadline is now or earlier, and
// returns it with the number of their messages. These are delivered again after the policy's backoff, or
// become dead letters at its MaxDeliveries. When there are none, the command is nil. A command has at most
// maxRanges ranges: apply it and plan again until it is nil.
func (q *Queue) PlanExpire(dst []byte, now time.Time) (cmd []byte, n int) {
	if q.runs.summary().deadline > ms(now) {
		return nil, 0
	}
	w := q.failWriter(dst, reasonExpired, now)
	p := probe{want: wantExpired, at: ms(now)}
	for r, ok := q.runs.find(0, p); ok; r, ok = q.runs.find(r.end(), p) {
		took := q.retry(&w, r, 0)
		n += int(took)
		if took < r.count {
			break
		}
	}
	return w.finish(), n
}

// Return takes back the leases of messages that nobody worked on. They are what they were before: deliverable at
// once, unless an earlier message of their key is not done, and this delivery is no attempt. It returns how many of
// the messages are not leased under their attempt. Nothing is logged.
func (q *Queue) Return(s []Settle) (lost int) {
	return q.held(s, func(r run) uint64 {
		whole, _ := q.runs.find(r.first, probe{})
		r.deadline, r.tag = 0, 0
		r.attempts = max(r.attempts-1, r.fails)
		q.set(whole, r)
		q.park(r.first, r.end())
		return r.count
	})
}

// Extend makes the leases that s names end at now plus lease, and returns how many messages of s are not
// leased under their attempt. A lease of 0 means the policy's; a longer one than maxLease is shortened to
// that. Extend also renews a lease past its deadline that no command has taken back yet. Nothing is logged.
func (q *Queue) Extend(s []Settle, lease time.Duration, now time.Time) (lost int) {
	deadline := after(now, wholeMs(lease, q.policy.Lease, maxLease))
	return q.held(s, func(r run) uint64 {
		whole, _ := q.runs.find(r.first, probe{})
		r.deadline = deadline
		q.set(whole, r)
		return r.count
	})
}

// held calls take for every part of s that is leased under its attempt. take returns how many of the part's
// messages it took; less than all ends the walk. held returns how many messages of s were not taken. The walk
// ends after maxRanges looks, so that a worker that names the whole queue again and again cannot hold up the
// partition.
func (q *Queue) held(s []Settle, take func(r run) uint64) (lost int) {
	looks := maxRanges
	for _, p := range s {
		end := p.First + min(uint64(p.Count), math.MaxUint64-p.First)
		var taken uint64
		for from := p.First; from < end && looks > 0; {
			looks--
			r, ok := q.runs.find(from, probe{})
			if !ok || r.first >= end {
				break
			}
			r = r.clip(from, end)
			from = r.end()
			if !r.leased() || uint32(r.attempts) != p.Attempt {
				continue
			}
			n := take(r)
			taken += n
			if n < r.count {
				looks = 0
			}
		}
		lost += int(uint64(p.Count) - taken)
	}
	return lost
}

// failWriter begins a fail command.
func (q *Queue) failWriter(dst []byte, reason string, now time.Time) spanWriter {
	dst = appendHeader(dst, kindFail, q.name)
	dst = appendUint(dst, uint64(ms(now)))
	return newSpanWriter(appendText(dst, shorten(reason)), true)
}

// retry adds the leased run r to a fail command, and returns how many of its messages fit in. wait is that of
// a span; 0 means the policy's backoff.
func (q *Queue) retry(w *spanWriter, r run, wait uint64) uint64 {
	s := span{first: r.first, count: r.count, attempt: r.attempts}
	if int(r.attempts) >= q.policy.MaxDeliveries {
		return w.take(s)
	}
	if wait > 0 {
		s.wait = wait
		return w.take(s)
	}
	for s.first < r.end() {
		s.count = min(r.end()-s.first, jitterBlock-s.first%jitterBlock)
		s.wait = 1 + q.policy.backoff(s.first, r.attempts)
		if w.take(s) == 0 {
			break
		}
		s.first += s.count
	}
	return s.first - r.first
}

// shorten cuts a reason to at most MaxReason bytes, between two characters.
func shorten(reason string) string {
	if len(reason) <= MaxReason {
		return reason
	}
	end := MaxReason
	for end > MaxReason-utf8.UTFMax && !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}
