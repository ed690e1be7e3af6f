package server

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// groupPeer is a peer that is a member of a group.
type groupPeer struct {
	*peer
	member string
	handle uint16
	seen   wire.Assigned
}

func assignedOf(t testing.TB, f wire.Frame) (a wire.Assigned) {
	t.Helper()
	require.Zero(t, f.Flags&wire.FlagError, "%q", f.Body)
	require.NoError(t, a.Parse(f.Body))
	return a
}

// member joins group g on topic jobs.
func member(t testing.TB, srv *Server, id string, change ...func(*wire.JoinGroup)) *groupPeer {
	t.Helper()
	g := &groupPeer{peer: login(t, srv), member: id}
	g.handle = g.resolve("jobs").Handle
	m := wire.JoinGroup{Group: "g", Member: id, Topics: []string{"jobs"}}
	for _, c := range change {
		c(&m)
	}
	g.seen = assignedOf(t, g.call(wire.OpJoinGroup, 0, m.Append))
	return g
}

// has returns the partitions of what was seen last.
func (g *groupPeer) has() []int {
	list := []int{}
	for _, t := range g.seen.Topics {
		for _, p := range t.Partitions {
			list = append(list, int(p.Partition))
		}
	}
	return list
}

func (g *groupPeer) generation(partition int) uint32 {
	for _, t := range g.seen.Topics {
		for _, p := range t.Partitions {
			if int(p.Partition) == partition {
				return p.Generation
			}
		}
	}
	g.t.Fatalf("partition %d is not assigned", partition)
	return 0
}

// told reads a frame that must be a push.
func (g *groupPeer) told() {
	g.t.Helper()
	f := g.read()
	require.Equal(g.t, wire.OpAssigned, f.Op)
	next := assignedOf(g.t, f)
	require.Greater(g.t, next.Revision, g.seen.Revision)
	g.seen = next
}

func (g *groupPeer) beat(busy ...uint16) wire.Frame {
	m := wire.Heartbeat{Group: "g", Member: g.member, Revision: g.seen.Revision}
	if len(busy) > 0 {
		m.Busy = []wire.TopicPartitions{{Topic: "jobs", Partitions: busy}}
	}
	return g.call(wire.OpHeartbeat, 0, m.Append)
}

func (g *groupPeer) agree(busy ...uint16) {
	g.t.Helper()
	f := g.beat(busy...)
	require.Zero(g.t, f.Flags&wire.FlagError)
	if f.Flags&wire.FlagUnchanged == 0 {
		g.seen = assignedOf(g.t, f)
	}
}

func commitBody(handle uint16, generation uint32, offsets ...wire.PartitionOffset) func([]byte) []byte {
	m := wire.Commit{Handle: handle, Group: []byte("g"), Generation: generation, Offsets: offsets}
	return m.Append
}

func jobs(t testing.TB, srv *Server, partitions int) {
	t.Helper()
	_, err := srv.registry.Create("jobs", partitions, nil)
	require.NoError(t, err)
}

func TestMembersShareThePartitions(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	jobs(t, srv, 4)
	a := member(t, srv, "a")
	require.Equal(t, []int{0, 1, 2, 3}, a.has())
	a.publish(a.handle, 3, "one", "two")
	b := member(t, srv, "b")
	require.Empty(t, b.has())
	old := a.generation(3)
	a.told()
	require.Equal(t, []int{0, 1}, a.has())
	require.Zero(t, a.call(wire.OpCommit, 0, commitBody(a.handle, old, wire.PartitionOffset{Partition: 3, Offset: 1})).Flags, "it finishes")
	a.agree(3)
	b.told()
	require.Equal(t, []int{2}, b.has())
	a.agree()
	b.told()
	require.Equal(t, []int{2, 3}, b.has())
	require.NotZero(t, a.beat().Flags&wire.FlagUnchanged)

	// Only the owner commits from now on.
	offset := wire.PartitionOffset{Partition: 3, Offset: 2}
	a.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(a.handle, old, offset))
	a.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(a.handle, 0, offset))
	a.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(a.handle, b.generation(3)+1, offset))
	a.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(a.handle, a.generation(0), wire.PartitionOffset{}, offset))
	require.Zero(t, b.call(wire.OpCommit, 0, commitBody(b.handle, b.generation(3), offset)).Flags)
	b.refused(wire.CodeOffsetOutOfRange, wire.OpCommit, 0, commitBody(b.handle, b.generation(3), wire.PartitionOffset{Partition: 3, Offset: 3}))
	a.refused(wire.CodeFenced, wire.OpDeleteGroup, 0, (&wire.DeleteGroup{Group: "g"}).Append)

	// Leaving hands over at once, and without members everybody may commit.
	require.Zero(t, b.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "b"}).Append).Flags)
	b.refused(wire.CodeNotMember, wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: "b"}).Append)
	a.told()
	require.Equal(t, []int{0, 1, 2, 3}, a.has())
	require.Zero(t, a.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "a"}).Append).Flags)
	require.Zero(t, b.call(wire.OpCommit, 0, commitBody(b.handle, 0, offset)).Flags)
	b.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(b.handle, 7, offset))
}

