package server

import (
	"bytes"
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
