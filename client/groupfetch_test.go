package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// fetcher opens a member of group g on topic t.
func fetcher(t *testing.T, c *client.Client, change ...func(*client.Source)) *client.GroupConsumer {
	t.Helper()
	g, err := c.OpenGroup(within(t), groupOf(change...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close(within(t))) })
	return g
}

// fetch returns the values of one Fetch, which are of one partition.
func fetch(t *testing.T, g *client.GroupConsumer, limit int) (partition int, got []string) {
	t.Helper()
	ms, err := g.Fetch(within(t), limit)
	require.NoError(t, err)
	for _, m := range ms {
		require.Equal(t, ms[0].Partition, m.Partition)
		require.Equal(t, 1, m.Attempt)
		got = append(got, string(m.Value))
	}
	return ms[0].Partition, got
}

func TestAFetchOfAGroupIsDoneWithTheNextOneOrACommit(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		for i := range 10 {
			_, err := c.Publish(within(t), &client.Message{Topic: "t", Key: []byte("k"), Value: []byte(value(i))})
			require.NoError(t, err)
		}
		never := func(s *client.Source) { s.CommitInterval = time.Hour }
		g := fetcher(t, c, never)
		committed := func() uint64 {
			offsets, err := c.Committed(within(t), "g", "t")
			require.NoError(t, err)
			return offsets[0]
		}
		_, got := fetch(t, g, 3)
		require.Equal(t, []string{value(0), value(1), value(2)}, got)
		_, got = fetch(t, g, 2)
		require.Equal(t, []string{value(3), value(4)}, got)
		require.NoError(t, g.Commit(within(t)))
		require.EqualValues(t, 5, committed())
		_, got = fetch(t, g, 1)
		require.Equal(t, []string{value(5)}, got)
		_, got = fetch(t, g, 1)
		require.Equal(t, []string{value(6)}, got)
		require.NoError(t, g.Close(within(t)))
		require.EqualValues(t, 6, committed(), "the last one is not done")
		require.ErrorIs(t, g.Commit(within(t)), client.ErrClosed)
		_, err := g.Fetch(within(t), 1)
		require.ErrorIs(t, err, client.ErrClosed)

		g = fetcher(t, c)
		_, got = fetch(t, g, 100)
		require.Equal(t, []string{value(6), value(7), value(8), value(9)}, got)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = g.Fetch(short, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Eventually(t, func() bool { return committed() == 10 }, 10*time.Second, time.Millisecond)
	})
}

func TestMessagesOfAGroupFetchStayAndHaveEverything(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial, Codec: wire.CodecS2})
	for i := range 500 {
		m := &client.Message{Topic: "t", Key: []byte(value(i)), Value: []byte(value(i)), Headers: []client.Header{{Name: "h", Value: []byte(value(i))}}}
		if i%7 == 0 {
			m.Value = nil
		}
		require.NoError(t, c.PublishAsync(within(t), m, nil))
	}
	require.NoError(t, c.Flush(within(t)))
	g := fetcher(t, c)
	var all []*client.Message
	for len(all) < 500 {
		ms, err := g.Fetch(within(t), 30)
		require.NoError(t, err)
		all = append(all, ms...)
	}
	require.NoError(t, g.Close(within(t)))
	for i, m := range all {
		require.EqualValues(t, i, m.Offset)
		require.Equal(t, value(i), string(m.Key))
		require.Equal(t, value(i), string(m.Header("h")))
		if i%7 == 0 {
			require.Nil(t, m.Value)
		} else {
			require.Equal(t, value(i), string(m.Value))
		}
	}
}

// A partition waits for what was fetched of it: whoever gets it begins behind that.
func TestAFetchedPartitionIsHandedOverWhenItsMessagesAreDone(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(0, 3)
	k.publish(1, 3)
	g := fetcher(t, k.c)
	p, _ := fetch(t, g, 2)
	k.run("b", groupOf(), nil)
	require.Eventually(t, func() bool { return len(k.shares()) == 2 }, 10*time.Second, time.Millisecond)
	require.NoError(t, g.Commit(within(t)))
	k.waitForShares(2, 1)
	require.NoError(t, g.Close(within(t)))
	k.eventually("the rest", func() bool {
		return k.handled[fmt.Sprintf("%d@2", p)] == 1 && k.handled[fmt.Sprintf("%d@2", 1-p)] == 1
	})
	require.Zero(t, k.handled[fmt.Sprintf("%d@0", p)]+k.handled[fmt.Sprintf("%d@1", p)])
}

func TestWhatWasFetchedIsCommittedBehindAPause(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.publish(0, 3)
	g := fetcher(t, k.c, func(s *client.Source) { s.SessionTimeout = 400 * time.Millisecond })
	fetch(t, g, 2)
	require.NoError(t, k.c.PauseGroup(within(t), "g", "t"))
	paused := time.Now()
	require.Eventually(t, func() bool { // the member has sent a heartbeat since, whose answer tells it
		since := time.Since(paused).Seconds()
		groups, err := k.c.Members(within(t), "g")
		require.NoError(t, err)
		return groups[0].Members[0].Silent < since
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, g.Commit(within(t)))
	require.EqualValues(t, 2, k.committed()[0])
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := g.Fetch(short, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, k.c.ResumeGroup(within(t), "g", "t"))
	_, got := fetch(t, g, 5)
	require.Equal(t, []string{value(2)}, got)
}

func TestWhatWasFetchedIsNotCommittedBehindASeek(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.publish(0, 3)
	g := fetcher(t, k.c)
	fetch(t, g, 2)
	require.NoError(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{0: 1}))
	require.ErrorIs(t, g.Commit(within(t)), client.ErrPartitionLost)
	require.EqualValues(t, 1, k.committed()[0])
	_, got := fetch(t, g, 5)
	require.Equal(t, []string{value(1), value(2)}, got, "from where the seek says")
	require.NoError(t, g.Commit(within(t)))
	require.EqualValues(t, 3, k.committed()[0])
}

