package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// crewOf runs members of group g on topic t and notes what they handle.
type crewOf struct {
	t *testing.T
	b *servertest.Broker
	c *client.Client

	mu      sync.Mutex
	handled map[string]int            // by partition@offset
	last    map[int]uint64            // by partition
	by      map[string]map[int]uint64 // messages by member and partition
}

// running is one member.
type running struct {
	name string
	stop context.CancelFunc
	done chan error
}

func newCrew(t *testing.T, partitions int, o server.Options) *crewOf {
	b := servertest.Start(t, servertest.Options{Server: o})
	k := &crewOf{t: t, b: b, handled: map[string]int{}, last: map[int]uint64{}, by: map[string]map[int]uint64{}}
	k.c = connect(t, b, client.Options{Dialer: b.Dial})
	_, err := k.c.CreateTopic(within(t), "t", client.TopicOptions{Partitions: partitions})
	require.NoError(t, err)
	return k
}

func groupOf(change ...func(*client.Source)) client.Source {
	s := client.Group("g", "t")
	s.CommitInterval, s.BackoffMin = 5*time.Millisecond, time.Millisecond
	for _, c := range change {
		c(&s)
	}
	return s
}

// note notes a message, and whether it came in order.
func (k *crewOf) note(name string, m *client.Message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handled[fmt.Sprintf("%d@%d", m.Partition, m.Offset)]++
	k.last[m.Partition] = m.Offset
	if k.by[name] == nil {
		k.by[name] = map[int]uint64{}
	}
	k.by[name][m.Partition]++
}

// run starts a member with a client of its own.
func (k *crewOf) run(name string, s client.Source, h client.Handler) *running {
	c := connect(k.t, k.b, client.Options{Dialer: k.b.Dial, Name: name})
	ctx, stop := context.WithCancel(context.Background())
	r := &running{name: name, stop: stop, done: make(chan error, 1)}
	go func() {
		r.done <- c.Run(ctx, s, func(ctx context.Context, m *client.Message) error {
			if h != nil {
				if err := h(ctx, m); err != nil {
					return err
				}
			}
			k.note(name, m)
			return nil
		})
	}()
	k.t.Cleanup(r.end)
	return r
}

func (r *running) end() {
	r.stop()
	err := <-r.done
	r.done <- err
}

func (k *crewOf) publish(partition, n int) {
	k.t.Helper()
	for i := range n {
		require.NoError(k.t, k.c.PublishAsync(within(k.t), &client.Message{
			Topic: "t", Partition: partition, Pinned: true, Value: []byte(value(i)),
		}, nil))
	}
	require.NoError(k.t, k.c.Flush(within(k.t)))
}

func (k *crewOf) eventually(what string, f func() bool) {
	k.t.Helper()
	require.Eventually(k.t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return f()
	}, 15*time.Second, time.Millisecond, what)
}

// owners returns who has which partition.
func (k *crewOf) shares() map[string]int {
	k.t.Helper()
	groups, err := k.c.Members(within(k.t), "g")
	require.NoError(k.t, err)
	n := map[string]int{}
	for _, g := range groups {
		for _, m := range g.Members {
			n[m.Member] = len(m.Partitions)
		}
	}
	return n
}

func (k *crewOf) waitForShares(members, each int) {
	k.t.Helper()
	require.Eventually(k.t, func() bool {
		n := k.shares()
		for _, share := range n {
			if share != each {
				return false
			}
		}
		return len(n) == members
	}, 15*time.Second, 2*time.Millisecond)
}

func (k *crewOf) committed() map[int]uint64 {
	offsets, err := k.c.Committed(within(k.t), "g", "t")
	require.NoError(k.t, err)
	return offsets
}

