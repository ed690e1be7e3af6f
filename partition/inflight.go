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

// trackLocked counts the messages that the queues remember. When that makes room for all queues, the timer looks for
// those that got too few.
func (p *Partition) trackLocked() {
	r, n := p.topic.registry, int64(p.state.Tracked())
	if n != 0 && errors.Is(p.Err(), wire.CodeTopicDeleted) {
		n = 0
	}
	if n == p.tracked {
		return
	}
	more := n - p.tracked
	p.tracked = n
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
