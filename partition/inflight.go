package partition

import (
	"errors"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// All queues of a broker together remember a bounded number of messages, so that no client can take its memory with many
// queues on many partitions.

// fairShare is how many messages a queue may have in flight whatever the others have, so that it goes on.
const fairShare = 16

// The reasons of dead letters that are not stored yet are in memory and in every checkpoint. Those of one queue may have
// queueReasons bytes, so that a queue whose dead letters cannot be stored leaves room for the reasons of others, and those
// of all queues allReasons. Dead letters beyond have no reason.
const (
	queueReasons = 4 << 20
	allReasons   = 32 << 20
)

// reasonLocked returns the reason that the dead letters of a settlement get.
func (p *Partition) reasonLocked(q *group.Queue, reason string) string {
	if reason == "" {
		return reason
	}
	own, all := q.Reasons(), int(p.topic.registry.reasons.Load())
	if own+len(reason) > queueReasons || all+len(reason) > allReasons {
		return ""
	}
	return reason
}

// trackLocked counts the messages that the queues remember, and the reasons of their dead letters. When that makes room for
// all queues, the timer looks for those that got too few.
func (p *Partition) trackLocked() {
	r, n, bytes := p.topic.registry, int64(p.state.Tracked()), int64(p.state.Reasons())
	if n != 0 && errors.Is(p.Err(), wire.CodeTopicDeleted) {
		n, bytes = 0, 0
	}
	if n == p.tracked && bytes == p.reasons {
		return
	}
	more := n - p.tracked
	r.reasons.Add(bytes - p.reasons)
	p.tracked, p.reasons = n, bytes
	most := int64(r.opts.MaxInFlight)
	if now := r.inFlight.Add(more); now < most && now-more >= most {
		r.timer.rouse()
	}
}

// roomLocked returns the end of the messages below limit that a queue may take. It lowers limit when there is no room for
// all fresh ones; the timer then wakes the workers when there may be again.
func (p *Partition) roomLocked(q *group.Queue, limit uint64) uint64 {
	next, room := q.Stats().Next, p.shareLocked(q)
	if limit <= next || limit-next <= room {
		return limit
	}
	p.short = true
	return next + room
}

// shareLocked returns how many more messages a queue may have in flight because of what all queues have.
func (p *Partition) shareLocked(q *group.Queue) uint64 {
	r := p.topic.registry
	if room := int64(r.opts.MaxInFlight) - r.inFlight.Load(); room >= fairShare {
		return uint64(room)
	}
	s := q.Stats()
	own := s.InFlight + s.Redelivering + s.Parked + s.Dead
	return uint64(max(0, int64(r.opts.MaxInFlight)-r.inFlight.Load(), int64(fairShare-own)))
}

// fullLocked reports whether a queue gets no more messages until some of its own are done, or some of others. Whoever
// changes that has to wake its workers.
func (p *Partition) fullLocked(q *group.Queue) bool { return q.Full() || p.shareLocked(q) == 0 }

// discardableLocked returns the end of the messages that may be discarded. While there is no room, those far behind the
// last one that the queue tracks may not: it would track all in front of them.
func (p *Partition) discardableLocked(q *group.Queue) uint64 {
	r := p.topic.registry
	if r.inFlight.Load() < int64(r.opts.MaxInFlight) {
		return p.Visible()
	}
	return p.roomLocked(q, p.Visible())
}

// roomAgain reports whether queues that got fewer messages than there are may get more now.
func (p *Partition) roomAgain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.topic.registry
	if !p.short || r.inFlight.Load() >= int64(r.opts.MaxInFlight) {
		return false
	}
	p.short = false
	return true
}