func TestMembersShareATopicAndHandleEverythingOnce(t *testing.T) {
	k := newCrew(t, 4, server.Options{})
	a := k.run("a", groupOf(), nil)
	k.waitForShares(1, 4)
	for p := range 4 {
		k.publish(p, 100)
	}
	k.eventually("a alone", func() bool { return len(k.handled) == 400 })
	k.run("b", groupOf(), nil)
	k.waitForShares(2, 2)
	for p := range 4 {
		k.publish(p, 100)
	}
	k.eventually("both", func() bool { return len(k.handled) == 800 })
	k.mu.Lock()
	require.Len(t, k.by["b"], 2)
	for _, n := range k.by["b"] {
		require.EqualValues(t, 100, n, "it begins where a ended")
	}
	for place, n := range k.handled {
		require.Equal(t, 1, n, place)
	}
	k.mu.Unlock()
	a.end()
	k.waitForShares(1, 4)
	k.publish(0, 10)
	k.publish(3, 10)
	k.eventually("b alone", func() bool { return len(k.handled) == 820 })
	require.Eventually(t, func() bool {
		c := k.committed()
		return c[0] == 210 && c[1] == 200 && c[2] == 200 && c[3] == 210
	}, 10*time.Second, time.Millisecond)
}

// The member that loses a partition finishes the message in hand and commits it; the next one begins
// behind it.
func TestAHandoverWaitsForTheHandler(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 2)
	k.publish(1, 2)
	entered, leave := make(chan int, 2), make(chan struct{})
	k.run("a", groupOf(func(s *client.Source) { s.Workers = 2 }), func(_ context.Context, m *client.Message) error {
		if m.Offset == 0 {
			entered <- m.Partition
			<-leave
		}
		return nil
	})
	<-entered
	<-entered
	k.run("b", groupOf(), nil)
	require.Eventually(t, func() bool { return len(k.shares()) == 2 }, 10*time.Second, time.Millisecond)
	require.Never(t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.by["b"]) > 0
	}, 50*time.Millisecond, 5*time.Millisecond, "a is not done")
	close(leave)
	k.waitForShares(2, 1)
	k.eventually("all", func() bool { return len(k.handled) == 4 })
	k.mu.Lock()
	defer k.mu.Unlock()
	for place, n := range k.handled {
		require.Equal(t, 1, n, place)
	}
	require.Equal(t, map[int]uint64{1: 1}, k.by["b"])
}

// The only worker is busy with one partition: another one is handed over nevertheless.
func TestAHandoverDoesNotWaitForOtherHandlers(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 1)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	k.run("a", groupOf(), func(context.Context, *client.Message) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	defer close(leave)
	<-entered
	k.publish(1, 1)
	k.run("b", groupOf(), nil) // gets the last partition
	k.eventually("b handles what waited", func() bool { return k.by["b"][1] == 1 })
}

func TestAHandlerThatTakesTooLongLosesItsPartition(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(1, 1)
	entered, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	slow := groupOf(func(s *client.Source) { s.HandoverTimeout = 30 * time.Millisecond })
	k.run("a", slow, func(ctx context.Context, m *client.Message) error {
		once.Do(func() { close(entered) })
		<-ctx.Done()
		select {
		case ended <- context.Cause(ctx):
		default:
		}
		return context.Cause(ctx)
	})
	<-entered
	k.run("b", groupOf(), nil)
	require.ErrorIs(t, <-ended, client.ErrPartitionLost)
	k.waitForShares(2, 1)
	k.eventually("b handles it", func() bool { return k.by["b"][1] == 1 })
	require.Eventually(t, func() bool { return k.committed()[1] == 1 }, 10*time.Second, time.Millisecond)
}

func TestASeekTakesEffectOnLiveMembers(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 10)
	k.publish(1, 10)
	k.run("a", groupOf(), nil)
	k.eventually("all once", func() bool { return len(k.handled) == 20 })
	require.Eventually(t, func() bool { return k.committed()[0] == 10 }, 10*time.Second, time.Millisecond)

	moves, err := k.c.PlanSeek(within(t), "g", "t", []int{0}, client.BeforeCommitted(4))
	require.NoError(t, err)
	require.Equal(t, []client.Move{{Partition: 0, Known: true, From: 10, To: 6}}, moves)
	_, err = k.c.PlanSeek(within(t), "", "t", []int{0}, client.Start())
	require.ErrorIs(t, err, wire.CodeInvalid)
	require.NoError(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{0: 6}))
	k.eventually("four again", func() bool {
		return k.handled["0@5"] == 1 && k.handled["0@6"] == 2 && k.handled["0@9"] == 2 && k.handled["1@9"] == 1
	})
	require.NoError(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{0: 10, 1: 10}))
	require.ErrorIs(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{0: 11}), wire.CodeOffsetOutOfRange)
	require.ErrorIs(t, k.c.SeekGroup(within(t), "g", "none", map[int]uint64{0: 1}), wire.CodeTopicNotFound)
	require.ErrorIs(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{-1: 1}), wire.CodePartitionNotFound)
	require.ErrorIs(t, k.c.Commit(within(t), "g", "t", map[int]uint64{0: 1}), wire.CodeFenced)
}