// What a member sent on a connection that it has given up may arrive after what it sent on the next one.
func TestACommitThatComesLateMovesNothingBack(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	jobs(t, srv, 1)
	before := member(t, srv, "a")
	before.publish(before.handle, 0, "one", "two", "three")
	after := member(t, srv, "a")
	generation := before.generation(0)
	require.Equal(t, generation, after.generation(0))
	commit := func(g *groupPeer, offset uint64) {
		t.Helper()
		require.Zero(t, g.call(wire.OpCommit, 0, commitBody(g.handle, generation, wire.PartitionOffset{Offset: offset})).Flags)
	}
	committed := func() uint64 {
		c, ok := srv.registry.Topic("jobs").Partition(0).Committed("g")
		require.True(t, ok)
		return c.Offset
	}
	commit(after, 2)
	commit(before, 1)
	require.EqualValues(t, 2, committed())
	commit(after, 3)
	require.EqualValues(t, 3, committed())

	// A seek moves back, and so does who is no member.
	seek := wire.SeekGroup{Group: "g", Topic: "jobs", Offsets: []wire.PartitionOffset{{Offset: 1}}}
	before.call(wire.OpSeekGroup, 0, seek.Append)
	require.EqualValues(t, 1, committed())
	after.told()
	after.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "a"}).Append)
	generation = 0
	commit(before, 0)
	require.Zero(t, committed())
}

func TestABrokenConnectionHandsOverAfterTheGrace(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 2)
	a, b := member(t, srv, "a"), member(t, srv, "b")
	a.told()
	a.agree()
	b.told()
	start := time.Now()
	require.NoError(t, a.conn.Close())
	b.told()
	require.Equal(t, []int{0, 1}, b.has())
	require.Less(t, time.Since(start), 5*time.Second, "long before the session ends")
}

func TestAMemberThatConnectsAgainKeepsWhatItHas(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 2)
	a := member(t, srv, "a")
	require.NoError(t, a.conn.Close())
	again := member(t, srv, "a")
	require.Equal(t, a.seen, again.seen)
	again.agree()
}

// What comes late on the old connection of a member that has moved concerns nobody.
func TestALateLeaveRemovesNoMemberThatHasMoved(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 2)
	before := member(t, srv, "a")
	now := member(t, srv, "a")
	before.refused(wire.CodeNotMember, wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: "a", Revision: 1 << 30}).Append)
	before.refused(wire.CodeNotMember, wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "a"}).Append)
	now.agree()
	require.Equal(t, []int{0, 1}, now.has())
	require.Zero(t, now.call(wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "a"}).Append).Flags)
}

