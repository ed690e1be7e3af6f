package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
)

// The simulation runs a broker's coordinator and partitions with members that behave as the client
// does, over a network that delays, loses and reorders, in simulated time. Members join, leave, crash, restart,
// hang and lose connections; the broker restarts; groups are sought and topics grow. What must hold:
//
//   - a generation of a partition is given to one member only, ever;
//   - only a seek moves a committed offset back, although a commit may arrive long after the member has
//     given up the connection on which it sent it;
//   - a commit that was accepted covers only messages whose handling ended under the generations since
//     the last seek, or that a seek has skipped;
//   - when the trouble ends every partition has an owner, the owners are equal, and every message
//     gets handled and committed.

const simGroup = "g"

// simPartition is a partition on the broker, and what the test knows of it.
type simPartition struct {
	state   *State
	end     uint64
	handled map[uint64]bool // since the last seek
	skipped map[uint64]bool // by seeks
	sought  uint32          // the least generation that counts since the last seek
	reached uint64          // the highest committed offset since the last seek
}

// simTask is a member's work on a partition.
type simTask struct {
	generation uint32
	done       uint64 // everything before is handled
	committed  uint64
	inHand     bool // the message at done is being handled
	leaving    bool // withdrawn or lost: no more messages are taken
	lost       bool // nothing is committed any more
	restart    bool // begins again when the message in hand is done
	next       uint32
}

// simCommit is a commit that has not arrived.
type simCommit struct {
	member     *simMember
	connection uint64
	place      Partition
	offset     uint64
	generation uint32
}

type simMember struct {
	id, instance string
	topics       []string
	connection   uint64 // 0 while there is none
	joined       bool   // on this connection
	hung         bool   // does nothing
	revision     uint32
	tasks        map[Partition]*simTask
	toBroker     []func()
	toMember     []func()
}

type simulation struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	c       *Coordinator
	last    uint32
	topics  map[string]int
	parts   map[Partition]*simPartition
	members []*simMember
	ids     int
	granted map[Held]string // who got a generation
	calm    bool            // nothing goes wrong any more

	underway []*simCommit
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		t: t, rng: rand.New(rand.NewPCG(seed, 3)), now: t0,
		topics: map[string]int{"a": 1 + int(seed%5), "b": int(seed % 3)}, parts: map[Partition]*simPartition{}, granted: map[Held]string{},
	}
	s.grow()
	s.startBroker()
	return s
}

// grow makes the partitions that the topics say.
func (s *simulation) grow() {
	for name, n := range s.topics {
		for i := range n {
			p := Partition{name, uint16(i)}
			if s.parts[p] == nil {
				s.parts[p] = &simPartition{state: New(), end: uint64(s.rng.IntN(20)), handled: map[uint64]bool{}, skipped: map[uint64]bool{}}
			}
		}
	}
}

func (s *simulation) startBroker() {
	s.c = NewCoordinator(func(name string) (Topic, bool) {
		n, ok := s.topics[name]
		t := Topic{}
		for i := range n {
			t.Partitions = append(t.Partitions, uint16(i))
		}
		return t, ok
	}, func() uint32 { s.last++; return s.last })
}

// restartBroker loses what is soft.
func (s *simulation) restartBroker() {
	for _, p := range s.parts {
		restored, err := Restore(p.state.AppendSnapshot(nil))
		require.NoError(s.t, err)
		p.state = restored
	}
	for _, m := range s.members {
		m.disconnect()
	}
	s.underway = nil
	s.startBroker()
}

// settle does what the coordinator wants.
func (s *simulation) settle() {
	e := s.c.Effects()
	for _, f := range e.Fences {
		p := s.parts[f.Partition]
		if f.Open {
			p.state.LiftFence(f.Group)
		} else {
			p.state.SetFence(f.Group, f.Generation)
		}
	}
	for _, n := range e.Notices {
		a, ok := s.c.Assignment(n.Group, n.Member)
		require.True(s.t, ok)
		s.check(n.Member, a)
		for _, m := range s.members {
			if m.id == n.Member && m.joined {
				s.send(&m.toMember, func() { m.apply(s, a) })
			}
		}
	}
}

