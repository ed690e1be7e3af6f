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

// board is a coordinator with topics of so many partitions, and what it said about fences.
type board struct {
	t      testing.TB
	c      *Coordinator
	now    time.Time
	topics map[string]int
	ids    map[string]byte // counts how often a topic was made again
	last   uint32
	fences map[Fence]Fence // by group and partition
}

func newBoard(t testing.TB) *board {
	b := &board{t: t, now: t0, topics: map[string]int{}, ids: map[string]byte{}, fences: map[Fence]Fence{}}
	b.c = b.coordinator()
	return b
}

func (b *board) coordinator() *Coordinator {
	return NewCoordinator(func(name string) (Topic, bool) {
		n, ok := b.topics[name]
		t := Topic{ID: [16]byte{byte(len(name)), b.ids[name]}}
		for i := range n {
			t.Partitions = append(t.Partitions, uint16(i))
		}
		return t, ok
	}, func() uint32 { b.last++; return b.last })
}

// settle takes the effects and returns who was notified.
func (b *board) settle() []string {
	e := b.c.Effects()
	for _, f := range e.Fences {
		b.fences[Fence{Group: f.Group, Partition: f.Partition}] = f
	}
	var told []string
	for _, n := range e.Notices {
		told = append(told, n.Member)
	}
	return told
}

func (b *board) join(member string, topics ...string) []string {
	b.t.Helper()
	require.NoError(b.t, b.c.Join(Join{Group: "g", Member: member, Topics: topics}, b.now))
	return b.settle()
}

// has returns what a member is assigned, and requires that the fences agree.
func (b *board) has(member string) []string {
	b.t.Helper()
	a, ok := b.c.Assignment("g", member)
	require.True(b.t, ok)
	list := []string{}
	for _, p := range a.Partitions {
		list = append(list, fmt.Sprintf("%s/%d", p.Topic, p.Number))
		f := b.fences[Fence{Group: "g", Partition: p.Partition}]
		require.Equal(b.t, Fence{Group: "g", Partition: p.Partition, Generation: p.Generation}, f)
	}
	return list
}

// agree has a member let go what it was asked to, but for busy.
func (b *board) agree(member string, busy ...Partition) []string {
	b.t.Helper()
	a, ok := b.c.Assignment("g", member)
	require.True(b.t, ok)
	require.NoError(b.t, b.c.Heartbeat("g", member, a.Revision, busy, b.now))
	return b.settle()
}

func (b *board) pass(d time.Duration) []string {
	b.now = b.now.Add(d)
	b.c.Expire(b.now)
	return b.settle()
}

func TestTheFirstMemberGetsEverything(t *testing.T) {
	b := newBoard(t)
	b.topics["a"], b.topics["b"] = 2, 1
	require.Equal(t, []string{"m1"}, b.join("m1", "b", "a", "a", "missing"))
	require.Equal(t, []string{"a/0", "a/1", "b/0"}, b.has("m1"))
	require.Empty(t, b.join("m1", "a", "b", "missing"), "joining again changes nothing")
}

func TestAPartitionMovesOnlyWhenItWasLetGo(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 4
	b.join("m1", "a")
	require.Equal(t, []string{"m1", "m2"}, b.join("m2", "a"))
	require.Equal(t, []string{"a/0", "a/1"}, b.has("m1"))
	require.Empty(t, b.has("m2"), "m1 has not finished")
	require.NotZero(t, b.fences[Fence{Group: "g", Partition: Partition{"a", 2}}].Generation, "m1 may still commit")
	require.Equal(t, []string{"m2"}, b.agree("m1", Partition{"a", 2}))
	require.Equal(t, []string{"a/3"}, b.has("m2"))
	require.Equal(t, []string{"m2"}, b.agree("m1"))
	require.Equal(t, []string{"a/2", "a/3"}, b.has("m2"))
	require.Empty(t, b.agree("m2"))
}

func TestAHeartbeatOfAnOlderRevisionLetsNothingGo(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	b.join("m1", "a")
	before, _ := b.c.Assignment("g", "m1")
	b.join("m2", "a")
	require.NoError(t, b.c.Heartbeat("g", "m1", before.Revision, nil, b.now))
	require.Empty(t, b.has("m2"))
}

