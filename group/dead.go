package group

import "time"

// MaxDeadBatch is the most dead letters that one call to Queue.Dead returns.
const MaxDeadBatch = 1024

// Dead is a message that will not be delivered again, waiting for the broker to publish it to the
// dead-letter topic.
type Dead struct {
	Offset   uint64
	Attempts uint32    // deliveries it had
	Reason   string    // of the last failure, at most MaxReason bytes
	First    time.Time // its first failure, cut to the second
	Last     time.Time // when it died
}

// cause is what the dead letters of one command have in common.
type cause struct {
	reason   string
	at       int64  // in ms
	messages uint64 // that still refer to it
}

// Dead returns the pending dead letters with the lowest offsets, at most MaxDeadBatch. The broker
// publishes each and then applies PlanBuried. After a crash between the two they are here again.
func (q *Queue) Dead() []Dead {
	n := min(q.runs.summary().dead, MaxDeadBatch)
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

// PlanBuried appends to dst the command that makes these messages done, and returns it. Offsets
// that are no dead letters are left out, and so is what lies behind MaxRanges ranges; nothing left
// is nil.
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

// keep gives out id for c.
func (q *Queue) keep(id uint64, c *cause) {
	if q.causes == nil {
		q.causes = make(map[uint64]*cause)
	}
	q.causes[id] = c
	q.causeID = id
}

// release says that n messages no longer refer to the cause.
func (q *Queue) release(id, n uint64) {
	c := q.causes[id]
	c.messages -= n
	if c.messages == 0 {
		delete(q.causes, id)
	}
}
