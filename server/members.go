package server

import (
	"time"

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

// Requests to the coordinator wait in its inbox, where one connection must not fill the memory or keep others waiting.
const (
	// maxCoordinated bounds a connection's requests that wait, in bytes. As many small ones as it has seats are less.
	maxCoordinated = 8 << 20
	// coordinateBytes is about the memory of a request besides its body, and listBytes what a list counts for: it takes
	// as long as very many others.
	coordinateBytes = 512
	listBytes       = 1 << 20
	// maxClaims bounds the partitions that a member says it has. They take much more memory than in the frame.
	maxClaims = 1 << 16
)

// coordinate makes run run on the coordinator's goroutine for a request, unless too much of the connection waits there.
func (b *binary) coordinate(f wire.Frame, run func(now time.Time)) error {
	size := coordinateBytes + len(f.Body)
	if f.Op == wire.OpMembers {
		size = listBytes
	}
	if b.coordinated > 0 && b.coordinated+size > maxCoordinated {
		return wire.Errorf(wire.CodeBusy, "too many requests of this connection about groups wait")
	}
	b.coordinated += size
	b.s.loop.srv.coordinator.post(func(now time.Time) {
		defer b.post(func(b *binary) { b.coordinated -= size })
		defer b.s.containElsewhere()
		run(now)
	})
	return nil
}

// claimable refuses more partitions than a member can have.
func claimable(list []wire.TopicPartitions) error {
	n := 0
	for i := range list {
		n += len(list[i].Partitions)
	}
	if n > maxClaims {
		return wire.Errorf(wire.CodeTooLarge, "a member names at most %d partitions, not %d", maxClaims, n)
	}
	return nil
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
	if err := claimable(m.Claims); err != nil {
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
	co, correlation, who := b.s.loop.srv.coordinator, f.Correlation, b.s.who
	return b.coordinate(f, func(now time.Time) { co.join(b, correlation, &j, who, now) })
}

// readable checks the name of a group, and that the topics exist and the user may read them.
func (b *binary) readable(groupName string, topics []string) error {
	if err := partition.CheckGroup(groupName); err != nil {
		return err
	}
	for _, name := range topics {
		if _, err := b.readableTopic(name); err != nil {
			return err
		}
	}
	return nil
}

// readableTopic returns a topic that the user may read.
func (b *binary) readableTopic(name string) (*partition.Topic, error) {
	if err := b.allowed(actionConsume, name); err != nil {
		return nil, err
	}
	t := b.s.loop.srv.registry.Topic(name)
	if t == nil {
		return nil, b.s.loop.srv.registry.NotFound(name)
	}
	return t, nil
}

// seated refuses requests about members that never joined on this connection.
func (b *binary) seated(key seatKey) error {
	if _, ok := b.seats[key]; !ok {
		return notSeated(key)
	}
	return nil
}

func notSeated(key seatKey) error {
	return wire.Errorf(wire.CodeNotMember, "member %q of group %q did not join last on this connection", key.member, key.group)
}

func (b *binary) heartbeat(f wire.Frame, _ time.Time) error {
	var m wire.Heartbeat
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.seated(seatKey{m.Group, m.Member}); err != nil {
		return err
	}
	if err := claimable(m.Busy); err != nil {
		return err
	}
	co, correlation, who := b.s.loop.srv.coordinator, f.Correlation, b.s.who
	return b.coordinate(f, func(now time.Time) { co.heartbeat(b, correlation, &m, who, now) })
}

func (b *binary) leaveGroup(f wire.Frame, _ time.Time) error {
	var m wire.LeaveGroup
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.seated(seatKey{m.Group, m.Member}); err != nil {
		return err
	}
	co, correlation := b.s.loop.srv.coordinator, f.Correlation
	err := b.coordinate(f, func(now time.Time) { co.leave(b, correlation, &m, now) })
	if err == nil { // otherwise the member goes with the connection
		delete(b.seats, seatKey{m.Group, m.Member})
	}
	return err
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