func TestAPartitionIsTakenAwayAfterTheHandoverTimeout(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	b.join("m1", "a")
	old := b.fences[Fence{Group: "g", Partition: Partition{"a", 1}}]
	b.join("m2", "a")
	for range 6 { // it lives, and is busy
		b.pass(defaultHandover / 6)
		b.agree("m1", Partition{"a", 1})
		require.NoError(t, b.c.Heartbeat("g", "m2", 0, nil, b.now))
	}
	b.pass(time.Millisecond)
	require.Equal(t, []string{"a/1"}, b.has("m2"))
	require.Greater(t, b.fences[Fence{Group: "g", Partition: Partition{"a", 1}}].Generation, old.Generation)
	require.Equal(t, []string{"a/0"}, b.has("m1"))
}

func TestASilentMemberIsGoneAfterItsSession(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	b.join("m1", "a")
	b.join("m2", "a")
	b.agree("m1")
	b.pass(defaultSession - time.Millisecond)
	b.agree("m1")
	at, ok := b.c.Due()
	require.True(t, ok)
	require.False(t, at.After(t0.Add(defaultSession)))
	require.Equal(t, []string{"m1"}, b.pass(time.Millisecond))
	require.Equal(t, []string{"a/0", "a/1"}, b.has("m1"))
	require.ErrorIs(t, b.c.Heartbeat("g", "m2", 0, nil, b.now), ErrNotMember)
	require.ErrorIs(t, b.c.Leave("g", "m2", b.now), ErrNotMember)
	require.ErrorIs(t, b.c.Heartbeat("nobody", "m2", 0, nil, b.now), ErrNotMember)
	b.pass(defaultSession)
	require.Equal(t, Fence{Group: "g", Partition: Partition{"a", 1}, Open: true}, b.fences[Fence{Group: "g", Partition: Partition{"a", 1}}], "without members everybody may commit")
	_, ok = b.c.Due()
	require.False(t, ok)
	require.Empty(t, b.c.Groups(""))
}

func TestALeavingMemberHandsOverAtOnce(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	b.join("m1", "a")
	b.join("m2", "a")
	require.NoError(t, b.c.Leave("g", "m1", b.now))
	require.Equal(t, []string{"m2"}, b.settle())
	require.Equal(t, []string{"a/0", "a/1"}, b.has("m2"))
}

func TestALostConnectionCostsAMemberTheGraceOnly(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	f := func(j Join, left time.Duration) {
		t.Helper()
		j.Group, j.Topics, j.Connection = "g", []string{"a"}, 7
		require.NoError(t, b.c.Join(j, b.now))
		b.c.Disconnected("g", j.Member, 6, b.now)
		at, _ := b.c.Due()
		require.Equal(t, b.now.Add(defaultSession), at, "an earlier connection")
		b.c.Disconnected("g", j.Member, 7, b.now)
		b.pass(left - time.Millisecond)
		_, ok := b.c.Assignment("g", j.Member)
		require.True(t, ok)
		b.pass(time.Millisecond)
		_, ok = b.c.Assignment("g", j.Member)
		require.False(t, ok)
	}
	f(Join{Member: "dynamic"}, disconnectGrace)
	f(Join{Member: "static", Instance: "i"}, defaultSession)
}

func TestARestartedInstanceGetsItsPartitionsBackAndTheOldOneIsFenced(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 4
	b.join("m1", "a")
	require.NoError(t, b.c.Join(Join{Group: "g", Member: "x1", Instance: "x", Topics: []string{"a"}}, b.now))
	b.settle()
	b.agree("m1")
	mine, kept := b.has("x1"), b.has("m1")
	old, _ := b.c.Assignment("g", "x1")
	require.NoError(t, b.c.Join(Join{Group: "g", Member: "x2", Instance: "x", Topics: []string{"a"}}, b.now))
	require.Empty(t, b.settle(), "nobody else notices")
	require.Equal(t, mine, b.has("x2"))
	require.Equal(t, kept, b.has("m1"))
	now, _ := b.c.Assignment("g", "x2")
	for i := range now.Partitions {
		require.Greater(t, now.Partitions[i].Generation, old.Partitions[i].Generation)
	}
	require.ErrorIs(t, b.c.Heartbeat("g", "x1", old.Revision, nil, b.now), ErrReplaced)
	require.ErrorIs(t, b.c.Join(Join{Group: "g", Member: "x1", Instance: "x", Topics: []string{"a"}}, b.now), ErrReplaced)
	require.ErrorIs(t, b.c.Join(Join{Group: "g", Member: "x2", Instance: "y", Topics: []string{"a"}}, b.now), ErrMember)
	for i := range 2 * maxReplaced {
		require.NoError(t, b.c.Join(Join{Group: "g", Member: fmt.Sprint("y", i), Instance: "x", Topics: []string{"a"}}, b.now))
	}
	require.LessOrEqual(t, len(b.c.groups["g"].instances["x"].replaced), maxReplaced)
}

