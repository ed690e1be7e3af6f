package server

import (
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// seekGroup moves a group's offsets on the partitions of one topic. It checks all of them before it moves the first.
func (b *binary) seekGroup(f wire.Frame, _ time.Time) error {
	var m wire.SeekGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := partition.CheckGroup(m.Group); err != nil {
		return err
	}
	t, err := b.readableTopic(m.Topic)
	if err != nil {
		return err
	}
	if len(m.Offsets) == 0 {
		return wire.Errorf(wire.CodeInvalid, "a seek without offsets")
	}
	var named partitionSet
	for _, o := range m.Offsets {
		p := t.Partition(o.Partition)
		if p == nil {
			return partition.NoPartition(t, o.Partition)
		}
		if err := p.CheckSeek(m.Group, o.Offset); err != nil {
			return err
		}
		if err := named.add(o.Partition); err != nil {
			return err
		}
	}
	co, frame := b.s.loop.srv.coordinator, wire.Frame{Op: f.Op, Correlation: f.Correlation}
	return b.coordinate(f, func(now time.Time) { co.seek(b, frame, &m, now) })
}

// seek fences the members that hold the partitions, moves the offsets, and tells the members.
func (co *coordinator) seek(b *binary, f wire.Frame, m *wire.SeekGroup, now time.Time) {
	parts := make([]group.Partition, len(m.Offsets))
	for i, o := range m.Offsets {
		parts[i] = group.Partition{Topic: m.Topic, Number: o.Partition}
	}
	co.group.Seek(m.Group, parts)
	var done []logged
	var err error
	co.apply(func() {
		for i := range parts {
			p := co.partition(parts[i])
			if p == nil {
				err = co.srv.registry.NotFound(m.Topic)
				return
			}
			var index uint64
			if index, err = p.Seek(m.Group, m.Offsets[i].Offset, now); err != nil {
				return
			}
			done = append(done, logged{p, index})
		}
	})
	b.awaitLogged(f, done, partly(err, len(done)))
}

// partly returns err, with the retry class RetryUnknown when done > 0 parts of the request were carried out.
func partly(err error, done int) error {
	if err == nil || done == 0 {
		return err
	}
	e := asWireError(err)
	return &wire.Error{Code: e.Code, Retry: wire.RetryUnknown, Detail: e.Detail}
}

// awaitLogged answers on the session's loop when entries are durable, or at once with an error.
func (b *binary) awaitLogged(f wire.Frame, done []logged, err error) {
	b.post(func(b *binary) {
		switch {
		case err != nil:
			b.fail(f.Op, f.Correlation, asWireError(err))
		case len(done) == 0:
			b.replyTo(f.Op, f.Correlation, 0, nil)
		default:
			b.s.loop.awaitStates(done, ack{to: b, op: f.Op, correlation: f.Correlation})
		}
	})
}

func (b *binary) pauseGroup(f wire.Frame, _ time.Time) error {
	var m wire.PauseGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	var topics []string
	if m.Topic != "" {
		topics = append(topics, m.Topic)
	}
	if err := b.readable(m.Group, topics); err != nil {
		return err
	}
	co, frame, who := b.s.loop.srv.coordinator, wire.Frame{Op: f.Op, Correlation: f.Correlation}, b.s.who
	return b.coordinate(f, func(now time.Time) { co.pause(b, frame, &m, who, now) })
}

// pause pauses or resumes a group wherever it is known, and tells its members.
func (co *coordinator) pause(b *binary, f wire.Frame, m *wire.PauseGroup, who *auth.Principal, now time.Time) {
	var done []logged
	changed := false
	topics, err := co.topicsOf(m, who)
	for _, t := range topics {
		for p := range t.All() {
			if p.Err() != nil || err != nil {
				continue
			}
			changed = changed || p.Paused(m.Group) != m.Pause
			var index uint64
			if index, err = p.Pause(m.Group, m.Pause, now); err == nil {
				done = append(done, logged{p, index})
			}
		}
	}
	if changed {
		co.group.Touch(m.Group)
		co.apply(nil)
	}
	b.awaitLogged(f, done, partly(err, len(done)))
}

// topicsOf returns the topics on which a group has members or state. The error says that there are none, or which of them
// the user may not read.
func (co *coordinator) topicsOf(m *wire.PauseGroup, who *auth.Principal) ([]*partition.Topic, error) {
	reads := map[string]bool{}
	for _, g := range co.group.Groups(m.Group) {
		for _, member := range g.Members {
			for _, t := range member.Topics {
				reads[t] = true
			}
		}
	}
	var topics []*partition.Topic
	for _, t := range co.srv.registry.Topics() {
		if m.Topic != "" && m.Topic != t.Name() || !reads[t.Name()] && !knows(t, m.Group) {
			continue
		}
		if !allows(who, actionConsume, t.Name()) {
			return nil, withheld(who, actionConsume, t.Name(), m.Group)
		}
		topics = append(topics, t)
	}
	if len(topics) == 0 {
		return nil, wire.Errorf(wire.CodeGroupNotFound, "group %q does not exist", m.Group)
	}
	return topics, nil
}

func knows(t *partition.Topic, groupName string) bool {
	for _, p := range t.Partitions() {
		if p.Err() == nil && p.Knows(groupName) {
			return true
		}
	}
	return false
}