func TestAPausedGroupReadsNothingUntilItIsResumed(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.run("a", groupOf(), nil)
	k.publish(0, 5)
	k.eventually("five", func() bool { return len(k.handled) == 5 })
	require.NoError(t, k.c.PauseGroup(within(t), "g", ""))
	require.Eventually(t, func() bool { return k.committed()[0] == 5 }, 10*time.Second, time.Millisecond)
	k.publish(0, 5)
	require.Never(t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.handled) > 6 // one may have been in hand
	}, 50*time.Millisecond, 5*time.Millisecond)
	infos, err := k.c.Groups(within(t), "g")
	require.NoError(t, err)
	require.True(t, infos[0].Paused)
	require.NoError(t, k.c.ResumeGroup(within(t), "g", "t"))
	k.eventually("ten", func() bool { return len(k.handled) == 10 })
	require.ErrorIs(t, k.c.PauseGroup(within(t), "nobody", ""), wire.CodeGroupNotFound)
}

func TestAGroupNoticesNewPartitions(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.run("a", groupOf(), nil)
	k.waitForShares(1, 1)
	_, err := k.c.AlterTopic(within(t), "t", client.TopicOptions{Partitions: 2})
	require.NoError(t, err)
	k.publish(1, 3)
	k.eventually("the new one", func() bool { return k.by["a"][1] == 3 })
}

// What is published to a partition before a group or queue looks there is theirs, wherever those that
// begin now would begin; and a pause covers it.
func TestAddedPartitionsBelongToWhoReadsAndArePausedWithTheOthers(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.publish(0, 5)
	group := groupOf(func(s *client.Source) { s.From = client.End() })
	member := k.run("a", group, nil)
	require.Eventually(t, func() bool { return k.committed()[0] == 5 }, 10*time.Second, time.Millisecond)
	member.end()
	jobs := client.Queue("g", "t")
	jobs.From = client.End()
	q, err := k.c.OpenQueue(within(t), jobs)
	require.NoError(t, err)
	require.NoError(t, k.c.PauseGroup(within(t), "g", "t"))
	_, err = k.c.AlterTopic(within(t), "t", client.TopicOptions{Partitions: 2})
	require.NoError(t, err)
	k.publish(1, 3)
	infos, err := k.c.Groups(within(t), "g")
	require.NoError(t, err)
	require.Len(t, infos, 4)
	for _, info := range infos {
		require.True(t, info.Paused)
		require.Equal(t, info.Partition*3, int(info.Lag))
	}

	require.NoError(t, k.c.ResumeGroup(within(t), "g", "t"))
	k.run("b", group, nil)
	k.eventually("the new ones", func() bool { return k.by["b"][1] == 3 })
	for n := 0; n < 3; {
		ms, err := q.Fetch(within(t), 10)
		require.NoError(t, err)
		for _, m := range ms {
			require.Equal(t, 1, m.Partition)
			require.NoError(t, m.Ack(within(t)))
			n++
		}
	}
	require.NoError(t, q.Close(within(t)))
}

func TestAHandlerThatPanicsHasFailed(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	var reported atomic.Int32
	c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(error) { reported.Add(1) }})
	for i := range 3 {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(value(i))})
		require.NoError(t, err)
	}
	var attempts []string
	require.NoError(t, c.Run(within(t), groupOf(), func(_ context.Context, m *client.Message) error {
		attempts = append(attempts, fmt.Sprintf("%d.%d", m.Offset, m.Attempt))
		switch {
		case m.Offset == 1 && m.Attempt < 3:
			panic("no")
		case m.Offset == 2:
			return client.ErrStop
		}
		return nil
	}))
	require.Equal(t, []string{"0.1", "1.1", "1.2", "1.3", "2.1"}, attempts)
	require.EqualValues(t, 2, reported.Load())
}

