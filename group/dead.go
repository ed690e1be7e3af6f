package group

import "time"

// maxDeadBatch bounds the dead letters that one call of Queue.Dead returns.
const maxDeadBatch = 1024

// Dead is a dead letter: a message that will not be delivered again, and that the broker has not
// published to the dead-letter topic yet.
type Dead struct {
	Offset   uint64
	Attempts uint32    // deliveries it had
	Reason   string    // of the last failure, at most MaxReason bytes
	First    time.Time // of its first failure, in whole seconds
	Last     time.Time // when it became a dead letter
}

// cause is what the dead letters of one command have in common.
type cause struct {
	reason   string
	at       int64  // in ms
	messages uint64 // dead letters that refer to it
}

// Dead returns the dead letters with the lowest offsets, at most maxDeadBatch. The broker publishes them
// and then applies PlanBuried. After a crash between the two, Dead returns them again.
func (q *Queue) Dead() []Dead {
	n := min(q.runs.summary().dead, maxDeadBatch)
	if n == 0 {
		return nil
	}
	list := make([]Dead, 0, n)
	p := probe{want: wantDead}
	for r, ok := q.runs.find(0, p); ok; r, ok = q.runs.find(r.end(), p) {
		c := q.causes[r.tag]
		for i := range r.count {
			if len(list) == cap(list) {
				return list
			}
			list = append(list, Dead{
				Offset:   r.first + i,
				Attempts: uint32(r.attempts),
				Reason:   c.reason,
				First:    time.Unix(int64(r.since), 0),
				Last:     time.UnixMilli(c.at),
			})
		}
	}
	return list
}

// PlanBuried appends to dst the command that makes these dead letters done, and returns it. It leaves out
// offsets that are no dead letters, and those that no longer fit in maxRanges ranges. With none left it
// returns nil.
func (q *Queue) PlanBuried(dst []byte, offsets []uint64) (cmd []byte) {
	w := newSpanWriter(appendHeader(dst, kindBury, q.name), false)
	for _, offset := range offsets {
		r, ok := q.runs.find(offset, probe{want: wantDead})
		if !ok || r.first > offset {
			continue
		}
		if w.take(span{first: offset, count: 1}) == 0 {
			break
		}
	}
	return w.finish()
}

// Reasons returns how many bytes the reasons of the dead letters have.
func (q *Queue) Reasons() int { return int(q.reasons) }

// keep stores c under a new id.
func (q *Queue) keep(id uint64, c *cause) {
	if q.causes == nil {
		q.causes = make(map[uint64]*cause)
	}
	q.causes[id] = c
	q.causeID = id
	q.reasons += uint64(len(c.reason))
	q.total.reasons += uint64(len(c.reason))
}

// release notes that n dead letters no longer refer to a cause.
func (q *Queue) release(id, n uint64) {
	c := q.causes[id]
	c.messages -= n
	if c.messages == 0 {
		delete(q.causes, id)
		q.reasons -= uint64(len(c.reason))
		q.total.reasons -= uint64(len(c.reason))
	}
}