func TestAReplacedInstanceHasNothingLeftToHandOver(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	require.NoError(t, b.c.Join(Join{Group: "g", Member: "x1", Instance: "x", Topics: []string{"a"}}, b.now))
	b.join("m2", "a")
	require.Empty(t, b.has("m2"))
	require.NoError(t, b.c.Join(Join{Group: "g", Member: "x2", Instance: "x", Topics: []string{"a"}}, b.now))
	b.settle()
	require.Equal(t, []string{"a/1"}, b.has("m2"))
	require.Equal(t, []string{"a/0"}, b.has("x2"))
}

func TestMembersThatComeBackAfterARestartKeepTheirPartitions(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 6
	claims := func(numbers ...uint16) (list []Partition) {
		for _, n := range numbers {
			list = append(list, Partition{"a", n})
		}
		return append(list, Partition{"nowhere", 1})
	}
	again := func(member string, claims []Partition) {
		require.NoError(t, b.c.Join(Join{Group: "g", Member: member, Topics: []string{"a"}, Claims: claims}, b.now))
		b.settle()
	}
	again("m1", claims(0, 5))
	require.Equal(t, []string{"a/0", "a/5"}, b.has("m1"), "the others may come, too")
	again("m2", claims(2, 3, 5))
	require.Equal(t, []string{"a/2", "a/3"}, b.has("m2"))
	again("m3", nil)
	require.Empty(t, b.has("m3"))
	b.pass(settleTime)
	require.Equal(t, []string{"a/0", "a/5"}, b.has("m1"))
	require.Equal(t, []string{"a/2", "a/3"}, b.has("m2"))
	require.Equal(t, []string{"a/1", "a/4"}, b.has("m3"))
}

func TestTopicsThatGrowOrGoAreNoticed(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 1
	b.join("m1", "a", "bb")
	b.c.Refresh(b.now)
	require.Empty(t, b.settle())
	b.topics["a"], b.topics["bb"] = 3, 1
	b.c.Refresh(b.now)
	require.Equal(t, []string{"m1"}, b.settle())
	require.Equal(t, []string{"a/0", "a/1", "a/2", "bb/0"}, b.has("m1"))
	delete(b.topics, "bb")
	b.c.Refresh(b.now)
	require.Equal(t, []string{"m1"}, b.settle())
	require.Equal(t, []string{"a/0", "a/1", "a/2"}, b.has("m1"))
	require.True(t, b.fences[Fence{Group: "g", Partition: Partition{"bb", 0}}].Open)
}

// Commits to a topic that was deleted are not commits to the one that has its name.
func TestATopicThatWasMadeAgainIsAnotherTopic(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	b.join("m1", "a")
	before, _ := b.c.Assignment("g", "m1")
	b.ids["a"]++
	b.c.Refresh(b.now)
	require.Equal(t, []string{"m1"}, b.settle())
	require.Equal(t, []string{"a/0", "a/1"}, b.has("m1"))
	now, _ := b.c.Assignment("g", "m1")
	for i := range now.Partitions {
		require.Greater(t, now.Partitions[i].Generation, before.Partitions[i].Generation)
	}
}

// When the last member that subscribes to a topic is gone, clients that are no members may commit there.
func TestATopicWithoutSubscribersIsOpen(t *testing.T) {
	for name, gone := range map[string]func(b *board){
		"left": func(b *board) { require.NoError(t, b.c.Leave("g", "m2", b.now)) },
		"silent": func(b *board) {
			b.now = b.now.Add(defaultSession / 2)
			require.NoError(t, b.c.Heartbeat("g", "m1", 0, nil, b.now))
			b.now = b.now.Add(defaultSession / 2)
			b.c.Expire(b.now)
		},
	} {
		b := newBoard(t)
		b.topics["a"], b.topics["b"] = 1, 1
		b.join("m1", "a")
		b.join("m2", "b")
		require.Equal(t, []string{"b/0"}, b.has("m2"), name)
		gone(b)
		b.settle()
		require.Equal(t, []string{"a/0"}, b.has("m1"), name)
		require.True(t, b.fences[Fence{Group: "g", Partition: Partition{"b", 0}}].Open, name)
	}
}

