package server

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A subscription that waits for the peer to read goes on when the peer shows that it has, not at the next
// tick.
func TestAPeerThatHasReadIsServedAtOnce(t *testing.T) {
	b, _ := newBench(t, Options{})
	out := &memTransport{unread: softPending}
	b.s.t = out
	b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("the first"))))
	subscribe := wire.Subscribe{Credit: 1 << 20}
	b.feed(request1(wire.OpSubscribe, 0, 7, subscribe.Append))
	credit := request1(wire.OpCredit, 0, 0, wire.Credit{Subscription: 7, Bytes: 1}.Append)
	b.feed(credit)
	require.NotContains(t, out.out.String(), "the first")
	out.unread = 0
	b.feed(credit)
	require.True(t, bytes.Contains(out.out.Bytes(), []byte("the first")))
	require.Empty(t, b.l.stuck)
}

// Push subscriptions count with their filters, and count until they end.
func TestMemoryOfPushSubscriptionsIsBounded(t *testing.T) {
	b, srv := newBench(t, Options{})
	limits := func() uint64 { return srv.metrics.failures[wire.CodeLimit].Load() }
	filter := wire.Filter{{Op: wire.FilterEqual, Name: "a", Value: strings.Repeat("v", 1000)}}
	subscribe := func(id uint32) {
		b.feed(request1(wire.OpSubscribe, 0, id, (&wire.Subscribe{Credit: 1, Filter: filter}).Append))
	}
	size := pushBytes + filter.Size()
	require.Greater(t, size, 1400)
	subscribe(7)
	require.EqualValues(t, size, b.s.subBytes)
	b.s.countSub(maxSubBytes - 2*size)
	subscribe(8)
	require.Zero(t, limits())
	subscribe(9)
	require.EqualValues(t, 1, limits())
	b.feed(request1(wire.OpUnsubscribe, 0, 10, wire.Unsubscribe{Subscription: 8}.Append))
	subscribe(9)
	require.EqualValues(t, 1, limits())
	require.EqualValues(t, maxSubBytes, srv.subBytes.Load())
	b.l.sessionEnded(b.s, b.now)
	require.Zero(t, srv.subBytes.Load())
}
