package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// Messages with ids travel in batches; where the broker knows some of them, the others are stored all
// the same, in order, and every callback hears where its message is.
func TestMessagesOfOneIDAreStoredOnce(t *testing.T) {
	for name, o := range map[string]client.Options{
		"numbered": {MaxBatchBytes: 2000}, "not numbered": {MaxBatchBytes: 2000, NoIdempotence: true},
		"compressing": {MaxBatchBytes: 2000, Codec: wire.CodecS2},
	} {
		t.Run(name, func(t *testing.T) {
			b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
			c := connect(t, b, o)
			_, err := c.CreateTopic(within(t), "t", client.TopicOptions{
				Settings: []wire.Setting{{Key: "dedupe_window", Value: "1h"}},
			})
			require.NoError(t, err)
			const n = 3000
			var mu sync.Mutex
			at := map[string]uint64{}
			var fresh, duplicates int
			send := func(id string, value string) {
				m := &client.Message{Topic: "t", ID: id, Value: []byte(value)}
				require.NoError(t, c.PublishAsync(within(t), m, func(r client.Receipt, err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Error(id, err)
						return
					}
					if r.Duplicate {
						duplicates++
					} else {
						fresh++
					}
					if before, ok := at[id]; ok && before != r.Offset {
						t.Errorf("id %s is at %d and at %d", id, before, r.Offset)
					}
					at[id] = r.Offset
				}))
			}
			for i := range n {
				send(fmt.Sprint(i), fmt.Sprint(i))
				if i%3 == 0 {
					send(fmt.Sprint(i/2), "again")
				}
				if i%500 == 0 {
					require.NoError(t, c.Flush(within(t)))
				}
			}
			require.NoError(t, c.Flush(within(t)))
			require.Equal(t, n, fresh)
			require.Equal(t, n/3, duplicates)
			got := stored(t, c, "t", 0)
			require.Len(t, got, n)
			for i, v := range got {
				require.Equal(t, fmt.Sprint(i), v)
				require.Equal(t, uint64(i), at[v])
			}
		})
	}
}

// Messages without a key go to one partition if they have one id, whichever client sends them.
func TestAnIDWithoutAKeyIsStoredOnceOfAllPartitions(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	stored, partitions := 0, map[int]bool{}
	for range 4 {
		c := connect(t, b, client.Options{})
		_, err := c.CreateTopic(within(t), "t", client.TopicOptions{
			Partitions: 8, Settings: []wire.Setting{{Key: "dedupe_window", Value: "1h"}},
		})
		if !errors.Is(err, wire.CodeTopicExists) {
			require.NoError(t, err)
		}
		for i := range 30 {
			r, err := c.Publish(within(t), &client.Message{Topic: "t", ID: fmt.Sprint(i), Value: []byte("v")})
			require.NoError(t, err)
			if !r.Duplicate {
				stored++
			}
			partitions[r.Partition] = true
		}
	}
	require.Equal(t, 30, stored)
	require.Greater(t, len(partitions), 4)
}

