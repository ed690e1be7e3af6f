package server

import (
	"errors"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// coordinator runs the membership of groups on a goroutine of its own. Event loops post what members
// say, and are posted what to answer; neither waits for the other. Partitions are told their fences
// from here, before members are told their assignments.
type coordinator struct {
	srv   *Server
	group *group.Coordinator

	mu    sync.Mutex // guards inbox and over
	inbox []func(now time.Time)
	over  bool

	wake chan struct{}
	done chan struct{}

	// What follows belongs to the goroutine.
	seats     map[seatKey]*seat
	next, end uint32 // generations at hand
	refresh   time.Time
}

// seatKey names a member.
type seatKey struct{ group, member string }

// seat is where a member can be told things.
type seat struct {
	b           *binary
	loop        *loop
	correlation uint32
	topics      []string
}

// generationBlock is how many generations are reserved at once: each reservation is a flush.
const generationBlock = 1 << 16

// refreshInterval is how soon a group notices that a topic was added, grew or is gone.
const refreshInterval = time.Second

func newCoordinator(srv *Server) *coordinator {
	co := &coordinator{srv: srv, wake: make(chan struct{}, 1), done: make(chan struct{}), seats: map[seatKey]*seat{}}
	co.group = group.NewCoordinator(co.topic, co.generation)
	return co
}

// post has f run on the coordinator's goroutine, unless the broker has stopped. It never blocks.
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

// stop ends the goroutine. What was posted before still runs.
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

// due returns when the goroutine has to look again by itself.
func (co *coordinator) due() (time.Time, bool) {
	at, ok := co.group.Due()
	if ok && co.refresh.Before(at) {
		at = co.refresh
	}
	return at, ok
}

// turn does what was posted and what is due. It returns false when the broker has stopped.
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

// do keeps a panic of one job from ending the broker.
func (co *coordinator) do(f func(now time.Time)) {
	defer func() {
		if r := recover(); r != nil {
			co.srv.panicked(r)
		}
	}()
	f(co.srv.opts.Now())
}

// topic tells the group package about a topic.
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

// generation returns the next one. When none can be reserved, because the disk is full or failed, it
// goes on nevertheless: then a restart could give one out twice.
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

// partition returns a partition that can be used.
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

// apply sets the fences and tells members about their assignments. between runs in between.
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
			s.b.post(func(b *binary) { b.push(wire.OpAssigned, s.correlation, m.Append) })
		}
	}
}

// assigned is what a member should know.
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

// join seats a member and answers.
func (co *coordinator) join(b *binary, correlation uint32, j *group.Join, now time.Time) {
	err := co.group.Join(*j, now)
	if err != nil {
		co.apply(nil)
		b.answerLater(wire.OpJoinGroup, correlation, memberError(j.Group, j.Member, err))
		return
	}
	key := seatKey{j.Group, j.Member}
	delete(co.seats, key) // it is answered, not notified
	co.apply(nil)
	co.seats[key] = &seat{b: b, loop: b.s.loop, correlation: correlation, topics: j.Topics}
	m := co.assigned(key)
	b.post(func(b *binary) { b.replyTo(wire.OpJoinGroup, correlation, 0, m.Append) })
}

// heartbeat answers with the assignment, unless the member has seen it.
func (co *coordinator) heartbeat(b *binary, correlation uint32, m *wire.Heartbeat, now time.Time) {
	key := seatKey{m.Group, m.Member}
	err := co.group.Heartbeat(m.Group, m.Member, m.Revision, partitionsOf(m.Busy), now)
	co.apply(nil)
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

// checkTopics tells a member that a topic it reads is gone: nothing else would.
func (co *coordinator) checkTopics(key seatKey) error {
	s := co.seats[key]
	if s == nil {
		return nil
	}
	for _, t := range s.topics {
		if co.srv.registry.Topic(t) == nil {
			return wire.Errorf(wire.CodeTopicDeleted, "topic %q was deleted", t)
		}
	}
	return nil
}

func (co *coordinator) leave(b *binary, correlation uint32, m *wire.LeaveGroup, now time.Time) {
	err := co.group.Leave(m.Group, m.Member, now)
	delete(co.seats, seatKey{m.Group, m.Member})
	co.apply(nil)
	b.answerLater(wire.OpLeaveGroup, correlation, memberError(m.Group, m.Member, err))
}

// disconnected is told when a connection with members ends.
func (co *coordinator) disconnected(b *binary, keys []seatKey, now time.Time) {
	for _, key := range keys {
		if s := co.seats[key]; s != nil && s.b == b {
			delete(co.seats, key)
		}
		co.group.Disconnected(key.group, key.member, b.s.id, now)
	}
	co.apply(nil)
}

// memberError is an error of the group package as it crosses the network.
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
