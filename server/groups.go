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
		p, err := b.partition(m.Handle, o.Partition, actionConsume)
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
		p, err := b.partition(m.Handle, o.Partition, actionConsume)
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
	if err := partition.CheckGroup(m.Group); err != nil {
		return err
	}
	t, err := b.topicFor(m.Handle, actionConsume)
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
		if !allows(who, actionDescribe, t.Name()) {
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

// deleteGroup drops a group on one topic or on all. It runs on a worker, because it looks at every partition.
func (b *binary) deleteGroup(f wire.Frame, now time.Time) error {
	var m wire.DeleteGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if m.Topic != "" {
		if err := b.allowed(actionAdmin, m.Topic); err != nil {
			return err
		}
	}
	srv, who, a := b.s.loop.srv, b.s.who, ack{to: b, op: f.Op, correlation: f.Correlation}
	return b.work(f.Op, f.Correlation, func() (func(time.Time) error, error) {
		topics, foreign, err := srv.droppable(&m, who)
		switch {
		case err != nil:
			return nil, err
		case foreign != "":
			return func(time.Time) error {
				b.s.denied(actionAdmin, foreign)
				return withheld(who, actionAdmin, foreign, m.Group)
			}, nil
		}
		found, drops, err := dropGroup(m.Group, topics, now)
		return func(time.Time) error { return b.dropped(m.Group, found, drops, a) }, err
	})
}

// droppable returns the topics on which a group is to be deleted: the one that is named or, without a name, all that the
// user may change. foreign is another topic that the group is on: then it must not be deleted.
func (srv *Server) droppable(m *wire.DeleteGroup, who *auth.Principal) (topics []*partition.Topic, foreign string, err error) {
	if m.Topic != "" {
		t := srv.registry.Topic(m.Topic)
		if t == nil {
			return nil, "", srv.registry.NotFound(m.Topic)
		}
		return []*partition.Topic{t}, "", nil
	}
	for _, t := range srv.registry.Topics() {
		switch {
		case allows(who, actionAdmin, t.Name()):
			topics = append(topics, t)
		case isOn(t, m.Group):
			return nil, t.Name(), nil
		}
	}
	return topics, "", nil
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
func withheld(who *auth.Principal, action action, topic, groupName string) error {
	if !allows(who, actionDescribe, topic) {
		return wire.Errorf(wire.CodeForbidden, "user %q may not %s every topic that group %q reads: name one",
			who.Name(), actionNames[action], groupName)
	}
	return wire.Errorf(wire.CodeForbidden, "user %q may not %s %q, which group %q reads", who.Name(), actionNames[action], topic, groupName)
}

// dropGroup drops a group on topics: on all or, when it has members on one of them, on none. It returns whether there was
// something to drop, and the drops that may not be durable yet, also earlier ones.
func dropGroup(name string, topics []*partition.Topic, now time.Time) (found bool, drops []logged, err error) {
	for _, t := range topics {
		for _, p := range t.Partitions() {
			if p.Err() == nil {
				if err := p.CheckDrop(name); err != nil {
					return false, nil, err
				}
			}
		}
	}
	done := 0
	for _, t := range topics {
		for p := range t.All() {
			if p.Err() != nil {
				continue
			}
			index, known, err := p.DropGroup(name, now)
			if err != nil {
				return found, drops, partly(err, done)
			}
			if known {
				found = true
				done++
			}
			if index != 0 && !p.Reached(index, p.StateLevel()) {
				drops = append(drops, logged{p, index})
			}
		}
	}
	return found, drops, nil
}

// dropped answers when drops are durable. That is so, too, for a group that is unknown: an answer must not tell of what a
// power cut can still take back.
func (b *binary) dropped(name string, found bool, drops []logged, a ack) error {
	switch {
	case found && len(drops) == 0:
		b.replyTo(a.op, a.correlation, 0, nil)
		return nil
	case !found:
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
