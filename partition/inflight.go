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

// trackLocked counts the messages that the queues remember.
func (p *Partition) trackLocked() {
	n := int64(p.state.Tracked())
	if n != 0 && errors.Is(p.Err(), wire.CodeTopicDeleted) {
		n = 0
	}
	if n != p.tracked {
		p.topic.registry.inFlight.Add(n - p.tracked)
		p.tracked = n
	}
}

// roomLocked returns the end of the messages below limit that a queue may take. It lowers limit when there is no room for
// all fresh ones; the timer then wakes the workers when there may be again.
func (p *Partition) roomLocked(q *group.Queue, limit uint64) uint64 {
	r, s := p.topic.registry, q.Stats()
	own := s.InFlight + s.Redelivering + s.Parked + s.Dead
	room := max(0, int64(r.opts.MaxInFlight)-r.inFlight.Load(), int64(fairShare-own))
	if limit <= s.Next || limit-s.Next <= uint64(room) {
		return limit
	}
	p.short = true
	return s.Next + uint64(room)
}

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
