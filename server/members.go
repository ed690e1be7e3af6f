package server

import (
	"encoding/json"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// post makes f run on the session's loop, unless the connection is gone by then. It may be called from any goroutine.
func (b *binary) post(f func(b *binary)) {
	b.s.loop.post(jobFunc(func(time.Time) {
		if !b.s.closed {
			f(b)
		}
	}))
}

// answerLater answers on the session's loop: with err or, when that is nil, with an empty reply.
func (b *binary) answerLater(op wire.Op, correlation uint32, err error) {
	b.post(func(b *binary) {
		if err != nil {
			b.fail(op, correlation, asWireError(err))
			return
		}
		b.replyTo(op, correlation, 0, nil)
	})
}

// push appends a frame that is no reply.
func (b *binary) push(op wire.Op, correlation uint32, appendBody func(dst []byte) []byte) {
	out := b.s.buffer()
	dst, at := wire.BeginFrame(out.B, op, 0, correlation)
	out.B = wire.EndFrame(appendBody(dst), at)
}

// maxSeats bounds the members that join on one connection.
const maxSeats = 10_000

func (b *binary) joinGroup(f wire.Frame, _ time.Time) error {
	var m wire.JoinGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.readable(m.Group, m.Topics); err != nil {
		return err
	}
	key := seatKey{m.Group, m.Member}
	if _, seated := b.seats[key]; !seated && len(b.seats) >= maxSeats {
		return wire.Errorf(wire.CodeLimit, "a connection has at most %d members of groups", maxSeats)
	}
	if b.seats == nil {
		b.seats = map[seatKey]struct{}{}
	}
	b.seats[key] = struct{}{}
	j := group.Join{
		Group: m.Group, Member: m.Member, Instance: m.Instance, Connection: b.s.id, Topics: m.Topics,
		Session: milliseconds(m.SessionMs), Handover: milliseconds(m.HandoverMs), Claims: partitionsOf(m.Claims),
	}
	co, correlation := b.s.loop.srv.coordinator, f.Correlation
	co.post(func(now time.Time) { co.join(b, correlation, &j, now) })
	return nil
}

// readable checks the name of a group, and that the topics exist and the user may read them.
func (b *binary) readable(groupName string, topics []string) error {
	if err := partition.CheckGroup(groupName); err != nil {
		return err
	}
	for _, name := range topics {
		if err := b.allowed(ActionConsume, name); err != nil {
			return err
		}
		if b.s.loop.srv.registry.Topic(name) == nil {
			return b.s.loop.srv.registry.NotFound(name)
		}
	}
	return nil
}

// seated refuses requests about members that did not join on this connection.
func (b *binary) seated(groupName, member string) error {
	if _, ok := b.seats[seatKey{groupName, member}]; !ok {
		return wire.Errorf(wire.CodeNotMember, "member %q of group %q did not join on this connection", member, groupName)
	}
	return nil
}

func (b *binary) heartbeat(f wire.Frame, _ time.Time) error {
	var m wire.Heartbeat
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.seated(m.Group, m.Member); err != nil {
		return err
	}
	co, correlation := b.s.loop.srv.coordinator, f.Correlation
	co.post(func(now time.Time) { co.heartbeat(b, correlation, &m, now) })
	return nil
}

func (b *binary) leaveGroup(f wire.Frame, _ time.Time) error {
	var m wire.LeaveGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.seated(m.Group, m.Member); err != nil {
		return err
	}
	delete(b.seats, seatKey{m.Group, m.Member})
	co, correlation := b.s.loop.srv.coordinator, f.Correlation
	co.post(func(now time.Time) { co.leave(b, correlation, &m, now) })
	return nil
}

// unseat tells the coordinator that the connection is gone.
func (b *binary) unseat() {
	if len(b.seats) == 0 {
		return
	}
	keys := make([]seatKey, 0, len(b.seats))
	for key := range b.seats {
		keys = append(keys, key)
	}
	co := b.s.loop.srv.coordinator
	co.post(func(now time.Time) { co.disconnected(b, keys, now) })
}

// seekGroup moves a group's offsets on the partitions of one topic. It checks all of them before it moves the first.
func (b *binary) seekGroup(f wire.Frame, _ time.Time) error {
	var m wire.SeekGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.readable(m.Group, []string{m.Topic}); err != nil {
		return err
	}
	if len(m.Offsets) == 0 {
		return wire.Errorf(wire.CodeInvalid, "a seek without offsets")
	}
	t := b.s.loop.srv.registry.Topic(m.Topic)
	seen := map[uint16]bool{}
	for _, o := range m.Offsets {
		p := t.Partition(o.Partition)
		if p == nil {
			return partition.NoPartition(t, o.Partition)
		}
		if err := p.CheckSeek(m.Group, o.Offset); err != nil {
			return err
		}
		if seen[o.Partition] {
			return wire.Errorf(wire.CodeInvalid, "partition %d is named twice", o.Partition)
		}
		seen[o.Partition] = true
	}
	co, frame := b.s.loop.srv.coordinator, wire.Frame{Op: f.Op, Correlation: f.Correlation}
	co.post(func(now time.Time) { co.seek(b, frame, &m, now) })
	return nil
}

// logged is a state entry for which an answer waits.
type logged struct {
	p     *partition.Partition
	index uint64
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
			return
		case len(done) == 0:
			b.replyTo(f.Op, f.Correlation, 0, nil)
			return
		}
		j := b.newJoin(len(done))
		for _, d := range done {
			b.s.loop.awaitState(d.p, ack{to: b, op: f.Op, correlation: f.Correlation, index: d.index, join: j})
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
	co.post(func(now time.Time) { co.pause(b, frame, &m, who, now) })
	return nil
}

// pause pauses or resumes a group wherever it is known, and tells its members.
func (co *coordinator) pause(b *binary, f wire.Frame, m *wire.PauseGroup, who *auth.Principal, now time.Time) {
	var done []logged
	changed := false
	topics, err := co.topicsOf(m, who)
	for _, t := range topics {
		for _, p := range t.Partitions() {
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
		if !allows(who, ActionConsume, t.Name()) {
			return nil, wire.Errorf(wire.CodeForbidden, "user %q may not read %q, which group %q reads", who.Name(), t.Name(), m.Group)
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

// listMembers answers with the members of one group or of all groups.
func (b *binary) listMembers(f wire.Frame, _ time.Time) error {
	var m wire.Groups
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	co, correlation, who := b.s.loop.srv.coordinator, f.Correlation, b.s.who
	co.post(func(now time.Time) {
		body, err := json.Marshal(co.describe(m.Group, who, now))
		if err == nil && len(body) > maxFetchBytes {
			err = wire.Errorf(wire.CodeTooLarge, "the list of members is over %d bytes; ask for one group", maxFetchBytes)
		}
		if err != nil {
			b.answerLater(wire.OpMembers, correlation, err)
			return
		}
		b.post(func(b *binary) {
			b.replyTo(wire.OpMembers, correlation, 0, func(dst []byte) []byte { return append(dst, body...) })
		})
	})
	return nil
}

// describe returns the groups with members that read a topic which the user may see.
func (co *coordinator) describe(name string, who *auth.Principal, now time.Time) []wire.GroupMembers {
	list := []wire.GroupMembers{}
	for _, g := range co.group.Groups(name) {
		out := wire.GroupMembers{Group: g.Group, Generation: g.Generation, Rebalances: g.Rebalances, Members: []wire.GroupMember{}}
		for i := range g.Members {
			if m, visible := describeMember(&g.Members[i], who, now); visible {
				out.Members = append(out.Members, m)
			}
		}
		if len(out.Members) > 0 {
			list = append(list, out)
		}
	}
	return list
}

func describeMember(m *group.MemberInfo, who *auth.Principal, now time.Time) (out wire.GroupMember, visible bool) {
	out = wire.GroupMember{
		Member: m.Member, Instance: m.Instance, Connection: m.Connection,
		Topics: []string{}, Partitions: []wire.MemberPartition{}, Age: ageOf(m.Joined, now), Silent: ageOf(m.Heard, now),
	}
	for _, t := range m.Topics {
		if allows(who, ActionDescribe, t) {
			out.Topics = append(out.Topics, t)
		}
	}
	for _, h := range m.Held {
		if allows(who, ActionDescribe, h.Topic) {
			out.Partitions = append(out.Partitions, wire.MemberPartition{Topic: h.Topic, Partition: int(h.Number), Generation: h.Generation})
		}
	}
	return out, len(out.Topics) > 0
}

// holders returns which member holds which partition of which group. It waits for the coordinator, so it must not be called
// on an event loop.
func (srv *Server) holders() map[holding]string {
	held := map[holding]string{}
	srv.coordinator.ask(func(time.Time) {
		for _, g := range srv.coordinator.group.Groups("") {
			for _, m := range g.Members {
				name := m.Instance
				if name == "" {
					name = m.Member
				}
				for _, h := range m.Held {
					held[holding{g.Group, h.Topic, int(h.Number)}] = name
				}
			}
		}
	})
	return held
}

// holding is a partition of a group.
type holding struct {
	group, topic string
	partition    int
}

// nameHolders fills in the members that hold the partitions.
func (srv *Server) nameHolders(infos []wire.GroupInfo) {
	held := srv.holders()
	for i := range infos {
		g := &infos[i]
		if g.Mode == "group" {
			g.Member = held[holding{g.Group, g.Topic, g.Partition}]
		}
	}
}