// fetchUntil fetches until a Fetch returns messages of the partition that begin at offset.
func fetchUntil(t *testing.T, g *client.GroupConsumer, partition int, offset uint64) {
	t.Helper()
	for {
		ms, err := g.Fetch(within(t), 1)
		require.NoError(t, err)
		if ms[0].Partition == partition && ms[0].Offset == offset {
			return
		}
	}
}

// What was done and then lost is reported by the next Commit, even if Fetch was called in between.
func TestACommitReportsWhatASeekUndidBeforeTheLastFetch(t *testing.T) {
	for _, interval := range []time.Duration{time.Hour, time.Millisecond} {
		k := newCrew(t, 2, server.Options{})
		k.publish(0, 3)
		k.publish(1, 3)
		g := fetcher(t, k.c, func(s *client.Source) { s.CommitInterval = interval })
		for range 6 {
			fetch(t, g, 1)
		}
		require.NoError(t, g.Commit(within(t)))
		k.publish(0, 3)
		fetchUntil(t, g, 0, 3)
		require.NoError(t, k.c.SeekGroup(within(t), "g", "t", map[int]uint64{0: 1}))
		fetchUntil(t, g, 0, 1)
		require.ErrorIs(t, g.Commit(within(t)), client.ErrPartitionLost)
		require.Equal(t, map[int]uint64{0: 2, 1: 3}, k.committed(), "the last Fetch is committed all the same")
		require.NoError(t, g.Commit(within(t)), "it is reported once")
		fetchUntil(t, g, 0, 3)
		require.NoError(t, g.Commit(within(t)))
	}
}

func TestACommitReportsWhatARebalanceTookBeforeTheLastFetch(t *testing.T) {
	k := newCrew(t, 2, server.Options{})
	k.publish(1, 2)
	g := fetcher(t, k.c, func(s *client.Source) {
		s.CommitInterval, s.HandoverTimeout = time.Hour, 20*time.Millisecond
	})
	fetch(t, g, 1)
	k.run("b", groupOf(), nil) // gets the last partition
	k.eventually("the other member has what is in hand", func() bool { return k.handled["1@0"] == 1 })
	k.publish(0, 1)
	p, _ := fetch(t, g, 1)
	require.Zero(t, p)
	require.ErrorIs(t, g.Commit(within(t)), client.ErrPartitionLost)
	require.EqualValues(t, 1, k.committed()[0], "the last Fetch is committed all the same")
	require.NoError(t, g.Commit(within(t)), "it is reported once")
}

func TestAGroupConsumerWhosePlaceWasTakenEnds(t *testing.T) {
	k := newCrew(t, 1, server.Options{})
	k.publish(0, 3)
	static := func(s *client.Source) { s.Instance = "host" }
	g := fetcher(t, k.c, static)
	fetch(t, g, 2)
	k.run("b", groupOf(static), nil)
	k.eventually("all of it", func() bool { return k.handled["0@2"] == 1 })
	require.Equal(t, 1, k.handled["0@0"])
	require.ErrorIs(t, g.Commit(within(t)), client.ErrPartitionLost)
	// Until its next heartbeat it may be given messages again: what it had not committed is no longer its own.
	_, err := g.Fetch(within(t), 1)
	for err == nil {
		_, err = g.Fetch(within(t), 1)
	}
	require.ErrorIs(t, err, wire.CodeFenced)
}

func TestClosingTheClientEndsAGroupConsumer(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	g, err := c.OpenGroup(within(t), groupOf())
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := g.Fetch(context.Background(), 1)
		failed <- err
	}()
	require.NoError(t, c.Close(within(t)))
	require.ErrorIs(t, <-failed, client.ErrClosed)
	_, err = c.OpenGroup(within(t), groupOf())
	require.ErrorIs(t, err, client.ErrClosed)
}

func TestWhatOpenGroupRefuses(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	_, err := c.OpenGroup(within(t), client.Queue("q", "t"))
	require.ErrorContains(t, err, "needs a group")
	_, err = c.OpenGroup(within(t), client.Group("", "t"))
	require.ErrorContains(t, err, "a name")
	_, err = c.OpenGroup(within(t), client.Group("g", "nowhere"))
	require.ErrorIs(t, err, wire.CodeTopicNotFound)
}

// Who has opened a group is a member for everybody.
func TestAnOpenedGroupHasItsMember(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	for range 20 {
		g, err := c.OpenGroup(within(t), groupOf())
		require.NoError(t, err)
		require.ErrorIs(t, c.DeleteGroup(within(t), "g", ""), wire.CodeFenced)
		require.NoError(t, g.Close(within(t)))
	}
}

// A Commit does not wait for the Fetch of another goroutine, which may take for ever.
func TestACommitDoesNotWaitForAFetch(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		_, err := c.Publish(within(t), &client.Message{Topic: "t"})
		require.NoError(t, err)
		g := fetcher(t, c, func(s *client.Source) { s.CommitInterval = time.Hour })
		fetch(t, g, 1)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := g.Fetch(ctx, 1)
			done <- err
		}()
		require.Eventually(t, func() bool { // until the Fetch has marked the message as done
			require.NoError(t, g.Commit(within(t)))
			offsets, err := c.Committed(within(t), "g", "t")
			require.NoError(t, err)
			return offsets[0] == 1
		}, 10*time.Second, time.Millisecond)
		require.Empty(t, done)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}
