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
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

func TestAQueueWithOrderByKeyHandlesEveryKeyInOrder(t *testing.T) {
	for _, codec := range []wire.Codec{wire.CodecNone, wire.CodecS2} {
		brokers(t, func(t *testing.T, b *servertest.Broker, _ *client.Client) {
			o := client.Options{Codec: codec, Linger: time.Millisecond}
			if b.Addr == "in-process" {
				o.Dialer = b.Dial
			}
			c := connect(t, b, o)
			_, err := c.CreateTopic(within(t), "jobs", client.TopicOptions{Partitions: 2})
			require.NoError(t, err)
			const keys, each = 20, 50
			for i := range keys * each {
				m := &client.Message{Topic: "jobs", Key: fmt.Append(nil, "key ", i%keys), Value: fmt.Append(nil, i/keys)}
				require.NoError(t, c.PublishAsync(within(t), m, nil))
			}
			require.NoError(t, c.Flush(within(t)))

			var mu sync.Mutex
			busy, next, failed := map[string]bool{}, map[string]int{}, map[string]bool{}
			var left atomic.Int64
			left.Store(keys * each)
			s := client.Queue("workers", "jobs")
			s.Workers, s.OrderByKey, s.BackoffMin, s.BackoffMax = 16, true, time.Millisecond, time.Millisecond
			err = c.Run(within(t), s, func(_ context.Context, m *client.Message) error {
				key := string(m.Key)
				mu.Lock()
				require.False(t, busy[key], "two messages of one key")
				busy[key] = true
				mu.Unlock()
				time.Sleep(time.Duration(m.Offset%7) * 10 * time.Microsecond) // lets others overtake, if they may
				mu.Lock()
				defer mu.Unlock()
				busy[key] = false
				require.Equal(t, fmt.Sprint(next[key]), string(m.Value), "%s", key)
				if id := key + string(m.Value); m.Offset%5 == 0 && !failed[id] {
					failed[id] = true
					return errors.New("the first time fails")
				}
				next[key]++
				if left.Add(-1) == 0 {
					return client.ErrStop
				}
				return nil
			})
			require.NoError(t, err)
			require.Len(t, next, keys)
		})
	}
}

func TestAFailingKeyDoesNotHoldUpTheOthers(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	for i := range 40 {
		_, err := c.Publish(within(t), &client.Message{Topic: "jobs", Key: fmt.Append(nil, i%4), Value: fmt.Append(nil, i)})
		require.NoError(t, err)
	}
	s := client.Queue("workers", "jobs")
	s.Workers, s.OrderByKey = 4, true
	ctx, cancel := context.WithCancelCause(within(t))
	defer cancel(nil)
	var handled atomic.Int64
	done := errors.New("done")
	err := c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
		if string(m.Key) == "1" {
			return client.RetryAfter(time.Hour, errors.New("no"))
		}
		if handled.Add(1) == 30 {
			cancel(done)
		}
		return nil
	})
	require.ErrorIs(t, err, done)
	infos, err := c.Groups(within(t), "workers")
	require.NoError(t, err)
	require.Equal(t, 1, infos[0].Retrying)
	require.Equal(t, 9, infos[0].Parked)
}

func TestAHandlerThatPanicsFails(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	reports := make(chan error, 10)
	c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(err error) { reports <- err }})
	_, err := c.Publish(within(t), &client.Message{Topic: "jobs", Value: []byte("x")})
	require.NoError(t, err)
	var order []string
	wrap := func(name string) func(client.Handler) client.Handler {
		return func(h client.Handler) client.Handler {
			return func(ctx context.Context, m *client.Message) error {
				order = append(order, name)
				return h(ctx, m)
			}
		}
	}
	s := client.Queue("workers", "jobs")
	s.BackoffMin, s.BackoffMax = time.Millisecond, time.Millisecond
	s.Middleware = []func(client.Handler) client.Handler{wrap("outer"), wrap("inner")}
	err = c.Run(within(t), s, func(_ context.Context, m *client.Message) error {
		if m.Attempt == 1 {
			panic("oh")
		}
		return client.ErrStop
	})
	require.NoError(t, err)
	require.Equal(t, []string{"outer", "inner", "outer", "inner"}, order)
	var p *client.PanicError
	require.ErrorAs(t, <-reports, &p)
	require.Equal(t, "oh", p.Value)
	require.Contains(t, string(p.Stack), "order_test.go")
}

func TestDeadLettersAreListedReplayedAndDiscarded(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		_, err := c.CreateTopic(within(t), "jobs", client.TopicOptions{Partitions: 3})
		require.NoError(t, err)
		const n = 60
		for i := range n {
			m := &client.Message{Topic: "jobs", Partition: i % 3, Pinned: true, Value: []byte(value(i)), Headers: []client.Header{{Name: "n", Value: []byte(value(i))}}}
			_, err := c.Publish(within(t), m)
			require.NoError(t, err)
		}
		var left atomic.Int64
		left.Store(n)
		err = c.Run(within(t), client.Queue("workers", "jobs"), func(context.Context, *client.Message) error {
			if left.Add(-1) == 0 {
				return errors.Join(client.ErrStop)
			}
			return client.Reject(errors.New("bad"))
		})
		require.NoError(t, err)
		list := func() (letters []*client.DeadLetter) {
			for d, err := range c.DeadLetters(within(t), "jobs.workers.dlq") {
				require.NoError(t, err)
				letters = append(letters, d)
			}
			return letters
		}
		require.Eventually(t, func() bool {
			_, err := c.Topic(within(t), "jobs.workers.dlq")
			return err == nil && len(list()) == n-1
		}, 20*time.Second, 10*time.Millisecond)
		letters := list()
		for _, d := range letters {
			require.Equal(t, "bad", d.Reason)
			require.Equal(t, "jobs", d.OriginTopic)
			require.Equal(t, "workers", d.Queue)
			require.Equal(t, 1, d.Attempts)
			require.False(t, d.First.IsZero() || d.Last.IsZero())
		}
		replayed, err := c.ReplayDead(within(t), letters[:10]...)
		require.NoError(t, err)
		require.Equal(t, 10, replayed)
		require.Len(t, list(), n-11)
		require.NoError(t, c.DiscardDead(within(t), letters[5:20]...), "some are done already")
		require.Len(t, list(), n-21)

		got := map[string]int{}
		for p := range 3 {
			f, err := c.Fetch(within(t), client.FetchRequest{Topic: "jobs", Partition: p, From: client.At(n / 3)})
			require.NoError(t, err)
			for _, m := range f.Messages {
				require.Equal(t, []client.Header{{Name: "n", Value: m.Value}, {Name: client.HeaderReplayCount, Value: []byte("1")}}, m.Headers)
				got[string(m.Value)] = m.Partition
			}
		}
		require.Len(t, got, 10)
		for _, d := range letters[:10] {
			require.Equal(t, d.OriginPartition, got[string(d.Value)])
		}
	})
}