func TestAnAtomicBatchIsStoredAsAWholeOrNotAtAll(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	c := connect(t, b, client.Options{MaxBatchBytes: 100})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{
		Partitions: 3, Settings: []wire.Setting{{Key: "dedupe_window", Value: "1h"}},
	})
	require.NoError(t, err)
	m := func(key, value, id string) *client.Message {
		m := &client.Message{Topic: "t", Value: []byte(value), ID: id}
		if key != "" {
			m.Key = []byte(key)
		}
		return m
	}
	r, err := c.PublishAtomic(within(t), m("a", "1", "x"), m("", "2", ""), m("a", "3", "y"))
	require.NoError(t, err)
	require.Equal(t, uint64(0), r.Offset)
	require.Equal(t, []string{"1", "2", "3"}, stored(t, c, "t", r.Partition))

	_, err = c.PublishAtomic(within(t), m("a", "4", ""), m("a", "5", "y"))
	require.ErrorIs(t, err, wire.CodeDuplicate)
	r, err = c.PublishAtomic(within(t), m("a", "6", "z"), m("a", "7", ""))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3", "6", "7"}, stored(t, c, "t", r.Partition))

	pinned := func(p int) *client.Message {
		return &client.Message{Topic: "t", Pinned: true, Partition: p, Value: []byte("p")}
	}
	long := m("a", "x", "")
	long.TTL = time.Hour
	for name, ms := range map[string][]*client.Message{
		"two partitions": {pinned(0), pinned(1)},
		"two topics":     {m("a", "x", ""), {Topic: "u"}},
		"two ttls":       {m("a", "x", ""), long},
		"none":           nil,
	} {
		_, err = c.PublishAtomic(within(t), ms...)
		require.ErrorIs(t, err, wire.CodeInvalid, name)
	}
	huge := make([]*client.Message, 10)
	for i := range huge {
		huge[i] = &client.Message{Topic: "t", Pinned: true, Value: make([]byte, 1000_000)}
	}
	_, err = c.PublishAtomic(within(t), huge...)
	require.ErrorIs(t, err, wire.CodeTooLarge)
	r, err = c.PublishAtomic(within(t), huge[:8]...)
	require.NoError(t, err)
	require.Equal(t, 0, r.Partition)
}

func TestWhatIsOverItsTimeToLiveReachesNobody(t *testing.T) {
	clock := servertest.NewClock()
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Now: clock.Now}})
	c := connect(t, b, client.Options{})
	publish := func(v string, ttl time.Duration) {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(v), TTL: ttl})
		require.NoError(t, err)
	}
	publish("short", time.Second)
	publish("first", 0)
	publish("short", time.Second)
	publish("long", time.Minute)
	publish("short", time.Second)
	clock.Advance(time.Second)

	require.Equal(t, []string{"first", "long"}, stored(t, c, "t", 0))
	sub, err := c.Subscribe(within(t), client.Subscription{Topic: "t"})
	require.NoError(t, err)
	defer sub.Close()
	for _, want := range []string{"first", "long"} {
		m, err := sub.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, want, string(m.Value))
		require.Equal(t, want == "long", m.TTL == time.Minute)
	}
	var got []string
	q, err := c.OpenQueue(within(t), client.Queue("q", "t"))
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close(within(t))) }()
	for len(got) < 2 {
		ms, err := q.Fetch(within(t), 10)
		require.NoError(t, err)
		for _, m := range ms {
			got = append(got, string(m.Value))
			require.NoError(t, m.Ack(within(t)))
		}
	}
	require.Equal(t, []string{"first", "long"}, got)
	publish("live", 0) // subscriptions go on behind what they skipped
	m, err := sub.Next(within(t))
	require.NoError(t, err)
	require.Equal(t, "live", string(m.Value))
	ms, err := q.Fetch(within(t), 10)
	require.NoError(t, err)
	require.Len(t, ms, 1)
	require.Equal(t, uint64(5), ms[0].Offset)
	require.NoError(t, ms[0].Ack(within(t)))
}

// A group is done with what nobody gets: it has no lag behind that.
func TestAGroupPassesWhatIsOverItsTimeToLive(t *testing.T) {
	clock := servertest.NewClock()
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Now: clock.Now}})
	c := connect(t, b, client.Options{})
	for _, ttl := range []time.Duration{time.Second, 0, time.Second, time.Second} {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte("x"), TTL: ttl})
		require.NoError(t, err)
	}
	clock.Advance(time.Second)
	source := client.Group("g", "t")
	source.CommitInterval = time.Millisecond
	handled := make(chan uint64, 10)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx, source, func(_ context.Context, m *client.Message) error {
			handled <- m.Offset
			return nil
		})
	}()
	require.Equal(t, uint64(1), <-handled)
	require.Eventually(t, func() bool {
		infos, err := c.Groups(within(t), "g")
		require.NoError(t, err)
		return len(infos) == 1 && infos[0].Lag == 0 && infos[0].Offset == 4
	}, 20*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, handled)
}