// check looks at what a member is told.
func (s *simulation) check(member string, a Assignment) {
	for _, h := range a.Partitions {
		owner, known := s.granted[h]
		require.True(s.t, !known || owner == member, "%v was given to %s and to %s", h, owner, member)
		s.granted[h] = member
	}
}

func (s *simulation) send(queue *[]func(), message func()) { *queue = append(*queue, message) }

// deliver lets one message of a queue arrive.
func (s *simulation) deliver(queue *[]func()) {
	if len(*queue) == 0 {
		return
	}
	m := (*queue)[0]
	*queue = (*queue)[1:]
	m()
	s.settle()
}

func (m *simMember) disconnect() {
	m.connection, m.joined, m.toBroker, m.toMember = 0, false, nil, nil
}

// start adds a member, or one in the place of a crashed one with the same instance.
func (s *simulation) start(instance string) {
	s.ids++
	s.members = append(s.members, &simMember{
		id: fmt.Sprint("m", s.ids), instance: instance, topics: []string{"a", "b"}[:1+s.rng.IntN(2)], tasks: map[Partition]*simTask{},
	})
}

// connect dials and says who the member is.
func (s *simulation) connect(m *simMember) {
	if m.connection == 0 {
		s.ids++
		m.connection = uint64(s.ids)
	}
	j := Join{
		Group: simGroup, Member: m.id, Instance: m.instance, Topics: m.topics, Connection: m.connection,
		Session: 3 * time.Second, Handover: 5 * time.Second,
	}
	for p, t := range m.tasks {
		if !t.lost {
			j.Claims = append(j.Claims, p)
		}
	}
	slices.SortFunc(j.Claims, comparePartitions)
	s.send(&m.toBroker, func() {
		err := s.c.Join(j, s.now)
		s.settle()
		s.answer(m, err)
	})
}

// answer replies to a join or a heartbeat.
func (s *simulation) answer(m *simMember, err error) {
	switch err {
	case nil:
		a, ok := s.c.Assignment(simGroup, m.id)
		require.True(s.t, ok)
		s.check(m.id, a)
		s.send(&m.toMember, func() { m.joined = true; m.apply(s, a) })
	case ErrNotMember:
		s.send(&m.toMember, func() { m.joined, m.revision = false, 0 })
	default:
		require.ErrorIs(s.t, err, ErrReplaced)
		s.send(&m.toMember, func() { s.bury(m) })
	}
}

// bury forgets a member.
func (s *simulation) bury(m *simMember) {
	m.disconnect()
	s.members = slices.DeleteFunc(s.members, func(o *simMember) bool { return o == m })
}

func (m *simMember) places() []Partition {
	var list []Partition
	for p := range m.tasks {
		list = append(list, p)
	}
	slices.SortFunc(list, comparePartitions)
	return list
}

// apply is what the client does with an assignment.
func (m *simMember) apply(s *simulation, a Assignment) {
	if a.Revision < m.revision {
		return
	}
	m.revision = a.Revision
	now := map[Partition]Held{}
	for _, h := range a.Partitions {
		now[h.Partition] = h
	}
	for _, p := range m.places() {
		t := m.tasks[p]
		h, stays := now[p]
		switch {
		case !stays:
			t.leaving = true
		case t.generation != h.Generation:
			t.leaving, t.lost, t.restart, t.next = true, true, true, h.Generation
		}
	}
	for p, h := range now {
		if m.tasks[p] == nil {
			m.open(s, p, h.Generation)
		}
	}
	for _, p := range m.places() {
		m.release(s, p)
	}
}

func (m *simMember) open(s *simulation, p Partition, generation uint32) {
	c, _ := s.parts[p].state.Committed(simGroup)
	m.tasks[p] = &simTask{generation: generation, done: c.Offset, committed: c.Offset}
}

// release ends a task that takes no more messages and has none in hand.
func (m *simMember) release(s *simulation, p Partition) {
	t := m.tasks[p]
	if !t.leaving || t.inHand {
		return
	}
	if !t.lost && t.done != t.committed {
		m.commit(s, p) // leaves when that is answered
		return
	}
	delete(m.tasks, p)
	if t.restart {
		m.open(s, p, t.next)
	}
}