func TestASeekMovesMembersAndFencesThem(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	jobs(t, srv, 2)
	a := member(t, srv, "a")
	a.publish(a.handle, 0, "one", "two", "three")
	old := a.generation(0)
	require.Zero(t, a.call(wire.OpCommit, 0, commitBody(a.handle, old, wire.PartitionOffset{Offset: 2})).Flags)
	other := login(t, srv)
	seek := func(offset uint64) func([]byte) []byte {
		m := wire.SeekGroup{Group: "g", Topic: "jobs", Offsets: []wire.PartitionOffset{{Partition: 0, Offset: offset}}}
		return m.Append
	}
	other.refused(wire.CodeOffsetOutOfRange, wire.OpSeekGroup, 0, seek(4))
	require.Zero(t, other.call(wire.OpSeekGroup, 0, seek(1)).Flags)
	a.told()
	require.Greater(t, a.generation(0), old)
	a.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(a.handle, old, wire.PartitionOffset{Offset: 3}))
	c, ok := srv.registry.Topic("jobs").Partition(0).Committed("g")
	require.True(t, ok)
	require.EqualValues(t, 1, c.Offset)
	require.Zero(t, a.call(wire.OpCommit, 0, commitBody(a.handle, a.generation(0), wire.PartitionOffset{Offset: 3})).Flags)

	bad := func(code wire.Code, m wire.SeekGroup) {
		t.Helper()
		other.refused(code, wire.OpSeekGroup, 0, m.Append)
	}
	bad(wire.CodeTopicNotFound, wire.SeekGroup{Group: "g", Topic: "nowhere", Offsets: []wire.PartitionOffset{{}}})
	bad(wire.CodePartitionNotFound, wire.SeekGroup{Group: "g", Topic: "jobs", Offsets: []wire.PartitionOffset{{Partition: 9}}})
	bad(wire.CodeInvalid, wire.SeekGroup{Group: "g", Topic: "jobs"})
	bad(wire.CodeInvalid, wire.SeekGroup{Group: "g", Topic: "jobs", Offsets: []wire.PartitionOffset{{}, {}}})
	bad(wire.CodeInvalid, wire.SeekGroup{Group: "", Topic: "jobs", Offsets: []wire.PartitionOffset{{}}})
}

func TestAPauseReachesMembersAndQueues(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	jobs(t, srv, 1)
	a := member(t, srv, "a")
	a.publish(a.handle, 0, "one")
	open := wire.OpenQueue{Handle: a.handle, Group: "g"}
	require.Zero(t, a.call(wire.OpOpenQueue, 0, open.Append).Flags)
	pause := func(pause bool) func([]byte) []byte { return (&wire.PauseGroup{Group: "g", Pause: pause}).Append }
	other := login(t, srv)
	require.Zero(t, other.call(wire.OpPauseGroup, 0, pause(true)).Flags)
	a.told()
	require.True(t, a.seen.Topics[0].Partitions[0].Paused)
	require.Zero(t, other.call(wire.OpPauseGroup, 0, pause(true)).Flags, "twice is fine")
	lease := wire.Lease{Handle: other.resolve("jobs").Handle, Group: []byte("g"), MaxMessages: 1, MaxBytes: 100}
	var leased wire.Leased
	require.NoError(t, leased.Parse(other.call(wire.OpLease, 0, lease.Append).Body))
	require.Empty(t, leased.Ranges)
	other.refused(wire.CodeGroupNotFound, wire.OpPauseGroup, 0, (&wire.PauseGroup{Group: "nobody", Pause: true}).Append)
	other.refused(wire.CodeTopicNotFound, wire.OpPauseGroup, 0, (&wire.PauseGroup{Group: "g", Topic: "nowhere"}).Append)

	lease.MaxWaitMs = 60_000
	id := other.send(wire.OpLease, 0, lease.Append)
	a.send(wire.OpPauseGroup, 0, pause(false))
	a.told()
	require.False(t, a.seen.Topics[0].Partitions[0].Paused)
	f := other.read()
	require.Equal(t, id, f.Correlation)
	require.NoError(t, leased.Parse(f.Body))
	require.Len(t, leased.Ranges, 1, "a waiting lease goes on")
}

