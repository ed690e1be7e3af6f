package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A message reaches a subscriber of the same loop in the turn that published it, behind the publisher's
// answer, and nobody wakes the loop for it.
func TestDeliveryInThePublishersTurn(t *testing.T) {
	b, _ := newBench(t, Options{})
	reader, got := b.loggedIn(t, 2, "orders")
	sub := wire.Subscribe{Credit: 1 << 20}
	reader.receive(request1(wire.OpSubscribe, 0, 7, sub.Append), b.now)
	b.l.endTurn(b.now)
	got.b = nil
	rings := 0
	b.l.ring = func() { rings++ }

	b.l.runInbox(b.now)
	b.s.receive(request1(wire.OpPublish, 0, 9, publishBody(0, 0, batchOf("hello"))), b.now)
	require.Empty(t, got.b)
	b.l.endTurn(b.now)
	f, rest, _, ok, err := wire.NextFrame(got.b, wire.MaxFrameBytes)
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, rest)
	require.Equal(t, wire.OpDeliver, f.Op)
	require.Zero(t, rings)
}

// What the jobs at the end of a turn post runs in a turn of its own, for which the loop is woken; so does
// what is posted between turns.
func TestPostsWakeTheLoopOnce(t *testing.T) {
	b, _ := newBench(t, Options{})
	rings, ran := 0, 0
	b.l.ring = func() { rings++ }
	again := func(time.Time) { ran++ }
	b.l.runInbox(b.now)
	b.l.post(jobFunc(func(time.Time) {
		b.l.post(jobFunc(again))
		b.l.post(jobFunc(again))
	}))
	require.Zero(t, rings)
	b.l.endTurn(b.now)
	require.Equal(t, 1, rings)
	require.Zero(t, ran)
	b.l.drain(b.now)
	require.Equal(t, 2, ran)
	require.Equal(t, 1, rings)

	b.l.post(jobFunc(again))
	b.l.post(jobFunc(again))
	require.Equal(t, 2, rings)
	b.l.drain(b.now)
	require.Equal(t, 4, ran)
}
