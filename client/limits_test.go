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
	require.ErrorContains(t, c.Run(within(t), s, ignore), "DeadLetter")
	s.DeadLetter = "dead letters"
	require.ErrorContains(t, c.Run(within(t), s, ignore), "DeadLetter")
	require.ErrorIs(t, c.Run(within(t), s, ignore), wire.CodeInvalid)
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

// Whatever a record will hold counts: what is measured too small is refused together with the messages beside it.
func TestAMessageIsMeasuredAsItIsStored(t *testing.T) {
	var to topic
	to.info.Store(&topicInfo{maxMessage: 1000, maxAtomic: 1010})
	header := func(n int) []Header { return []Header{{Name: "name", Value: make([]byte, n)}} }
	for name, c := range map[string]struct {
		m    Message
		want int
	}{
		"nothing":           {Message{}, 0},
		"a key":             {Message{Key: make([]byte, 7)}, 7},
		"a value":           {Message{Value: make([]byte, 7)}, 7},
		"a subject":         {Message{Subject: "a.b"}, 3},
		"an id":             {Message{ID: "abc"}, len(wire.HeaderID) + 3 + 6},
		"a header":          {Message{Headers: header(5)}, 4 + 5 + 6},
		"all":               {Message{Key: make([]byte, 1), Value: make([]byte, 2), Subject: "s", ID: "i", Headers: header(3)}, 4 + len(wire.HeaderID) + 1 + 6 + 4 + 3 + 6},
		"just small enough": {Message{Key: make([]byte, 500), Value: make([]byte, 500), Subject: "subject.10"}, 1010},
	} {
		size, alone, err := to.measure(&c.m)
		require.NoError(t, err, name)
		require.Equal(t, c.want+messageBytes, size, name)
		require.Equal(t, size > 1000, alone, name)
	}
	for name, m := range map[string]Message{
		"a value":    {Value: make([]byte, 1001)},
		"together":   {Key: make([]byte, 500), Value: make([]byte, 501)},
		"headers":    {Headers: header(997)},
		"an id":      {Value: make([]byte, 1000), ID: "i"},
		"no content": {Value: make([]byte, 1000), Subject: "subject.011"},
	} {
		_, _, err := to.measure(&m)
		require.ErrorIs(t, err, wire.CodeTooLarge, name)
	}
	to.info.Store(&topicInfo{maxMessage: 2 * wire.MaxHeaderBytes, maxAtomic: 2 * wire.MaxHeaderBytes})
	m := Message{ID: "i", Headers: header(wire.MaxHeaderBytes - 10 - len(wire.HeaderID) - 7)}
	_, _, err := to.measure(&m)
	require.NoError(t, err)
	m.ID = "ii"
	_, _, err = to.measure(&m)
	require.ErrorIs(t, err, wire.CodeTooLarge)
}

// What was settled and not sent when its connection is lost is neither sent on another one nor waited for.
func TestAcknowledgementsThatWereNotSentAreLost(t *testing.T) {
	a := acks{gathered: settlement{}, unanswered: 5} // two of them were sent
	for _, offset := range []uint64{3, 4, 9} {
		a.gathered.add(&lease{leasing: &leasing{origin: origin{partition: 1}}, offset: offset, attempt: 1})
	}
	require.Equal(t, 3, a.drop())
	require.Empty(t, a.gathered)
	require.Equal(t, 2, a.unanswered)
	require.Equal(t, uint64(3), a.lost)
	require.Zero(t, a.drop())
}