func TestAPauseIsDurable(t *testing.T) {
	dir := t.TempDir()
	srv, err := New(Options{Dir: dir, Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	require.NoError(t, srv.Start())
	jobs(t, srv, 1)
	a := member(t, srv, "a")
	first := a.generation(0)
	require.Zero(t, login(t, srv).call(wire.OpPauseGroup, 0, (&wire.PauseGroup{Group: "g", Pause: true}).Append).Flags)
	require.NoError(t, srv.Shutdown(t.Context()))

	srv = startServer(t, Options{Dir: dir})
	a = member(t, srv, "a")
	require.True(t, a.seen.Topics[0].Partitions[0].Paused)
	require.Greater(t, a.generation(0), first, "generations are never given out twice")
}

func TestWhatMembersMayNotAsk(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 1)
	p := login(t, srv)
	good := wire.JoinGroup{Group: "g", Member: "m", Topics: []string{"jobs"}}
	f := func(code wire.Code, change func(*wire.JoinGroup)) {
		t.Helper()
		m := good
		change(&m)
		p.refused(code, wire.OpJoinGroup, 0, m.Append)
	}
	f(wire.CodeTopicNotFound, func(m *wire.JoinGroup) { m.Topics = []string{"jobs", "nowhere"} })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.Topics = nil })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.Group = "" })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.Group = "two words" })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.Member = "" })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.SessionMs = 1 })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.SessionMs = 1<<32 - 1 })
	f(wire.CodeInvalid, func(m *wire.JoinGroup) { m.HandoverMs = 1<<32 - 1 })
	p.refused(wire.CodeNotMember, wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: "m"}).Append)
	p.refused(wire.CodeNotMember, wire.OpLeaveGroup, 0, (&wire.LeaveGroup{Group: "g", Member: "m"}).Append)
	require.Equal(t, "[]", string(p.call(wire.OpMembers, 0, (&wire.Groups{}).Append).Body))
}

func TestAReplacedInstanceIsToldSo(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 2)
	static := func(m *wire.JoinGroup) { m.Instance = "host" }
	old := member(t, srv, "a", static)
	now := member(t, srv, "b", static)
	require.Equal(t, old.has(), now.has())
	errorOf(t, wire.CodeFenced, old.beat())
	old.refused(wire.CodeFenced, wire.OpCommit, 0, commitBody(old.handle, old.generation(0), wire.PartitionOffset{}))
}

func TestADeletedTopicIsNotSilent(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 1)
	a := member(t, srv, "a")
	require.NoError(t, srv.registry.Delete("jobs"))
	id := a.send(wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: "a"}).Append)
	f := a.read()
	for f.Op == wire.OpAssigned {
		f = a.read()
	}
	require.Equal(t, id, f.Correlation)
	errorOf(t, wire.CodeTopicDeleted, f)
}

func TestATopicThatGrowsIsShared(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 1)
	a := member(t, srv, "a")
	_, err := srv.registry.Alter("jobs", 3, nil)
	require.NoError(t, err)
	a.told()
	require.Equal(t, []int{0, 1, 2}, a.has())
}

func TestMembersAreListed(t *testing.T) {
	srv := startServer(t, Options{})
	jobs(t, srv, 2)
	a := member(t, srv, "a", func(m *wire.JoinGroup) { m.Instance = "host" })
	var groups []wire.GroupMembers
	require.NoError(t, json.Unmarshal(a.call(wire.OpMembers, 0, (&wire.Groups{Group: "g"}).Append).Body, &groups))
	require.Len(t, groups, 1)
	require.Equal(t, "g", groups[0].Group)
	m := groups[0].Members[0]
	require.Equal(t, []string{"jobs"}, m.Topics)
	require.Equal(t, []wire.MemberPartition{
		{Topic: "jobs", Partition: 0, Generation: a.generation(0)}, {Topic: "jobs", Partition: 1, Generation: a.generation(1)},
	}, m.Partitions)
	require.Zero(t, a.call(wire.OpCommit, 0, commitBody(a.handle, a.generation(1), wire.PartitionOffset{Partition: 1})).Flags)
	var infos []wire.GroupInfo
	require.NoError(t, json.Unmarshal(a.call(wire.OpGroups, 0, (&wire.Groups{}).Append).Body, &infos))
	require.Len(t, infos, 1)
	require.Equal(t, "host", infos[0].Member)
	require.WithinDuration(t, time.Now(), infos[0].CommittedAt, waitLimit)
}

// A hundred members come to share a hundred partitions over one socket each.
func TestManyMembersComeToRest(t *testing.T) {
	srv := startServer(t, Options{})
	const n = 100
	jobs(t, srv, n)
	members := make([]*groupPeer, n)
	for i := range members {
		members[i] = member(t, srv, fmt.Sprintf("m%03d", i))
	}
	require.Eventually(t, func() bool {
		for _, m := range members {
			id := m.send(wire.OpHeartbeat, 0, (&wire.Heartbeat{Group: "g", Member: m.member, Revision: m.seen.Revision}).Append)
			for {
				f := m.read()
				if a := assignedOf(t, f); a.Revision > m.seen.Revision {
					m.seen = a
				}
				if f.Correlation == id && f.Op == wire.OpHeartbeat|wire.OpReply {
					break
				}
			}
		}
		for _, m := range members {
			if len(m.has()) != 1 {
				return false
			}
		}
		return true
	}, waitLimit, time.Millisecond)
}