// An earlier deadline does not make the coordinator forget the later ones.
func TestTheHandoverTimeoutIsKnownBehindOtherDeadlines(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	join := func(member string, session time.Duration) {
		t.Helper()
		require.NoError(t, b.c.Join(Join{Group: "g", Member: member, Topics: []string{"a"}, Session: session}, b.now))
		b.settle()
	}
	join("m1", MaxSession)
	join("m2", MaxSession)
	end := b.now.Add(defaultHandover)
	join("m3", defaultSession) // has nothing, and is silent
	b.pass(defaultSession)
	at, ok := b.c.Due()
	require.True(t, ok)
	require.Equal(t, end, at)
	b.pass(end.Sub(b.now))
	require.Len(t, b.has("m2"), 1)
}

func TestMembersGetTheTopicsTheySubscribeTo(t *testing.T) {
	b := newBoard(t)
	b.topics["a"], b.topics["b"], b.topics["c"] = 2, 2, 1
	b.join("m1", "a", "b")
	b.join("m2", "b", "c")
	b.agree("m1")
	require.Equal(t, []string{"a/0", "a/1", "b/0"}, b.has("m1"))
	require.Equal(t, []string{"b/1", "c/0"}, b.has("m2"))
	b.join("m2", "b")
	b.agree("m2")
	b.agree("m1")
	require.Equal(t, []string{"b/0", "b/1"}, b.has("m2"))
	require.True(t, b.fences[Fence{Group: "g", Partition: Partition{"c", 0}}].Open)
}

func TestASeekRenewsTheGenerationsOfTheHolders(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 2
	require.Equal(t, []uint32{0}, b.c.Seek("g", []Partition{{"a", 1}}))
	b.join("m1", "a")
	b.join("m2", "a")
	before, _ := b.c.Assignment("g", "m1")
	got := b.c.Seek("g", []Partition{{"a", 0}, {"a", 9}})
	require.Equal(t, []string{"m1"}, b.settle())
	require.Equal(t, []string{"a/0"}, b.has("m1"))
	now, _ := b.c.Assignment("g", "m1")
	require.Equal(t, []uint32{now.Partitions[0].Generation, 0}, got)
	require.Greater(t, now.Partitions[0].Generation, before.Partitions[0].Generation)
	b.c.Touch("g")
	require.Equal(t, []string{"m1", "m2"}, b.settle())
	touched, _ := b.c.Assignment("g", "m1")
	require.Greater(t, touched.Revision, now.Revision, "or a member would take it for the one that it has")
	require.Equal(t, now.Partitions, touched.Partitions)
	b.c.Touch("nobody")
	require.Empty(t, b.settle())
}

func TestWhatAMemberMayNotSay(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 1
	good := Join{Group: "g", Member: "m", Topics: []string{"a"}}
	f := func(change func(*Join)) {
		t.Helper()
		j := good
		change(&j)
		require.ErrorIs(t, b.c.Join(j, b.now), ErrMember)
		require.Empty(t, b.c.Groups(""))
	}
	long := string(make([]byte, maxName+1))
	f(func(j *Join) { j.Topics = slices.Repeat(j.Topics, MaxTopics+1) })
	f(func(j *Join) { j.Group = "" })
	f(func(j *Join) { j.Group = long })
	f(func(j *Join) { j.Member = "" })
	f(func(j *Join) { j.Member = long })
	f(func(j *Join) { j.Instance = long })
	f(func(j *Join) { j.Topics = nil })
	f(func(j *Join) { j.Session = MinSession - 1 })
	f(func(j *Join) { j.Session = MaxSession + 1 })
	f(func(j *Join) { j.Session = -1 })
	f(func(j *Join) { j.Handover = MaxHandover + 1 })
	f(func(j *Join) { j.Handover = -1 })
	f(func(j *Join) {
		for i := range MaxTopics + 1 {
			j.Topics = append(j.Topics, fmt.Sprint(i))
		}
	})
	for i := range maxGroupMembers {
		j := good
		j.Member = fmt.Sprint(i)
		require.NoError(t, b.c.Join(j, b.now))
	}
	require.ErrorIs(t, b.c.Join(good, b.now), ErrMembers)
}

func TestTheMembersAreDescribed(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 1
	require.NoError(t, b.c.Join(Join{Group: "g", Member: "m1", Instance: "i", Topics: []string{"a"}, Connection: 5}, b.now))
	require.NoError(t, b.c.Join(Join{Group: "h", Member: "m2", Topics: []string{"a"}}, b.now))
	require.Len(t, b.c.Groups(""), 2)
	require.Equal(t, []GroupInfo{{Group: "g", Generation: 1, Rebalances: 1, Members: []MemberInfo{{
		Member: "m1", Instance: "i", Connection: 5, Topics: []string{"a"}, Joined: t0, Heard: t0,
		Held: []Held{{Partition{"a", 0}, 1}},
	}}}}, b.c.Groups("g"))
}