func (m *simMember) commit(s *simulation, p Partition) {
	t := m.tasks[p]
	offset, generation := t.done, t.generation
	c := &simCommit{m, m.connection, p, offset, generation}
	s.underway = append(s.underway, c)
	s.send(&m.toBroker, func() {
		s.underway = slices.DeleteFunc(s.underway, func(o *simCommit) bool { return o == c })
		err := s.commit(p, offset, generation)
		s.send(&m.toMember, func() {
			if m.tasks[p] != t {
				return
			}
			if err != nil {
				t.leaving, t.lost = true, true
			} else {
				t.committed = max(t.committed, offset)
			}
			m.release(s, p)
		})
	})
}

// arriveLate lets a commit arrive that was sent on a connection which its member has given up.
func (s *simulation) arriveLate() {
	i := slices.IndexFunc(s.underway, func(c *simCommit) bool { return c.connection != c.member.connection })
	if i < 0 {
		return
	}
	c := s.underway[i]
	s.underway = slices.Delete(s.underway, i, i+1)
	_ = s.commit(c.place, c.offset, c.generation) // it may be refused, and nobody hears
}

// commit is the broker's side, with the check of what must hold.
func (s *simulation) commit(p Partition, offset uint64, generation uint32) error {
	part := s.parts[p]
	if err := part.state.MayCommit(simGroup, generation); err != nil {
		return err
	}
	require.GreaterOrEqual(s.t, generation, part.sought, "a commit from before the seek")
	for o := range offset {
		require.True(s.t, part.handled[o] || part.skipped[o], "commit of %d on %v, and %d was not handled", offset, p, o)
	}
	if part.state.IsLate(simGroup, offset, generation) {
		return nil
	}
	require.GreaterOrEqual(s.t, offset, part.reached, "%v went back", p)
	part.reached = offset
	require.NoError(s.t, part.state.Apply(AppendCommit(nil, simGroup, offset, s.now)))
	return nil
}

func (m *simMember) heartbeat(s *simulation) {
	revision := m.revision
	var busy []Partition
	for p, t := range m.tasks {
		if t.leaving {
			busy = append(busy, p)
		}
	}
	s.send(&m.toBroker, func() {
		err := s.c.Heartbeat(simGroup, m.id, revision, busy, s.now)
		s.settle()
		s.answer(m, err)
	})
}

// work takes or ends a message.
func (m *simMember) work(s *simulation, p Partition) {
	t, part := m.tasks[p], s.parts[p]
	switch {
	case t.inHand:
		t.inHand = false
		if t.generation >= part.sought {
			part.handled[t.done] = true
		}
		t.done++
		m.release(s, p)
	case !t.leaving && t.done < part.end:
		t.inHand = true
	}
}

func (s *simulation) seek() {
	places := make([]Partition, 0, len(s.parts))
	for p := range s.parts {
		places = append(places, p)
	}
	slices.SortFunc(places, comparePartitions)
	p := places[s.rng.IntN(len(places))]
	part := s.parts[p]
	offset := uint64(s.rng.IntN(int(part.end) + 1))
	generation := s.c.Seek(simGroup, []Partition{p})[0]
	if generation == 0 { // nobody holds it
		generation = s.last + 1
	}
	s.settle()
	require.NoError(s.t, part.state.Apply(AppendCommit(nil, simGroup, offset, s.now)))
	part.sought, part.handled, part.skipped = generation, map[uint64]bool{}, map[uint64]bool{}
	part.reached = offset
	for o := range offset {
		part.skipped[o] = true
	}
}

// leave finishes with everything and says so.
func (s *simulation) leave(m *simMember) {
	for len(m.toBroker)+len(m.toMember) > 0 {
		s.deliver(&m.toBroker)
		s.deliver(&m.toMember)
	}
	for p, t := range m.tasks {
		if !t.lost && t.done != t.committed {
			_ = s.commit(p, t.done, t.generation) // refused when another one has the partition
		}
	}
	_ = s.c.Leave(simGroup, m.id, s.now) // it may be unknown
	s.settle()
	s.bury(m)
}

