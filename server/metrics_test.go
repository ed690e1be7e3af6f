package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// TestTotalsOutliveTheirTopics deletes a topic: counters must not go back, and rates not below zero.
func TestTotalsOutliveTheirTopics(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	for range 10 {
		p.publish(h, 0, "a", "b")
	}
	p.fetch(wire.Fetch{Handle: h, MaxBytes: 1 << 20})
	p.call(wire.OpPing, 0, nil) // the turn of the fetch has ended
	before := srv.Stats(time.Now())
	require.Equal(t, uint64(20), before.Published)
	require.Equal(t, uint64(20), before.Delivered)
	require.Positive(t, before.BytesIn)
	require.Positive(t, before.BytesOut)
	name := wire.TopicName{Topic: "orders"}
	require.Zero(t, p.call(wire.OpDeleteTopic, 0, name.Append).Flags)
	after := srv.Stats(time.Now())
	require.Zero(t, after.Topics)
	require.Zero(t, after.Stored)
	require.Equal(t, before.Published, after.Published)
	require.Equal(t, before.Delivered, after.Delivered)
}

func TestRatesAreOverTheLastSamples(t *testing.T) {
	var m metrics
	now := time.Now()
	f := func(published, delivered uint64, wantPublished, wantConsumed float64) {
		t.Helper()
		m.published.add(amount{messages: published})
		m.delivered.add(amount{messages: delivered})
		m.sample(now)
		now = now.Add(time.Second)
		gotPublished, gotConsumed := m.rates.read()
		require.InDelta(t, wantPublished, gotPublished, 1e-9)
		require.InDelta(t, wantConsumed, gotConsumed, 1e-9)
	}
	f(7, 7, 0, 0) // one sample has no rate
	f(1, 0, 1, 0)
	f(0, 0, 0.5, 0)
	f(0, 9, 1.0/3, 3)
	f(0, 0, 0.25, 9.0/4)
	f(4, 0, 1, 9.0/5)
	f(0, 0, 0.8, 9.0/5) // the first second is out of the window
	for range rateWindow {
		m.sample(now)
		now = now.Add(time.Second)
	}
	f(0, 0, 0, 0)
}

// TestTurnsAreCountedOnce feeds a loop and looks at what its turns added.
func TestTurnsAreCountedOnce(t *testing.T) {
	b, srv := newBench(t, Options{})
	m := &srv.metrics
	before, _, _ := m.response.read()
	turn := request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a", "b")))
	turn = append(turn, request1(wire.OpPublish, 0, 4, publishBody(0, 0, batchOf("c")))...)
	turn = append(turn, request1(wire.OpPing, 0, 5, nil)...)
	received := m.bytesIn.Load()
	b.feed(turn)
	count, _, _ := m.publish.read()
	require.Equal(t, uint64(2), count)
	count, _, _ = m.response.read()
	require.Equal(t, uint64(3), count-before)
	require.Equal(t, uint64(3), m.published.messages.Load())
	require.Equal(t, uint64(2), m.requests[wire.OpPublish].Load())
	require.Equal(t, uint64(len(turn)), m.bytesIn.Load()-received)
	b.feed(nil)
	require.Equal(t, uint64(3), m.published.messages.Load())
}

// TestWaitingPublishesAreCountedInRuns checks the latency of acknowledgements that waited for a level.
func TestWaitingPublishesAreCountedInRuns(t *testing.T) {
	b, srv := newBench(t, Options{})
	l := b.l
	l.clock = time.Unix(100, 0)
	f := func(ago time.Duration, n int) {
		for range n {
			l.acknowledged(ack{level: wire.LevelDisk, arrived: l.clock.Add(-ago).UnixNano()})
		}
	}
	f(3*time.Millisecond, 5)
	f(time.Second, 1)
	f(20*time.Microsecond, 2)
	l.acknowledged(ack{level: wire.LevelMemory})
	l.settleTurn(srv.opts.Now())
	count, sum, buckets := srv.metrics.publish.read()
	require.Equal(t, uint64(9), count)
	require.GreaterOrEqual(t, sum, 1.01504)
	require.Equal(t, uint64(1), buckets[1]-buckets[0.5])
	require.Equal(t, uint64(5), buckets[0.005]-buckets[0.0025])
	require.Zero(t, l.turn)
}

func TestHistogramBucketsAreUpperBounds(t *testing.T) {
	var h histogram
	h.observe(10*time.Microsecond, 1)
	h.observe(10*time.Microsecond+1, 2)
	h.observe(-1, 4)
	h.observe(time.Hour, 8)
	h.observe(time.Hour, 0)
	count, _, buckets := h.read()
	require.Equal(t, uint64(15), count)
	require.Len(t, buckets, len(latencyBounds))
	require.Equal(t, uint64(5), buckets[0.00001])
	require.Equal(t, uint64(7), buckets[0.000025])
	require.Equal(t, uint64(7), buckets[10])
}
