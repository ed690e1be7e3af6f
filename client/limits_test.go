package client

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A value that is too large for its field on the wire counts as the largest one. It does not wrap around to a small one.

func TestTheLargestCreditIsLarge(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	c := dial(t, b, Options{})
	for _, credit := range []int{math.MinInt, 0, manyTimes32Bits, math.MaxInt} {
		k, err := c.Subscribe(within(t), Subscription{Topic: "t", CreditBytes: credit})
		require.NoError(t, err)
		require.Equal(t, texts(3), read(t, k, 3))
		k.Close()
	}
}

func TestTheLargestFetchIsLarge(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	c := dial(t, b, Options{RequestTimeout: math.MaxInt64})
	asked := make(chan wire.Fetch, 1)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpFetch {
			var m wire.Fetch
			require.NoError(t, m.Parse(f.Body))
			asked <- m
		}
		return false
	})
	for _, size := range []int{manyTimes32Bits, math.MaxInt} {
		_, err := c.Fetch(t.Context(), FetchRequest{Topic: "t", MinBytes: size, MaxBytes: size, MaxWait: time.Millisecond})
		require.NoError(t, err)
		m := <-asked
		require.EqualValues(t, min(size, math.MaxInt32), m.MinBytes)
		require.EqualValues(t, min(size, math.MaxInt32), m.MaxBytes)
	}
}

// manyTimes32Bits is a number whose lower 32 bits are 0, if an int is larger.
const manyTimes32Bits = math.MaxInt/2 + 1

func TestTheLargestPolicyIsLarge(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	asked := make(chan wire.OpenQueue, 1)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op == wire.OpOpenQueue {
			var m wire.OpenQueue
			require.NoError(t, m.Parse(f.Body))
			asked <- m
		}
		return false
	})
	s := Queue("q", "t")
	s.MaxDeliveries = manyTimes32Bits
	q, err := c.OpenQueue(within(t), s)
	require.NoError(t, err)
	require.EqualValues(t, min(manyTimes32Bits, math.MaxInt32), (<-asked).MaxDeliveries)
	require.NoError(t, q.Close(within(t)))
}

func TestOptionsThatContradictEachOtherAreRefused(t *testing.T) {
	_, err := Dial(within(t), "", Options{ProducerName: "me", NoIdempotence: true})
	require.ErrorContains(t, err, "ProducerName")

	c := dial(t, startBroker(t), Options{})
	s := Group("g", "t", "u")
	s.DeadLetter = "u"
	require.ErrorContains(t, c.Run(within(t), s, nil), "DeadLetter")
	for _, p := range []Position{Committed(), AfterCommitted(1), BeforeCommitted(1)} {
		_, err = c.Subscribe(within(t), Subscription{Topic: "t", From: p})
		require.ErrorContains(t, err, "needs a group")
		require.ErrorIs(t, err, wire.CodeInvalid)
		_, err = c.Fetch(within(t), FetchRequest{Topic: "t", From: p})
		require.ErrorContains(t, err, "needs a group")
	}
}

func TestASourceKnowsTheLimitsOfTheBroker(t *testing.T) {
	s := Source{queue: true, Lease: 40 * time.Hour, Prefetch: math.MaxInt}.withDefaults()
	require.Equal(t, 12*time.Hour, s.Lease, "it is extended before it ends")
	require.Equal(t, 1<<16-1, s.Prefetch)
	s = Source{BackoffMin: 10 * time.Second, BackoffMax: time.Second}.withDefaults()
	require.Equal(t, 10*time.Second, s.BackoffMax, "as for a queue")
}