// A generation is never given twice, also not by the next start, which begins behind those that were reserved.
func TestGenerationsStayWithinWhatIsReserved(t *testing.T) {
	srv := startServer(t, Options{})
	co, last := srv.coordinator, uint32(0)
	co.ask(func(time.Time) {
		for range 2*generationBlock + 1 {
			next := co.generation()
			if next <= last {
				t.Errorf("%d behind %d", next, last)
				return
			}
			last = next
		}
	})
	first, err := srv.registry.Generations(1)
	require.NoError(t, err)
	require.Greater(t, first, last)
}

// A topic may be deleted at any moment of a seek.
func TestSeekBesideADeletion(t *testing.T) {
	bench, srv := newBench(t, Options{})
	seek := wire.SeekGroup{Group: "g", Topic: "brief", Offsets: []wire.PartitionOffset{{Partition: 9}}}
	f := wire.Frame{Op: wire.OpSeekGroup, Body: seek.Append(nil)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3000 {
			if _, err := srv.registry.Create("brief", 1, nil); err != nil {
				t.Error(err)
			}
			if err := srv.registry.Delete("brief"); err != nil {
				t.Error(err)
			}
		}
	}()
	b := bench.s.proto.(*binary)
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		require.Error(t, b.seekGroup(f, bench.now))
	}
}

// One connection does not fill the coordinator's inbox.
func TestRequestsForTheCoordinatorAreBounded(t *testing.T) {
	b, srv := newBench(t, Options{})
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	srv.coordinator.post(func(time.Time) { <-gate })
	refused := func() uint64 { return srv.metrics.failures[wire.CodeBusy].Load() }
	heartbeat := wire.JoinGroup{Group: "g", Member: "m", Topics: []string{"orders"}}
	size := coordinateBytes + len(heartbeat.Append(nil))
	for range maxCoordinated / size {
		b.feed(request1(wire.OpJoinGroup, 0, 5, heartbeat.Append))
	}
	require.Zero(t, refused())
	b.feed(request1(wire.OpJoinGroup, 0, 5, heartbeat.Append))
	require.EqualValues(t, 1, refused())
	release()
	done := func() bool {
		b.l.drain(b.now)
		return b.s.proto.(*binary).coordinated == 0
	}
	require.Eventually(t, done, waitLimit, time.Millisecond)
	for range maxCoordinated / listBytes {
		b.feed(request1(wire.OpMembers, 0, 6, (&wire.Groups{}).Append))
	}
	require.EqualValues(t, 1, refused())
	require.Eventually(t, done, waitLimit, time.Millisecond)

	claims := wire.JoinGroup{Group: "g", Member: "m", Topics: []string{"orders"}}
	for range 2 {
		claims.Claims = append(claims.Claims, wire.TopicPartitions{Topic: "orders", Partitions: make([]uint16, 40_000)})
	}
	b.feed(request1(wire.OpJoinGroup, 0, 7, claims.Append))
	require.EqualValues(t, 1, srv.metrics.failures[wire.CodeTooLarge].Load())
}

// A member whose leave is refused still goes with its connection.
func TestARefusedLeaveKeepsTheSeat(t *testing.T) {
	b, srv := newBench(t, Options{})
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	srv.coordinator.post(func(time.Time) { <-gate })
	proto, key := b.s.proto.(*binary), seatKey{"g", "m"}
	b.feed(request1(wire.OpJoinGroup, 0, 5, (&wire.JoinGroup{Group: "g", Member: "m", Topics: []string{"orders"}}).Append))
	leave := request1(wire.OpLeaveGroup, 0, 6, (&wire.LeaveGroup{Group: "g", Member: "m"}).Append)
	coordinated := proto.coordinated
	proto.coordinated = maxCoordinated
	b.feed(leave)
	require.EqualValues(t, 1, srv.metrics.failures[wire.CodeBusy].Load())
	require.Contains(t, proto.seats, key)
	proto.coordinated = coordinated
	b.feed(leave)
	require.NotContains(t, proto.seats, key)
}
