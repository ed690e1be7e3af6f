package partition

import (
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// QueuePolicy is how a queue treats messages that were not acknowledged.
type QueuePolicy = group.Policy

// OpenQueue makes a queue that starts at an offset, or changes the policy of one that exists.
func (p *Partition) OpenQueue(name string, start uint64, policy QueuePolicy, now time.Time) (index uint64, err error) {
	if err := p.checkGroup(name); err != nil {
		return 0, err
	}
	if len(policy.DeadLetter) > wire.MaxTopicName {
		return 0, wire.Errorf(wire.CodeInvalid, "a topic name has at most %d bytes", wire.MaxTopicName)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkRoom(name, group.ModeQueue); err != nil {
		return 0, err
	}
	if index, err = p.logLocked(group.AppendOpen(nil, name, start, policy), now); err != nil {
		return 0, err
	}
	p.topic.registry.timer.add(p)
	p.moved() // another policy may let more be delivered
	return index, nil
}

// HasQueue reports whether the queue exists here.
func (p *Partition) HasQueue(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Queue(name) != nil
}

// Lease takes up to limit messages for owner and appends them to dst in offset order. It returns dst
// unchanged when nothing is deliverable now, or the queue is paused. It returns CodeGroupNotFound for a
// missing queue, and ErrKeys when LearnKeys has to be called first.
func (p *Partition) Lease(dst []group.Lease, name string, limit int, lease time.Duration, owner uint64, now time.Time) ([]group.Lease, error) {
	if err := p.Err(); err != nil {
		return dst, err
	}
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(name)
	if q == nil {
		return dst, wire.Errorf(wire.CodeGroupNotFound, "queue %q does not exist on %s", name, p)
	}
	if p.state.Paused(name) {
		return dst, nil
	}
	had := len(dst)
	if q.Ordered() {
		var err error
		if dst, err = p.leaseOrdered(dst, q, limit, visible, lease, owner, now); err != nil {
			return dst, err
		}
	} else {
		dst = q.Lease(dst, limit, visible, lease, owner, now)
	}
	if len(dst) > had {
		p.topic.registry.timer.rouse()
	}
	for _, l := range dst[had:] {
		if l.Attempt > 1 {
			p.redelivered.Add(uint64(l.Count))
		}
	}
	return dst, nil
}

// Settlement says what to do with leased messages.
type Settlement struct {
	Op     wire.Op // OpAck, OpNack, OpReject, OpExtend or OpDiscard, for which the attempts do not count
	Ranges []group.Settle
	Delay  time.Duration // OpNack: negative for the queue's backoff; OpExtend: the new lease
	Reason string        // OpNack, OpReject
}

// Settle settles leased messages. lost is how many were not leased under the given attempt any
// more; for OpDiscard how many are done already or leased. index is the state entry to be awaited, 0 when nothing was logged.
func (p *Partition) Settle(name string, s Settlement, now time.Time) (index uint64, lost int, err error) {
	if err := p.Err(); err != nil {
		return 0, 0, err
	}
	index, lost, frees, err := p.settle(name, s, now)
	if frees {
		p.moved()
	}
	return index, lost, err
}

// settle is Settle without telling the watchers. frees says that other messages may be deliverable now:
// what is done makes room for the next of its key.
func (p *Partition) settle(name string, s Settlement, now time.Time) (index uint64, lost int, frees bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(name)
	if q == nil {
		return 0, 0, false, wire.Errorf(wire.CodeGroupNotFound, "queue %q does not exist on %s", name, p)
	}
	command := p.command[:0]
	switch s.Op {
	case wire.OpAck:
		command, lost = q.PlanAck(command, s.Ranges)
	case wire.OpNack:
		command, lost = q.PlanNack(command, s.Ranges, s.Delay, s.Reason, now)
	case wire.OpReject:
		command, lost = q.PlanReject(command, s.Ranges, s.Reason, now)
	case wire.OpDiscard:
		command, lost = q.PlanDiscard(command, s.Ranges, p.Visible())
	default:
		lost = q.Extend(s.Ranges, s.Delay, now)
		p.topic.registry.timer.rouse() // the new lease may be the shorter one
		return 0, lost, false, nil
	}
	if len(command) == 0 {
		return 0, lost, false, nil
	}
	if index, err = p.logLocked(command, now); err != nil {
		return 0, 0, false, err
	}
	if s.Op == wire.OpAck || s.Op == wire.OpDiscard {
		p.ackedMessages.Add(count(s.Ranges) - uint64(lost))
	} else {
		p.topic.registry.timer.rouse()
		p.buryLater(q)
	}
	return index, lost, q.Ordered(), nil
}

// Pending appends to dst at most most ranges of messages that are not done in a queue, from an offset
// on, in offset order.
func (p *Partition) Pending(dst []group.Pending, name string, from uint64, most int) ([]group.Pending, error) {
	if err := p.Err(); err != nil {
		return dst, err
	}
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.state.Queue(name)
	if q == nil {
		return dst, wire.Errorf(wire.CodeGroupNotFound, "queue %q does not exist on %s", name, p)
	}
	return q.Pending(dst, max(from, p.First()), visible, most), nil
}

func count(ranges []group.Settle) (n uint64) {
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}

// ReturnLeases makes everything that owner holds in the queue deliverable at once: its connection
// is gone.
func (p *Partition) ReturnLeases(name string, owner uint64, now time.Time) {
	p.mu.Lock()
	q := p.state.Queue(name)
	if q != nil {
		q.ReleaseOwner(owner, now)
	}
	p.mu.Unlock()
	if q != nil {
		p.topic.registry.timer.rouse() // what was delivered for the last time is a dead letter now
		p.moved()
	}
}

// FitsIn estimates how many of the partition's records fit in a number of bytes; at least 1.
func (p *Partition) FitsIn(bytes int) int {
	s := p.log.Stats()
	if s.Records == 0 || s.Bytes <= 0 {
		return 1
	}
	return max(1, int(uint64(bytes)*s.Records/uint64(s.Bytes)))
}