// crash ends a member without a word. Its connection's end may be noticed.
func (s *simulation) crash(m *simMember) {
	if s.rng.IntN(2) == 0 {
		s.c.Disconnected(simGroup, m.id, m.connection, s.now)
		s.settle()
	}
	s.bury(m)
	if m.instance != "" && s.rng.IntN(2) == 0 {
		s.start(m.instance)
	}
}

func (s *simulation) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.c.Expire(s.now)
	s.settle()
}

func (s *simulation) trouble() {
	var m *simMember
	if len(s.members) > 0 {
		m = s.members[s.rng.IntN(len(s.members))]
	}
	switch n := s.rng.IntN(100); {
	case n < 25 && len(s.members) < 6:
		instance := ""
		if s.rng.IntN(2) == 0 {
			instance = fmt.Sprint("i", s.rng.IntN(3))
		}
		s.start(instance)
	case n < 35 && m != nil:
		s.leave(m)
	case n < 45 && m != nil:
		s.crash(m)
	case n < 60 && m != nil:
		m.disconnect()
		s.c.Disconnected(simGroup, m.id, m.connection, s.now)
	case n < 70 && m != nil:
		m.hung = !m.hung
	case n < 85:
		s.seek()
	case n < 90:
		s.restartBroker()
	case n < 95:
		s.topics["a"] += s.rng.IntN(2)
		s.grow()
		s.c.Refresh(s.now)
		s.settle()
	default:
		for _, p := range s.parts {
			p.end += uint64(s.rng.IntN(4))
		}
	}
}

// step lets everybody do something.
func (s *simulation) step() {
	if !s.calm && s.rng.IntN(12) == 0 {
		s.trouble()
	}
	for _, m := range slices.Clone(s.members) {
		s.act(m)
	}
	if s.rng.IntN(4) == 0 {
		s.arriveLate()
	}
	if s.calm || s.rng.IntN(3) == 0 {
		s.pass(time.Duration(s.rng.IntN(400)) * time.Millisecond)
	}
}

func (s *simulation) act(m *simMember) {
	if m.hung {
		return
	}
	if !m.joined && len(m.toBroker) == 0 && len(m.toMember) == 0 {
		s.connect(m)
	}
	for range 1 + s.rng.IntN(3) {
		switch n := s.rng.IntN(10); {
		case n < 3:
			s.deliver(&m.toBroker)
		case n < 6:
			s.deliver(&m.toMember)
		case n < 7 && m.joined:
			m.heartbeat(s)
		default:
			for _, p := range m.places() {
				if s.rng.IntN(2) == 0 {
					m.work(s, p)
				} else if t := m.tasks[p]; m.joined && t != nil && !t.lost && !t.leaving && t.done != t.committed {
					m.commit(s, p)
				}
			}
		}
	}
}

// calmDown ends the trouble and waits until all is done.
func (s *simulation) calmDown() {
	s.calm = true
	if len(s.members) == 0 {
		s.start("")
	}
	for _, m := range s.members {
		m.hung = false
	}
	s.start("")
	s.members[len(s.members)-1].topics = []string{"a", "b"}
	for range 4000 {
		s.step()
		if s.finished() {
			return
		}
	}
	require.Fail(s.t, "the group does not come to rest")
}

// finished reports whether every partition is owned, read to its end and committed.
func (s *simulation) finished() bool {
	held := map[Partition]bool{}
	for _, m := range s.members {
		a, ok := s.c.Assignment(simGroup, m.id)
		if !ok || !m.joined {
			return false
		}
		for _, h := range a.Partitions {
			held[h.Partition] = true
		}
	}
	for p, part := range s.parts {
		c, ok := part.state.Committed(simGroup)
		if !held[p] || !ok && part.end > 0 || c.Offset != part.end {
			return false
		}
	}
	return true
}

func TestModelOfMembers(t *testing.T) {
	n := uint64(3000)
	if testing.Short() {
		n = 300
	}
	seeds.Each(t, n, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed)
		for range 200 {
			s.step()
		}
		s.calmDown()
	})
}
