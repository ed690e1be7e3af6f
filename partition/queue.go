package partition

import (
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// QueuePolicy says how a queue treats messages that were not acknowledged.
type QueuePolicy = group.Policy

// OpenQueue creates a queue that starts at an offset, or changes the policy of an existing one, which keeps its
// place. It returns the index of the state entry.
func (p *Partition) OpenQueue(name string, start uint64, policy QueuePolicy, now time.Time) (index uint64, err error) {
	if index, err = p.openQueue(name, start, policy, now); err != nil {
		return 0, err
	}
	p.topic.registry.timer.add(p)
	p.moved() // the policy may allow more deliveries
	return index, nil
}

// openQueue is OpenQueue without firing the watchers.
func (p *Partition) openQueue(name string, start uint64, policy QueuePolicy, now time.Time) (index uint64, err error) {
	if err := p.checkGroup(name); err != nil {
		return 0, err
	}
	if len(policy.DeadLetter) > wire.MaxTopicName {
		return 0, wire.Errorf(wire.CodeInvalid, "a topic name has at most %d bytes", wire.MaxTopicName)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkRoomLocked(name, group.ModeQueue); err != nil {
		return 0, err
	}
	delete(p.heirs, name)
	defer p.countLocked()
	return p.logLocked(group.AppendOpen(nil, name, start, policy), now)
}

// HasQueue reports whether the queue exists here.
func (p *Partition) HasQueue(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Queue(name) != nil
}

// queueLocked returns a queue, or a *wire.Error with CodeGroupNotFound when it does not exist.
func (p *Partition) queueLocked(name string) (*group.Queue, error) {
	if q := p.state.Queue(name); q != nil {
		return q, nil
	}
	return nil, wire.Errorf(wire.CodeGroupNotFound, "queue %q does not exist on %s", name, p)
}

// Lease leases up to limit messages to owner and appends the leases to dst: due redeliveries first, then fresh
// messages, each in offset order. A lease of 0 is the policy's. dst is unchanged when nothing can be delivered now or
// the queue is paused. The error is ErrKeys when LearnKeys has to be called first, and otherwise a *wire.Error:
// CodeGroupNotFound when the queue does not exist.
func (p *Partition) Lease(
	dst []group.Lease, name string, limit int, lease time.Duration, owner uint64, now time.Time,
) ([]group.Lease, error) {
	if err := p.Err(); err != nil {
		return dst, err
	}
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	q, err := p.queueLocked(name)
	if err != nil {
		return dst, err
	}
	if p.state.Paused(name) {
		return dst, nil
	}
	visible = p.roomLocked(q, visible)
	had := len(dst)
	take := func(dst []group.Lease, limit int) []group.Lease {
		return q.Lease(dst, limit, visible, lease, owner, now)
	}
	if !q.Ordered() {
		dst = take(dst, limit)
	} else if dst, err = p.leaseOrderedLocked(dst, q, limit, visible, take); err != nil {
		return dst, err
	}
	if len(dst) > had {
		p.trackLocked()
		p.topic.registry.timer.rouse()
	}
	for _, l := range dst[had:] {
		if l.Attempt > 1 {
			p.redelivered.Add(uint64(l.Count))
		}
	}
	return dst, nil
}

// takeFunc leases up to limit messages of a queue and appends the leases to dst.
type takeFunc func(dst []group.Lease, limit int) []group.Lease

// Settlement says what to do with messages of a queue.
type Settlement struct {
	Op     wire.Op        // OpAck, OpNack, OpReject, OpExtend or OpDiscard
	Ranges []group.Settle // OpDiscard ignores their attempts
	Delay  time.Duration  // OpNack: before the redelivery, negative for the queue's backoff; OpExtend: the new lease
	Reason string         // OpNack, OpReject
	// Unhandled, of OpNack, says that nobody worked on the messages. Delay and Reason do not count then.
	Unhandled bool
}

// Settle settles messages of a queue. lost is the number of messages that it did not settle, because they are not
// leased under the given attempt any more; for OpDiscard, because they are done or leased. index is that of the state
// entry to wait for, or 0 when there is none.
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

// settle is Settle without firing the watchers. frees says that other messages may be deliverable now: in a queue with
// order by key, those behind the settled ones, and in a queue that was full any.
func (p *Partition) settle(name string, s Settlement, now time.Time) (index uint64, lost int, frees bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q, err := p.queueLocked(name)
	if err != nil {
		return 0, 0, false, err
	}
	if s.Unhandled {
		return 0, q.Return(s.Ranges), true, nil
	}
	full := p.fullLocked(q)
	command := p.command[:0]
	switch s.Op {
	case wire.OpAck:
		command, lost = q.PlanAck(command, s.Ranges)
	case wire.OpNack:
		command, lost = q.PlanNack(command, s.Ranges, s.Delay, p.reasonLocked(q, s.Reason), now)
	case wire.OpReject:
		command, lost = q.PlanReject(command, s.Ranges, p.reasonLocked(q, s.Reason), now)
	case wire.OpDiscard:
		command, lost = q.PlanDiscard(command, s.Ranges, p.discardableLocked(q))
	default:
		lost = q.Extend(s.Ranges, s.Delay, now)
		p.topic.registry.timer.rouse() // the new lease may end sooner than the old one
		return 0, lost, false, nil
	}
	if len(command) == 0 && s.Op == wire.OpDiscard { // an earlier discard may not be durable yet
		return p.log.Positions().NextIndex - 1, lost, false, nil
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
		p.buryLaterLocked(q)
	}
	return index, lost, q.Ordered() || full && !p.fullLocked(q), nil
}

// Pending appends to dst at most most ranges of messages that are not done in a queue, from an offset on and in offset
// order.
func (p *Partition) Pending(dst []group.Pending, name string, from uint64, most int) ([]group.Pending, error) {
	if err := p.Err(); err != nil {
		return dst, err
	}
	visible := p.Visible()
	p.mu.Lock()
	defer p.mu.Unlock()
	q, err := p.queueLocked(name)
	if err != nil {
		return dst, err
	}
	return q.Pending(dst, max(from, p.First()), visible, most), nil
}

// count returns how many messages the ranges have.
func count(ranges []group.Settle) (n uint64) {
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}

// ReturnLeases takes back all leases of owner, whose connection is gone. Their messages can be leased again at once,
// except that messages at their last attempt become dead letters.
func (p *Partition) ReturnLeases(name string, owner uint64, now time.Time) {
	p.mu.Lock()
	q := p.state.Queue(name)
	if q != nil {
		q.ReleaseOwner(owner, now)
	}
	p.mu.Unlock()
	if q != nil {
		p.topic.registry.timer.rouse() // messages at their last attempt are to expire now
		p.moved()
	}
}

// FitsIn estimates how many of the partition's records fit in a number of bytes, from their average size: at least 1.
func (p *Partition) FitsIn(bytes int) int {
	s := p.log.Stats()
	if s.Records == 0 || s.Bytes <= 0 {
		return 1
	}
	return max(1, int(uint64(bytes)*s.Records/uint64(s.Bytes)))
}