// Where a new group starts is committed at once: the next member starts there, too.
func TestWhereAGroupStartsIsCommitted(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 5)
	a := k.run("a", groupOf(func(s *client.Source) { s.From = client.End() }), nil)
	require.Eventually(t, func() bool { return len(k.committed()) == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, map[int]uint64{0: 5, 1: 0}, k.committed())
	a.end()
	k.publish(0, 2)
	k.run("b", groupOf(func(s *client.Source) { s.From = client.End() }), nil)
	k.eventually("none is left out", func() bool { return k.by["b"][0] == 2 })
}

func TestAStaticMemberThatRestartsMovesNothing(t *testing.T) {
	k := newCrew(t, 4, server.Options{})
	static := func(name string) client.Source {
		return groupOf(func(s *client.Source) { s.Instance = name })
	}
	k.run("a", static("a"), nil)
	b := k.run("b", static("b"), nil)
	k.waitForShares(2, 2)
	before, err := k.c.Members(within(t), "g")
	require.NoError(t, err)
	b.end()
	k.run("b again", static("b"), nil)
	require.Eventually(t, func() bool {
		now, err := k.c.Members(within(t), "g")
		require.NoError(t, err)
		return len(now[0].Members) == 2 && now[0].Rebalances == before[0].Rebalances
	}, 10*time.Second, time.Millisecond)
	k.waitForShares(2, 2)
	for p := range 4 {
		k.publish(p, 5)
	}
	k.eventually("all", func() bool { return len(k.handled) == 20 })
}

func TestASecondProcessWithTheSameInstanceEndsTheFirst(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	static := groupOf(func(s *client.Source) { s.Instance, s.SessionTimeout = "i", 100*time.Millisecond })
	a := k.run("a", static, nil)
	k.waitForShares(1, 1)
	k.run("b", static, nil)
	err := <-a.done
	a.done <- err
	require.ErrorIs(t, err, wire.CodeFenced)
}

func TestAbsurdTimesAreRefused(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	f := func(change func(*client.Source)) {
		t.Helper()
		require.Error(t, k.c.Run(within(t), groupOf(change), func(context.Context, *client.Message) error { return nil }))
	}
	f(func(s *client.Source) { s.SessionTimeout = time.Millisecond })
	f(func(s *client.Source) { s.SessionTimeout = time.Hour })
	f(func(s *client.Source) { s.HandoverTimeout = 2 * time.Hour })
	f(func(s *client.Source) { s.HandoverTimeout = -1 })
	f(func(s *client.Source) { s.Instance = string(make([]byte, 300)) })
}

// places returns which member has which partitions.
func (k *crewOf) places() map[string][]int {
	k.t.Helper()
	groups, err := k.c.Members(within(k.t), "g")
	require.NoError(k.t, err)
	held := map[string][]int{}
	for _, g := range groups {
		for _, m := range g.Members {
			for _, p := range m.Partitions {
				held[m.Member] = append(held[m.Member], p.Partition)
			}
		}
	}
	return held
}

func TestConnectionsThatDropMoveNothing(t *testing.T) {
	k := newCrew(t, 4, server.Options{})
	k.run("a", groupOf(), nil)
	k.run("b", groupOf(), nil)
	k.waitForShares(2, 2)
	before, err := k.c.Members(within(t), "g")
	require.NoError(t, err)
	places := k.places()
	for range 5 {
		k.b.DropConnections()
		for p := range 4 {
			k.publish(p, 10)
		}
	}
	k.eventually("all", func() bool { return len(k.handled) == 200 })
	after, err := k.c.Members(within(t), "g")
	require.NoError(t, err)
	require.Equal(t, before[0].Rebalances, after[0].Rebalances)
	require.Equal(t, places, k.places())
}