// owners returns who has what in the whole group when everybody agrees with everything.
func (b *board) owners(members []string) map[Partition]string {
	for again := true; again; {
		again = false
		for _, m := range members {
			again = len(b.agree(m)) > 0 || again
		}
	}
	owners := map[Partition]string{}
	for _, m := range members {
		a, ok := b.c.Assignment("g", m)
		require.True(b.t, ok)
		for _, p := range a.Partitions {
			require.NotContains(b.t, owners, p.Partition)
			owners[p.Partition] = m
		}
	}
	return owners
}

func counts(owners map[Partition]string, members []string) (least, most int) {
	n := map[string]int{}
	for _, m := range owners {
		n[m]++
	}
	least = len(owners)
	for _, m := range members {
		least, most = min(least, n[m]), max(most, n[m])
	}
	return least, most
}

// Joining and leaving move the fewest partitions, and leave the members equal.
func TestModelOfFairShares(t *testing.T) {
	seeds.Each(t, 30, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		b := newBoard(t)
		total := 0
		var topics []string
		for i := range 1 + rng.IntN(5) {
			name := string(rune('a' + i))
			b.topics[name] = rng.IntN(60)
			total += b.topics[name]
			topics = append(topics, name)
		}
		var members []string
		before := map[Partition]string{}
		for i := range 60 {
			leaver, moves := "", 0
			if len(members) > 1 && rng.IntN(3) == 0 {
				at := rng.IntN(len(members))
				leaver = members[at]
				members = slices.Delete(members, at, at+1)
				require.NoError(t, b.c.Leave("g", leaver, b.now))
				b.settle()
			} else {
				members = append(members, fmt.Sprint("m", i))
				b.join(members[len(members)-1], topics...)
			}
			owners := b.owners(members)
			require.Len(t, owners, total)
			least, most := counts(owners, members)
			require.LessOrEqual(t, most-least, 1)
			for p, m := range owners {
				if before[p] != m && before[p] != leaver {
					moves++
				}
			}
			if leaver != "" {
				require.Zero(t, moves, "only the leaver's partitions move")
			} else if len(members) > 1 {
				require.LessOrEqual(t, moves, (total+len(members)-1)/len(members), "a fair share moves")
			}
			before = owners
		}
	})
}

func TestAddingOneMemberToAHundredMovesItsFairShare(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 1000
	var members []string
	for i := range 100 {
		members = append(members, fmt.Sprint("m", i))
		b.join(members[i], "a")
	}
	before := b.owners(members)
	members = append(members, "new")
	b.join("new", "a")
	moved := 0
	for p, m := range b.owners(members) {
		if before[p] != m {
			require.Equal(t, "new", m)
			moved++
		}
	}
	require.Equal(t, 9, moved)
}

// A thousand members join a thousand partitions one after the other, agreeing as they go. 1 s is the
// target, which BenchmarkRebalance measures; the test grants a loaded machine and the race detector more.
func TestAThousandMembersSettleOnAThousandPartitions(t *testing.T) {
	b := newBoard(t)
	b.topics["a"] = 1000
	start := time.Now()
	for i := range 1000 {
		m := fmt.Sprint("m", i)
		require.NoError(t, b.c.Join(Join{Group: "g", Member: m, Topics: []string{"a"}}, b.now))
		for told := b.settle(); len(told) > 0; {
			var next []string
			for _, m := range told {
				a, _ := b.c.Assignment("g", m)
				require.NoError(t, b.c.Heartbeat("g", m, a.Revision, nil, b.now))
			}
			next = b.settle()
			told = next
		}
	}
	took := time.Since(start)
	for i := range 1000 {
		require.Len(t, b.has(fmt.Sprint("m", i)), 1)
	}
	require.Less(t, took, 2*time.Minute)
	t.Logf("%v", took)
}

func BenchmarkRebalance(b *testing.B) {
	board := newBoard(b)
	board.topics["a"] = 1000
	for i := range 999 {
		board.join(fmt.Sprint("m", i), "a")
	}
	b.ReportAllocs()
	for b.Loop() {
		board.join("last", "a")
		if err := board.c.Leave("g", "last", board.now); err != nil {
			b.Fatal(err)
		}
		board.settle()
	}
}
