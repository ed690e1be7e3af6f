package server

import (
	"errors"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// coordinator runs group.Coordinator on a goroutine of its own. Event loops post the requests of members to it, and it
// posts the answers to the loops; neither waits for the other. It sets the fences of partitions before it tells members
// their assignments.
type coordinator struct {
	srv   *Server
	group *group.Coordinator

	mu    sync.Mutex // guards inbox and over
	inbox []func(now time.Time)
	over  bool

	wake chan struct{}
	done chan struct{}

	// The fields below belong to the goroutine.
	seats     map[seatKey]*seat
	next, end uint32 // generations that are reserved and not used: [next, end)
	refresh   time.Time
}

// seatKey names a member.
type seatKey struct{ group, member string }

// seat is where a member is told its assignments.
type seat struct {
	b           *binary
	correlation uint32
	topics      []string
}

// generationBlock is how many generations are reserved at a time, because each reservation waits for the disk.
const generationBlock = 1 << 16

// refreshInterval is how long it may take until a group notices that a topic was created, deleted or extended.
const refreshInterval = time.Second

func newCoordinator(srv *Server) *coordinator {
	co := &coordinator{srv: srv, wake: make(chan struct{}, 1), done: make(chan struct{}), seats: map[seatKey]*seat{}}
	co.group = group.NewCoordinator(co.topic, co.generation)
	return co
}

// post makes f run on the coordinator's goroutine, unless the broker has stopped. It never blocks.
func (co *coordinator) post(f func(now time.Time)) {
	co.mu.Lock()
	if co.over {
		co.mu.Unlock()
		return
	}
	co.inbox = append(co.inbox, f)
	co.mu.Unlock()
	select {
	case co.wake <- struct{}{}:
	default:
	}
}

// ask runs f on the coordinator's goroutine and waits for it. It must not be called on an event loop.
// f does not run when the broker has stopped.
func (co *coordinator) ask(f func(now time.Time)) {
	ran := make(chan struct{})
	co.post(func(now time.Time) {
		defer close(ran)
		f(now)
	})
	select {
	case <-ran:
	case <-co.done:
	}
}

// stop ends the goroutine after it has run what was posted before.
func (co *coordinator) stop() {
	co.mu.Lock()
	co.over = true
	co.mu.Unlock()
	select {
	case co.wake <- struct{}{}:
	default:
	}
}

func (co *coordinator) run() {
	defer close(co.done)
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for co.turn() {
		at, ok := co.due()
		if ok {
			alarm.Reset(max(0, at.Sub(co.srv.opts.Now())))
		}
		select {
		case <-co.wake:
		case <-alarm.C:
		}
	}
}

// due returns when the goroutine has to run a turn by itself.
func (co *coordinator) due() (time.Time, bool) {
	at, ok := co.group.Due()
	if ok && co.refresh.Before(at) {
		at = co.refresh
	}
	return at, ok
}

// turn runs what was posted, and what is due by the clock. It returns false when the broker has stopped.
func (co *coordinator) turn() bool {
	co.mu.Lock()
	jobs, over := co.inbox, co.over
	co.inbox = nil
	co.mu.Unlock()
	for _, f := range jobs {
		co.do(f)
	}
	co.do(func(now time.Time) {
		co.group.Expire(now)
		if !now.Before(co.refresh) {
			co.group.Refresh(now)
			co.refresh = now.Add(refreshInterval)
		}
		co.apply(nil)
	})
	return !over
}

// do runs a job. A panic of it does not end the broker.
func (co *coordinator) do(f func(now time.Time)) {
	defer func() {
		if r := recover(); r != nil {
			co.srv.panicked(r)
		}
	}()
	f(co.srv.opts.Now())
}

// topic describes a topic to the group package.
func (co *coordinator) topic(name string) (group.Topic, bool) {
	t := co.srv.registry.Topic(name)
	if t == nil {
		return group.Topic{}, false
	}
	g := group.Topic{ID: t.ID()}
	for _, p := range t.Partitions() {
		if p.Err() == nil {
			g.Partitions = append(g.Partitions, p.Number())
		}
	}
	return g, true
}

// generation returns a new generation. When none can be reserved, because the disk is full or has failed, it returns one
// all the same; then it may be returned again after a restart.
func (co *coordinator) generation() uint32 {
	if co.next == co.end {
		first, err := co.srv.registry.Generations(generationBlock)
		if err != nil {
			co.srv.opts.Logger.Error("no generations of group members could be reserved", "err", err)
		}
		co.next, co.end = max(first, co.end, 1), max(first, co.end, 1)+generationBlock
	}
	co.next++
	return co.next - 1
}

// partition returns a partition, or nil when it does not exist or cannot be used.
func (co *coordinator) partition(p group.Partition) *partition.Partition {
	t := co.srv.registry.Topic(p.Topic)
	if t == nil {
		return nil
	}
	part := t.Partition(p.Number)
	if part == nil || part.Err() != nil {
		return nil
	}
	return part
}

// apply sets the fences, calls between, and then tells members their assignments.
func (co *coordinator) apply(between func()) {
	e := co.group.Effects()
	for _, f := range e.Fences {
		p := co.partition(f.Partition)
		switch {
		case p == nil:
		case f.Open:
			p.LiftFence(f.Group)
		default:
			p.SetFence(f.Group, f.Generation)
		}
	}
	if between != nil {
		between()
	}
	for _, n := range e.Notices {
		key := seatKey{n.Group, n.Member}
		if s := co.seats[key]; s != nil {
			m := co.assigned(key)
			s.b.post(func(b *binary) { b.push(wire.OpAssigned, s.correlation, 0, m.Append) })
		}
	}
}

// assigned returns the message that tells a member its assignment.
func (co *coordinator) assigned(key seatKey) wire.Assigned {
	a, _ := co.group.Assignment(key.group, key.member)
	m := wire.Assigned{Revision: a.Revision}
	for _, h := range a.Partitions {
		if n := len(m.Topics); n == 0 || m.Topics[n-1].Topic != h.Topic {
			m.Topics = append(m.Topics, wire.AssignedTopic{Topic: h.Topic})
		}
		t := &m.Topics[len(m.Topics)-1]
		p := co.partition(h.Partition)
		t.Partitions = append(t.Partitions, wire.AssignedPartition{
			Partition: h.Number, Generation: h.Generation, Paused: p != nil && p.Paused(key.group),
		})
	}
	return m
}

// join adds a member and answers with its assignment.
func (co *coordinator) join(b *binary, correlation uint32, j *group.Join, who *auth.Principal, now time.Time) {
	err := co.mayBe(who, j.Group, j.Member, j.Instance)
	if err == nil {
		err = co.group.Join(*j, now)
	}
	if err != nil {
		co.apply(nil)
		b.answerLater(wire.OpJoinGroup, correlation, memberError(j.Group, j.Member, err))
		return
	}
	key := seatKey{j.Group, j.Member}
	delete(co.seats, key) // it gets the answer, and no notice in addition
	co.apply(nil)
	co.seats[key] = &seat{b: b, correlation: correlation, topics: j.Topics}
	m := co.assigned(key)
	b.post(func(b *binary) { b.replyTo(wire.OpJoinGroup, correlation, 0, m.Append) })
}

// heartbeat answers with the assignment, unless the member has seen it.
func (co *coordinator) heartbeat(b *binary, correlation uint32, m *wire.Heartbeat, who *auth.Principal, now time.Time) {
	key := seatKey{m.Group, m.Member}
	err := co.seated(b, key)
	if err == nil {
		err = co.barred(key, who, now)
	}
	if err == nil {
		err = co.group.Heartbeat(m.Group, m.Member, m.Revision, partitionsOf(m.Busy), now)
		co.apply(nil)
	}
	if err == nil {
		err = co.checkTopics(key)
	}
	if err != nil {
		b.answerLater(wire.OpHeartbeat, correlation, memberError(m.Group, m.Member, err))
		return
	}
	a, flags := co.assigned(key), wire.Flags(0)
	if a.Revision == m.Revision {
		a.Topics, flags = nil, wire.FlagUnchanged
	}
	b.post(func(b *binary) { b.replyTo(wire.OpHeartbeat, correlation, flags, a.Append) })
}

// seated refuses a request about a member that did not join last on its connection: it may have come late, after the member
// has moved to another one.
func (co *coordinator) seated(b *binary, key seatKey) error {
	if s := co.seats[key]; s == nil || s.b != b {
		return notSeated(key)
	}
	return nil
}

// mayBe returns an error when the user may not read a topic of the member that has an id or, when there is none, of the one
// with an instance id. It must not take that member's place, or speak for it.
func (co *coordinator) mayBe(who *auth.Principal, groupName, id, instance string) error {
	for _, t := range co.group.Topics(groupName, id, instance) {
		if !allows(who, actionConsume, t) {
			return wire.Errorf(wire.CodeForbidden, "user %q may not read all topics of that member of group %q", who.Name(), groupName)
		}
	}
	return nil
}

// barred takes a member out of its group when its user may no longer read one of its topics, so that others get its
// partitions, and returns the error for it.
func (co *coordinator) barred(key seatKey, who *auth.Principal, now time.Time) error {
	err := co.mayBe(who, key.group, key.member, "")
	if err != nil {
		_ = co.group.Leave(key.group, key.member, now) // it may have been replaced
		delete(co.seats, key)
		co.apply(nil)
	}
	return err
}

// checkTopics returns an error for a member that reads a topic that no longer exists.
func (co *coordinator) checkTopics(key seatKey) error {
	for _, t := range co.seats[key].topics {
		if co.srv.registry.Topic(t) == nil {
			return wire.Errorf(wire.CodeTopicDeleted, "topic %q was deleted", t)
		}
	}
	return nil
}

func (co *coordinator) leave(b *binary, correlation uint32, m *wire.LeaveGroup, now time.Time) {
	key := seatKey{m.Group, m.Member}
	err := co.seated(b, key)
	if err == nil {
		err = co.group.Leave(m.Group, m.Member, now)
		delete(co.seats, key)
		co.apply(nil)
	}
	b.answerLater(wire.OpLeaveGroup, correlation, memberError(m.Group, m.Member, err))
}

// disconnected is called when a connection on which members have joined ends.
func (co *coordinator) disconnected(b *binary, keys []seatKey, now time.Time) {
	for _, key := range keys {
		if s := co.seats[key]; s != nil && s.b == b {
			delete(co.seats, key)
		}
		co.group.Disconnected(key.group, key.member, b.s.id, now)
	}
	co.apply(nil)
}

// memberError translates an error of the group package to a *wire.Error.
func memberError(groupName, member string, err error) error {
	switch {
	case errors.Is(err, group.ErrNotMember):
		return wire.Errorf(wire.CodeNotMember, "group %q does not know member %q", groupName, member)
	case errors.Is(err, group.ErrReplaced):
		return wire.Errorf(wire.CodeFenced, "member %q of group %q was replaced by another one with its instance id", member, groupName)
	case errors.Is(err, group.ErrMembers):
		return wire.Errorf(wire.CodeLimit, "group %q has no room for another member", groupName)
	case errors.Is(err, group.ErrMember):
		return wire.Errorf(wire.CodeInvalid, "a member has an id and 1 to %d topics, a session from %v to %v and a hand-over time of at most %v",
			group.MaxTopics, group.MinSession, group.MaxSession, group.MaxHandover)
	}
	return err
}

func partitionsOf(list []wire.TopicPartitions) []group.Partition {
	var parts []group.Partition
	for _, t := range list {
		for _, n := range t.Partitions {
			parts = append(parts, group.Partition{Topic: t.Topic, Number: n})
		}
	}
	return parts
}