func TestABrokerThatRestartsFindsEverybodyWhereTheyWere(t *testing.T) {
	k := newCrew(t, 6, server.Options{Dir: t.TempDir()})
	for _, name := range []string{"a", "b", "c"} {
		k.run(name, groupOf(), nil)
	}
	k.waitForShares(3, 2)
	places := k.places()
	for p := range 6 {
		k.publish(p, 10)
	}
	k.eventually("all", func() bool { return len(k.handled) == 60 })
	k.b.Restart()
	k.waitForShares(3, 2)
	require.Equal(t, places, k.places())
	for p := range 6 {
		k.publish(p, 10)
	}
	k.eventually("all again", func() bool { return len(k.handled) == 120 })
}

// A rebalance does not wait for the next heartbeat, also when partitions are withdrawn that the member
// has only begun to open, or that are paused.
func TestAHandoverDoesNotWaitForAHeartbeat(t *testing.T) {
	k := newCrew(t, 4, server.Options{})
	interval := client.DefaultSessionTimeout / 4
	for i := range 10 {
		name := fmt.Sprint("g", i)
		if i%2 == 0 { // known, and paused
			require.NoError(t, k.c.SeekGroup(within(t), name, "t", map[int]uint64{0: 0, 1: 0, 2: 0, 3: 0}))
			require.NoError(t, k.c.PauseGroup(within(t), name, ""))
		}
		start := time.Now()
		members := []*running{
			k.run("a", groupOf(func(s *client.Source) { s.Name = name }), nil),
			k.run("b", groupOf(func(s *client.Source) { s.Name = name }), nil),
		}
		require.Eventually(t, func() bool {
			groups, err := k.c.Members(within(t), name)
			require.NoError(t, err)
			return len(groups) == 1 && len(groups[0].Members) == 2 &&
				len(groups[0].Members[0].Partitions) == 2 && len(groups[0].Members[1].Partitions) == 2
		}, 15*time.Second, time.Millisecond)
		require.Less(t, time.Since(start), interval*9/10)
		for _, m := range members {
			m.end()
		}
	}
}

// Members come and go while messages are published; every message is handled, those of a partition in
// order but for what is handled again, and all is committed in the end.
func TestMembersComeAndGoUnderLoad(t *testing.T) {
	k := newCrew(t, 6, server.Options{})
	var failures atomic.Int64
	h := func(_ context.Context, m *client.Message) error {
		if (m.Offset+uint64(m.Partition))%97 == 0 && m.Attempt == 1 {
			failures.Add(1)
			return errors.New("once more")
		}
		return nil
	}
	var wg sync.WaitGroup
	const n = 3000
	wg.Go(func() {
		for range n / 100 {
			for p := range 6 {
				k.publish(p, 100)
			}
		}
	})
	members := []*running{k.run("m0", groupOf(), h)}
	for i := range 8 {
		members = append(members, k.run(fmt.Sprint("m", i+1), groupOf(), h))
		if i%2 == 1 {
			members[0].end()
			members = members[1:]
		}
		k.publish(0, 1)
	}
	wg.Wait()
	k.eventually("all", func() bool { return len(k.handled) == 6*n+8 })
	require.Eventually(t, func() bool {
		for p, offset := range k.committed() {
			want := uint64(n)
			if p == 0 {
				want += 8
			}
			if offset != want {
				return false
			}
		}
		return true
	}, 10*time.Second, time.Millisecond)
	require.NotZero(t, failures.Load())
}

// Members commit when they hear that the broker stops.
func TestAGroupCommitsWhenTheBrokerStops(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: t.TempDir()}})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	for i := range 20 {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: fmt.Append(nil, i)})
		require.NoError(t, err)
	}
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	var handled atomic.Int64
	done := make(chan error, 1)
	go func() {
		hourly := groupOf(func(s *client.Source) { s.CommitInterval = time.Hour })
		done <- c.Run(ctx, hourly, func(context.Context, *client.Message) error {
			handled.Add(1)
			return nil
		})
	}()
	require.Eventually(t, func() bool { return handled.Load() == 20 }, 10*time.Second, time.Millisecond)
	b.Restart()
	_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("after")})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return handled.Load() >= 21 }, 10*time.Second, time.Millisecond)
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
	require.LessOrEqual(t, handled.Load(), int64(22), "nothing is handled again but what was returning from its handler")
}
