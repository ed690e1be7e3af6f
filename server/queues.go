package server

import (
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

func milliseconds(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// openQueue creates a queue on every partition of a topic that this broker owns.
func (b *binary) openQueue(f wire.Frame, now time.Time) error {
	var m wire.OpenQueue
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	t, err := b.topicFor(m.Handle, actionConsume)
	if err != nil {
		return err
	}
	if err := checkQueue(t, &m); err != nil {
		return err
	}
	if m.DeadLetter != "" {
		if err := b.allowed(actionPublish, m.DeadLetter); err != nil {
			return err
		}
	}
	// A start by time may read the disk, so it runs on a worker.
	return b.work(f.Op, f.Correlation, func() (func(time.Time) error, error) {
		starts := make([]uint64, len(t.Partitions()))
		for i, p := range t.Partitions()[:len(starts)] {
			if p.Err() != nil {
				continue
			}
			var err error
			if starts[i], err = p.Locate(m.Start, m.Group); err != nil {
				return nil, err
			}
		}
		return func(now time.Time) error { return b.openQueues(f, t, &m, starts, now) }, nil
	})
}

func checkQueue(t *partition.Topic, m *wire.OpenQueue) error {
	if err := partition.CheckGroup(m.Group); err != nil {
		return err
	}
	if m.DeadLetter == t.Name() {
		return wire.Errorf(wire.CodeInvalid, "topic %q cannot be its own dead-letter topic", m.DeadLetter)
	}
	name := m.DeadLetter
	if name == "" {
		name = partition.DeadLetterTopic(t.Name(), m.Group)
	}
	if err := partition.CheckName(name); err != nil {
		return wire.Errorf(wire.CodeInvalid, "dead-letter topic: %s", asWireError(err).Detail)
	}
	return nil
}

func (b *binary) openQueues(f wire.Frame, t *partition.Topic, m *wire.OpenQueue, starts []uint64, now time.Time) error {
	policy := partition.QueuePolicy{
		Lease: milliseconds(m.LeaseMs), BackoffMin: milliseconds(m.BackoffMinMs),
		BackoffMax: milliseconds(m.BackoffMaxMs), MaxDeliveries: int(m.MaxDeliveries), DeadLetter: m.DeadLetter,
		OrderByKey: f.Flags&wire.FlagOrderByKey != 0,
	}
	var opened []logged
	var unusable error
	for i, start := range starts {
		p := t.Partitions()[i]
		if unusable = p.Err(); unusable != nil {
			continue
		}
		index, err := p.OpenQueue(m.Group, start, policy, now)
		if err != nil {
			return err
		}
		opened = append(opened, logged{p, index})
	}
	if len(opened) == 0 {
		return unusable
	}
	b.s.loop.awaitStates(opened, ack{to: b, op: f.Op, correlation: f.Correlation})
	return nil
}

// settleLeases serves ack, nack, reject, extend and discard.
func (b *binary) settleLeases(f wire.Frame, now time.Time) error {
	own := &b.s.loop.scratch
	m := &own.settle
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	own.ranges = own.ranges[:0]
	for _, g := range m.Ranges {
		own.ranges = append(own.ranges, group.Settle{First: g.First, Count: g.Count, Attempt: g.Attempt})
	}
	index, lost, err := p.Settle(b.groupName(m.Group), partition.Settlement{
		Op: f.Op, Ranges: own.ranges, Delay: time.Duration(m.Ms) * time.Millisecond, Reason: string(m.Reason),
		Unhandled: f.Flags&wire.FlagUnhandled != 0, // of a nack: others have no such flag
	}, now)
	if err != nil {
		return err
	}
	if level := min(p.Topic().Config().Level, p.StateLevel()); index != 0 && level > wire.LevelMemory {
		b.s.loop.flush(p, level)
		b.s.loop.watch(p).await(ack{to: b, op: f.Op, correlation: f.Correlation, level: level, index: index, base: uint64(lost)})
		return nil
	}
	b.replySettled(f.Op, f.Correlation, uint32(lost))
	return nil
}

// pending answers with the messages of a queue that are not done.
func (b *binary) pending(f wire.Frame, _ time.Time) error {
	var m wire.Pending
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	p, err := b.partition(m.Handle, m.Partition, actionConsume)
	if err != nil {
		return err
	}
	most := wire.MaxPendingRanges
	if m.Limit > 0 {
		most = min(most, int(m.Limit))
	}
	list, err := p.Pending(nil, m.Group, m.From, most)
	if err != nil {
		return err
	}
	reply := wire.PendingReply{Ranges: make([]wire.PendingRange, len(list))}
	for i, g := range list {
		reply.Ranges[i] = wire.PendingRange{First: g.First, Count: g.Count, Attempts: g.Attempts, Phase: wire.Phase(g.Phase)}
		if !g.Due.IsZero() {
			reply.Ranges[i].Due = g.Due.UnixMilli()
		}
	}
	b.reply(f, reply.Append)
	return nil
}

func (b *binary) replySettled(op wire.Op, correlation, lost uint32) {
	out := b.s.buffer()
	dst, at := wire.BeginFrame(out.B, op|wire.OpReply, 0, correlation)
	out.B = wire.EndFrame(wire.SettleReply{Lost: lost}.Append(dst), at)
}
