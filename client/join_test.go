package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// unanswering starts a broker with a topic t that answers publishes only when the function is called.
func unanswering(t *testing.T, partitions int, o Options) (*broker, *Client, func()) {
	b := startBroker(t)
	b.create("t", partitions)
	release := make(chan struct{})
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpPublish {
			<-release
		}
		return false
	})
	c := dial(t, b, o)
	answer := sync.OnceFunc(func() { close(release) })
	t.Cleanup(answer)
	return b, c, answer
}

// joinable is unanswering with one partition whose open batch has room ahead.
func joinable(t *testing.T, o Options) (*broker, *Client, func()) {
	b, c, answer := unanswering(t, 1, o)
	for i := range 1 + 20*aheadFrom { // the first one leaves at once
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte(text(i))}, nil))
	}
	l := c.lane("t", 0)
	require.True(t, l.roomy.Load())
	require.GreaterOrEqual(t, l.open.ahead, 2*(messageBytes+len(text(0))))
	return b, c, answer
}

func (c *Client) lane(topic string, partition int) *lane {
	return (*c.producer.topics[topic].lanes.Load())[partition]
}

func TestOnlyPlainMessagesJoinAGrowingBatch(t *testing.T) {
	_, c, _ := joinable(t, Options{})
	tp := c.producer.topics["t"]
	ahead := c.lane("t", 0).open.ahead
	require.True(t, tp.join(&Message{Topic: "t", Value: []byte("v")}, nil))
	require.Equal(t, ahead-1-messageBytes, c.lane("t", 0).open.ahead)
	require.True(t, tp.join(&Message{Topic: "t", Key: []byte("k"), Value: []byte("v")}, nil))
	c.lane("t", 0).open.ahead = 2 * wire.MaxKeyBytes
	for _, m := range []Message{
		{Headers: []Header{{"h", nil}}},
		{ID: "id"},
		{Subject: "s"},
		{Time: time.UnixMilli(1)},
		{TTL: 1},
		{Delay: 1},
		{At: time.UnixMilli(1)},
		{Cron: "@hourly"},
		{Level: wire.LevelDisk},
		{Pinned: true, Partition: 1},
		{Key: make([]byte, wire.MaxKeyBytes+1)},
		{Value: make([]byte, c.lane("t", 0).open.ahead)},
	} {
		require.False(t, tp.join(&m, nil), "%+v", m)
	}
}

func TestWhatTheTopicDoesNotAcceptDoesNotJoin(t *testing.T) {
	_, c, _ := joinable(t, Options{})
	tp := c.producer.topics["t"]
	smaller := *tp.info.Load()
	smaller.maxMessage = messageBytes + 10 // it was altered meanwhile
	tp.info.Store(&smaller)
	require.False(t, tp.join(&Message{Topic: "t", Value: make([]byte, 11)}, nil))
	require.True(t, tp.join(&Message{Topic: "t", Value: make([]byte, 10)}, nil))
}

func TestABatchIsNotLargerForWhatJoins(t *testing.T) {
	_, c, _ := joinable(t, Options{MaxBatchBytes: 8000})
	l := c.lane("t", 0)
	for range 2000 {
		require.NoError(t, c.PublishAsync(t.Context(), &Message{Topic: "t", Value: make([]byte, 9)}, nil))
		require.LessOrEqual(t, l.open.builder.Size(), 8000)
	}
	require.Greater(t, len(l.flight), 1)
}

func TestWhatJoinsIsSpreadOverThePartitions(t *testing.T) {
	b, c, answer := unanswering(t, 4, Options{})
	const each = 1 + 20*keylessRun // of which one leaves at once
	for range 4 * each {
		require.NoError(t, c.PublishAsync(t.Context(), &Message{Topic: "t"}, nil))
	}
	answer()
	require.NoError(t, c.Flush(within(t)))
	for p := range 4 {
		require.Len(t, b.values("t", p), each)
	}
}

func TestNothingJoinsABatchOfAnotherKind(t *testing.T) {
	_, c, _ := unanswering(t, 1, Options{})
	for range 20 * aheadFrom {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", TTL: 1e9}, nil))
	}
	require.False(t, c.producer.topics["t"].join(&Message{Topic: "t"}, nil))
}

func TestRoomThatWasTakenAheadIsGivenBack(t *testing.T) {
	b, c, answer := joinable(t, Options{})
	require.Positive(t, c.lane("t", 0).open.ahead)
	answer()
	require.NoError(t, c.Flush(within(t)))
	require.Zero(t, c.producer.budget.used.Load())
	require.Equal(t, texts(1+20*aheadFrom), b.values("t", 0))
}

func TestWhatABatchTakesAheadFitsTheBuffer(t *testing.T) {
	_, c, _ := joinable(t, Options{MaxBufferedBytes: 20_000})
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error)
	go func() {
		for {
			if err := c.PublishAsync(ctx, &Message{Topic: "t", Value: make([]byte, 100)}, nil); err != nil {
				done <- err
				return
			}
		}
	}()
	eventually(t, func() bool { return c.producer.budget.waiting.Load() == 1 })
	require.LessOrEqual(t, c.producer.budget.used.Load(), int64(20_000))
	require.Greater(t, c.producer.budget.used.Load(), int64(20_000-132))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestNothingJoinsWhenTheClientIsClosing(t *testing.T) {
	_, c, _ := joinable(t, Options{})
	tp := c.producer.topics["t"]
	c.producer.refuse()
	require.False(t, tp.join(&Message{Topic: "t"}, nil))
}

func TestABatchTakesNoMoreRecordsThanItMayHave(t *testing.T) {
	b, c, answer := joinable(t, Options{MaxBatchBytes: 4 << 20, MaxBufferedBytes: 64 << 20})
	n := 1 + 20*aheadFrom
	for range wire.MaxBatchRecords + 100 {
		if err := c.PublishAsync(t.Context(), &Message{Topic: "t", Value: []byte{}}, nil); err != nil {
			t.Fatal(err)
		}
		n++
	}
	answer()
	require.NoError(t, c.Flush(within(t)))
	require.Len(t, b.values("t", 0), n)
}

// Callers publish all kinds of messages at once; each keeps the order of its own, and every callback comes once.
func TestMessagesOfAllKindsKeepTheirOrder(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	const callers, each = 4, 5_000
	var wg sync.WaitGroup
	offsets := make([][]uint64, callers)
	for w := range callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range each {
				m := &Message{Topic: "t", Value: fmt.Append(nil, w, "-", i)}
				switch rng.IntN(40) {
				case 0:
					m.Headers = []Header{{"h", []byte("v")}}
				case 1:
					m.TTL = 1e9
				case 2:
					m.Level = wire.LevelDisk
				case 3:
					m.Key = []byte("k")
				}
				err := c.PublishAsync(t.Context(), m, func(r Receipt, err error) {
					if err == nil {
						offsets[w] = append(offsets[w], r.Offset)
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, c.Flush(within(t)))
	stored := b.values("t", 0)
	require.Len(t, stored, callers*each)
	for w := range callers {
		require.Len(t, offsets[w], each)
		for i, o := range offsets[w] {
			require.Equal(t, fmt.Sprint(w, "-", i), stored[o])
		}
	}
}
