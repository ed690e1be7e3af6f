package client_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

func TestMessagesCanBePublishedLater(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		_, err := c.CreateTopic(within(t), "t", client.TopicOptions{Partitions: 2})
		require.NoError(t, err)
		pin := func(m client.Message) *client.Message {
			m.Topic, m.Pinned, m.Partition = "t", true, 1
			return &m
		}
		const soon = 500 * time.Millisecond // the publishes behind it take less on a slow machine, too
		start := time.Now()
		r, err := c.Publish(within(t), pin(client.Message{Value: []byte("soon"), Delay: soon, Key: []byte("k"), Headers: []client.Header{{Name: "a", Value: []byte("b")}}}))
		require.NoError(t, err)
		require.Equal(t, client.Receipt{Topic: "t", Partition: 1, Level: r.Level, Schedule: 1}, r)
		require.GreaterOrEqual(t, r.Level, wire.LevelMemory)
		r, err = c.Publish(within(t), pin(client.Message{Value: []byte("tomorrow"), At: start.Add(24 * time.Hour)}))
		require.NoError(t, err)
		require.Equal(t, uint64(2), r.Schedule)
		_, err = c.Publish(within(t), pin(client.Message{Value: []byte("past"), At: start.Add(-time.Hour)}))
		require.NoError(t, err)
		k, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
		require.NoError(t, err)
		defer k.Close()
		m, err := k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, "past", string(m.Value))
		m, err = k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, "soon", string(m.Value))
		require.Equal(t, "k", string(m.Key))
		require.Equal(t, "b", string(m.Header("a")))
		require.GreaterOrEqual(t, time.Since(start), soon)

		var waiting []*client.Scheduled
		for s, err := range c.Schedules(within(t), "t", client.AllPartitions) {
			require.NoError(t, err)
			waiting = append(waiting, s)
		}
		require.Len(t, waiting, 1)
		require.Equal(t, "tomorrow", string(waiting[0].Value))
		require.WithinDuration(t, start.Add(24*time.Hour), waiting[0].Due, 2*time.Millisecond)
		s, err := c.Schedule(within(t), "t", 1, 2)
		require.NoError(t, err)
		require.Equal(t, waiting[0], s)
		missing, err := c.CancelScheduled(within(t), "t", 1, 1, 2, 77)
		require.NoError(t, err)
		require.Equal(t, 2, missing)
		_, err = c.Schedule(within(t), "t", 1, 2)
		require.ErrorIs(t, err, wire.CodeOffsetOutOfRange)
	})
}

func TestRecurringMessagesComeUntilTheyAreCancelled(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	r, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("tick"), Cron: "@every 1s"})
	require.NoError(t, err)
	k, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	for range 2 {
		m, err := k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, "tick", string(m.Value))
	}
	s, err := c.Schedule(within(t), "t", r.Partition, r.Schedule)
	require.NoError(t, err)
	require.Equal(t, "@every 1s", s.Cron)
	missing, err := c.CancelScheduled(within(t), "t", r.Partition, r.Schedule)
	require.NoError(t, err)
	require.Zero(t, missing)
}

func TestAbsurdSchedulesAreRefused(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	f := func(want string, m client.Message) {
		t.Helper()
		m.Topic = "t"
		_, err := c.Publish(within(t), &m)
		require.ErrorIs(t, err, wire.CodeInvalid)
		require.ErrorContains(t, err, want)
	}
	year := 365 * 24 * time.Hour
	f("ten years", client.Message{Delay: 11 * year})
	f("ten years", client.Message{Delay: math.MaxInt64})
	f("ten years", client.Message{Delay: -1})
	f("10 years", client.Message{At: time.Now().Add(11 * year)})
	f("1970", client.Message{At: time.UnixMilli(-1)})
	f("exclude", client.Message{At: time.Now(), Delay: 1})
	f("exclude", client.Message{Cron: "@daily", Delay: 1})
	f("time zone is for Cron", client.Message{Delay: 1, Zone: "UTC"})
	f("cron", client.Message{Cron: "every day"})
	f("cron", client.Message{Cron: "99 * * * *"})
	f("never comes", client.Message{Cron: "0 0 31 2 *"})
	f("Atlantis", client.Message{Cron: "@daily", Zone: "Atlantis"})
	_, err := c.PublishAtomic(within(t), &client.Message{Topic: "t", Delay: time.Hour}, &client.Message{Topic: "t"})
	require.ErrorIs(t, err, wire.CodeInvalid)
	_, err = c.Publish(within(t), &client.Message{Topic: "t", Delay: 9 * year})
	require.NoError(t, err)
}

func TestManyMessagesArePublishedLater(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{})
	const n = 20_000
	var mu sync.Mutex
	ids := map[uint64]bool{}
	due := time.Now().Add(300 * time.Millisecond)
	for i := range n {
		m := &client.Message{Topic: "t", Value: fmt.Append(nil, i), At: due}
		require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ids[r.Schedule] = true
			}
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	mu.Lock()
	require.Len(t, ids, n)
	mu.Unlock()
	k, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	for i := range n {
		m, err := k.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Value), "what is due at once comes in the order of publishing")
	}
}

// Messages that travel together because they are due together are known apart.
func TestMessagesThatAreDueTogetherAreCancelledApart(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{Codec: wire.CodecS2})
	const n = 3000
	at := time.Now().Add(time.Hour)
	var mu sync.Mutex
	ids := map[int]uint64{}
	for i := range n {
		m := &client.Message{Topic: "t", Value: fmt.Append(nil, i), Key: []byte("k")}
		switch {
		case i%1000 == 999:
			m.Cron = "0 0 1 1 *"
		case i%1000 > 700:
			m.At = at.Add(time.Duration(i) * time.Millisecond)
		case i < 2000:
			m.Delay = time.Hour
			m.ID = map[bool]string{true: fmt.Sprint("id", i)}[i%7 == 0]
		default:
			m.At, m.TTL = at, time.Duration(i%1000/100)*time.Hour
		}
		require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ids[i] = r.Schedule
			}
		}))
	}
	require.NoError(t, c.Flush(within(t)))
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, ids, n)
	for i := 0; i < n; i += 111 {
		s, err := c.Schedule(within(t), "t", 0, ids[i])
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(s.Value))
		missing, err := c.CancelScheduled(within(t), "t", 0, ids[i])
		require.NoError(t, err)
		require.Zero(t, missing)
		delete(ids, i)
	}
	got := map[int]uint64{}
	for s, err := range c.Schedules(within(t), "t", client.AllPartitions) {
		require.NoError(t, err)
		var i int
		_, err = fmt.Sscan(string(s.Value), &i)
		require.NoError(t, err)
		got[i] = s.ID
	}
	require.Equal(t, ids, got)
}

func TestScheduledMessagesSurviveARestartOfTheBroker(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{})
	due := time.Now().Add(200 * time.Millisecond)
	for i := range 100 {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: fmt.Append(nil, i), At: due.Add(time.Duration(i) * time.Millisecond)})
		require.NoError(t, err)
	}
	b.Restart()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	k, err := c.Subscribe(ctx, client.Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	for i := range 100 {
		m, err := k.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Value))
	}
}
