package server

import (
	"encoding/json"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// commitOffsets stores a group's offsets on the partitions of one topic. It checks all of them before it stores the first.
func (b *binary) commitOffsets(f wire.Frame, now time.Time) error {
	m := &b.s.loop.scratch.commit
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if len(m.Offsets) == 0 {
		return wire.Errorf(wire.CodeInvalid, "a commit without offsets")
	}
	name := b.groupName(m.Group)
	var named partitionSet
	for _, o := range m.Offsets {
		p, err := b.partition(m.Handle, o.Partition, ActionConsume)
		if err == nil {
			err = named.add(o.Partition)
		}
		if err != nil {
			return err
		}
		if err := p.CheckCommit(name, o.Offset, m.Generation); err != nil {
			return err
		}
	}
	var j *join
	if len(m.Offsets) > 1 {
		j = &join{left: len(m.Offsets)}
	}
	for i, o := range m.Offsets {
		p, err := b.partition(m.Handle, o.Partition, ActionConsume)
		if err != nil {
			return err
		}
		index, err := p.Commit(name, o.Offset, m.Generation, now)
		if err != nil {
			return partly(err, i)
		}
		b.s.loop.awaitState(p, ack{to: b, op: f.Op, correlation: f.Correlation, index: index, join: j})
	}
	return nil
}

// partitionSet are the partitions of a topic that a request has named so far.
type partitionSet [wire.MaxPartitions / 64]uint64

// add refuses a partition that was named before: each costs an entry, and a request has room for very many. The topic must
// have the partition.
func (s *partitionSet) add(number uint16) error {
	word, bit := &s[number/64], uint64(1)<<(number%64)
	if *word&bit != 0 {
		return wire.Errorf(wire.CodeInvalid, "partition %d is named twice", number)
	}
	*word |= bit
	return nil
}

func (b *binary) committed(f wire.Frame, _ time.Time) error {
	var m wire.Committed
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	t, err := b.topicFor(m.Handle, ActionConsume)
	if err != nil {
		return err
	}
	var reply wire.CommittedReply
	for _, p := range t.Partitions() {
		if c, ok := p.Committed(m.Group); ok {
			reply.Offsets = append(reply.Offsets, wire.CommittedOffset{
				Partition: p.Number(), Offset: c.Offset, Time: c.At.UnixMilli(),
			})
		}
	}
	b.reply(f, reply.Append)
	return nil
}

// listGroups answers with the groups. It runs on a worker, because the age of a lag may have to be read from the disk.
func (b *binary) listGroups(f wire.Frame, now time.Time) error {
	var m wire.Groups
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	op, correlation, srv, who := f.Op, f.Correlation, b.s.loop.srv, b.s.who
	return b.work(op, correlation, func() (func(time.Time) error, error) {
		infos := srv.groupInfos(who, m.Group, func(p *partition.Partition) []wire.GroupInfo { return p.GroupsCold(now) })
		srv.nameHolders(infos)
		body, err := json.Marshal(infos)
		switch {
		case err != nil:
			return nil, wire.Errorf(wire.CodeInternal, "encode groups: %v", err)
		case len(body) > maxFetchBytes:
			return nil, wire.Errorf(wire.CodeTooLarge, "the list of groups is over %d bytes; ask for one group", maxFetchBytes)
		}
		return func(time.Time) error {
			b.replyTo(op, correlation, 0, func(dst []byte) []byte { return append(dst, body...) })
			return nil
		}, nil
	})
}

// groupInfos describes the groups that a user may see: the one with a name, or all for "".
func (srv *Server) groupInfos(who *auth.Principal, name string, of func(p *partition.Partition) []wire.GroupInfo) []wire.GroupInfo {
	infos := []wire.GroupInfo{}
	for _, t := range srv.registry.Topics() {
		if !allows(who, ActionDescribe, t.Name()) {
			continue
		}
		for _, p := range t.Partitions() {
			for _, info := range of(p) {
				if name == "" || info.Group == name {
					infos = append(infos, info)
				}
			}
		}
	}
	return infos
}

func (b *binary) deleteGroup(f wire.Frame, now time.Time) error {
	var m wire.DeleteGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	topics, err := b.droppable(&m)
	if err != nil {
		return err
	}
	for _, t := range topics { // all or none
		for _, p := range t.Partitions() {
			if p.Err() == nil {
				if err := p.CheckDrop(m.Group); err != nil {
					return err
				}
			}
		}
	}
	return b.dropGroup(f, m.Group, topics, now)
}

// droppable returns the topics on which a group is to be deleted: the one that is named or, without a name, all that the
// user may change. The group must not be on others.
func (b *binary) droppable(m *wire.DeleteGroup) ([]*partition.Topic, error) {
	registry := b.s.loop.srv.registry
	if m.Topic != "" {
		if err := b.allowed(ActionAdmin, m.Topic); err != nil {
			return nil, err
		}
		t := registry.Topic(m.Topic)
		if t == nil {
			return nil, registry.NotFound(m.Topic)
		}
		return []*partition.Topic{t}, nil
	}
	var topics []*partition.Topic
	for _, t := range registry.Topics() {
		switch {
		case allows(b.s.who, ActionAdmin, t.Name()):
			topics = append(topics, t)
		case isOn(t, m.Group):
			b.s.denied(ActionAdmin, t.Name())
			return nil, withheld(b.s.who, ActionAdmin, t.Name(), m.Group)
		}
	}
	return topics, nil
}

// isOn reports whether a group has members or state on a topic.
func isOn(t *partition.Topic, groupName string) bool {
	for _, p := range t.Partitions() {
		if p.Err() == nil && (p.Knows(groupName) || p.CheckDrop(groupName) != nil) {
			return true
		}
	}
	return false
}

// withheld is the error for a group on a topic with which the user may not do action. It names the topic only to a user
// who may see it.
func withheld(who *auth.Principal, action Action, topic, groupName string) error {
	if !allows(who, ActionDescribe, topic) {
		return wire.Errorf(wire.CodeForbidden, "user %q may not %s every topic that group %q reads: name one",
			who.Name(), actionNames[action], groupName)
	}
	return wire.Errorf(wire.CodeForbidden, "user %q may not %s %q, which group %q reads", who.Name(), actionNames[action], topic, groupName)
}

// dropGroup drops a group on topics. When it is unknown there, that is answered when earlier drops are durable: an
// answer must not tell of what a power cut can still take back.
func (b *binary) dropGroup(f wire.Frame, name string, topics []*partition.Topic, now time.Time) error {
	var drops []logged
	found := false
	for _, t := range topics {
		for p := range t.All() {
			if p.Err() != nil {
				continue
			}
			index, known, err := p.DropGroup(name, now)
			if err != nil {
				return partly(err, len(drops))
			}
			found = found || known
			if index != 0 {
				drops = append(drops, logged{p, index})
			}
		}
	}
	a := ack{to: b, op: f.Op, correlation: f.Correlation}
	if !found {
		missing := wire.Errorf(wire.CodeGroupNotFound, "group %q does not exist", name)
		if len(drops) == 0 {
			return missing
		}
		a.to = refusal{b, missing}
	}
	b.s.loop.awaitStates(drops, a)
	return nil
}

// refusal answers a request with an error, unless what makes that true does not become durable.
type refusal struct {
	b   *binary
	err *wire.Error
}

func (r refusal) acknowledged(_ *partition.Partition, a ack, err error) {
	if r.b.s.closed {
		return
	}
	if err != nil {
		r.b.fail(a.op, a.correlation, asWireError(err))
		return
	}
	r.b.fail(a.op, a.correlation, r.err)
}
