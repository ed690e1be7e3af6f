package server

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// natsClient connects the clients' own library.
func natsClient(t testing.TB, srv *Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append(options, nats.Timeout(waitLimit))
	nc, err := nats.Connect("nats://"+srv.Addr().String(), options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func natsMessage(t testing.TB, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(waitLimit)
	require.NoError(t, err)
	return m
}

func TestNATSPublishSubscribe(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	a, b := natsClient(t, srv), natsClient(t, srv)
	star, err := a.SubscribeSync("orders.*")
	require.NoError(t, err)
	rest, err := a.SubscribeSync("orders.>")
	require.NoError(t, err)
	require.NoError(t, a.Flush())
	require.NoError(t, b.Publish("orders.eu", []byte("one")))
	require.NoError(t, b.Publish("orders.eu.paid", []byte("two")))
	require.NoError(t, b.Publish("orders.eu", nil))
	require.NoError(t, b.Flush())
	require.Equal(t, "one", string(natsMessage(t, star).Data))
	require.Empty(t, natsMessage(t, star).Data)
	require.Equal(t, "one", string(natsMessage(t, rest).Data))
	m := natsMessage(t, rest)
	require.Equal(t, "two", string(m.Data))
	require.Equal(t, "orders.eu.paid", m.Subject)
}

func TestNATSLargePayloadAndHeaders(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	a, b := natsClient(t, srv), natsClient(t, srv)
	require.EqualValues(t, 1<<20, b.MaxPayload())
	sub, err := a.SubscribeSync("big")
	require.NoError(t, err)
	require.NoError(t, a.Flush())
	out := nats.NewMsg("big")
	out.Header.Add("Trace", "1")
	out.Header.Add("Trace", "2")
	out.Data = make([]byte, 1<<20-100)
	out.Data[500_000] = 7
	for range 20 {
		require.NoError(t, b.PublishMsg(out))
	}
	for range 20 {
		in := natsMessage(t, sub)
		require.Equal(t, out.Data, in.Data)
		require.Equal(t, out.Header, in.Header)
	}
}

func TestNATSQueueGroupSharesOut(t *testing.T) {
	srv := startServer(t, Options{Loops: 3})
	var counts [4]atomic.Int64
	var total atomic.Int64
	for i := range counts {
		nc := natsClient(t, srv)
		_, err := nc.QueueSubscribe("work", "crew", func(*nats.Msg) { counts[i].Add(1); total.Add(1) })
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
	}
	nc := natsClient(t, srv)
	const n = 1000
	for range n {
		require.NoError(t, nc.Publish("work", []byte("x")))
	}
	require.NoError(t, nc.Flush())
	require.Eventually(t, func() bool { return total.Load() == n }, waitLimit, time.Millisecond)
	for i := range counts {
		require.Greater(t, counts[i].Load(), int64(n/8), "member %d", i)
	}
}

func TestNATSRequestReply(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	service, client := natsClient(t, srv), natsClient(t, srv)
	_, err := service.Subscribe("double", func(m *nats.Msg) { _ = m.Respond(append(m.Data, m.Data...)) })
	require.NoError(t, err)
	require.NoError(t, service.Flush())
	for i := range 100 {
		m, err := client.Request("double", fmt.Appendf(nil, "%d.", i), waitLimit)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%d.%d.", i, i), string(m.Data))
	}
	_, err = client.Request("nobody", nil, waitLimit)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

func TestNATSAutoUnsubscribeAndDrain(t *testing.T) {
	srv := startServer(t, Options{})
	nc, pub := natsClient(t, srv), natsClient(t, srv)
	sub, err := nc.SubscribeSync("few")
	require.NoError(t, err)
	require.NoError(t, sub.AutoUnsubscribe(3))
	require.NoError(t, nc.Flush())
	for range 5 {
		require.NoError(t, pub.Publish("few", nil))
	}
	require.NoError(t, pub.Flush())
	for range 3 {
		natsMessage(t, sub)
	}
	_, err = sub.NextMsg(time.Second)
	require.ErrorIs(t, err, nats.ErrMaxMessages)

	closed := make(chan struct{})
	drained := natsClient(t, srv, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	var got atomic.Int64
	_, err = drained.Subscribe("drain", func(*nats.Msg) { got.Add(1) })
	require.NoError(t, err)
	require.NoError(t, drained.Flush())
	for range 500 {
		require.NoError(t, pub.Publish("drain", nil))
	}
	require.NoError(t, pub.Flush())
	require.NoError(t, drained.Drain())
	<-closed
	require.EqualValues(t, 500, got.Load())
	require.Eventually(t, func() bool { return srv.live.Len() == 0 }, waitLimit, time.Millisecond)
}

// A subject that is a topic's name is stored, and a request to it is answered when it is durable.
func TestNATSPublishToATopic(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir(), Loops: 2})
	_, err := srv.registry.Create("orders", 1, nil)
	require.NoError(t, err)
	nc := natsClient(t, srv)
	for i := range 3 {
		m, err := nc.Request("orders", []byte("x"), waitLimit)
		require.NoError(t, err)
		var ack struct {
			Topic             string
			Partition, Offset int
			Level             string
		}
		require.NoError(t, json.Unmarshal(m.Data, &ack))
		require.Equal(t, "orders", ack.Topic)
		require.Equal(t, i, ack.Offset)
		require.Equal(t, "disk", ack.Level)
	}
	require.EqualValues(t, 3, srv.registry.Topic("orders").Partition(0).Visible())
	require.Nil(t, srv.registry.Topic("_INBOX"))
}

// Flush is a barrier: what one client flushed, another client's later message does not overtake.
func TestNATSFlushOrdersAcrossLoops(t *testing.T) {
	srv := startServer(t, Options{Loops: 3})
	reader, first, second := natsClient(t, srv), natsClient(t, srv), natsClient(t, srv)
	sub, err := reader.SubscribeSync("order")
	require.NoError(t, err)
	require.NoError(t, reader.Flush())
	for i := range 300 {
		require.NoError(t, first.Publish("order", fmt.Appendf(nil, "a%d", i)))
		require.NoError(t, first.Flush())
		require.NoError(t, second.Publish("order", fmt.Appendf(nil, "b%d", i)))
		require.NoError(t, second.Flush())
	}
	for i := range 300 {
		require.Equal(t, fmt.Sprintf("a%d", i), string(natsMessage(t, sub).Data))
		require.Equal(t, fmt.Sprintf("b%d", i), string(natsMessage(t, sub).Data))
	}
}

func TestNATSNoEcho(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	mute, other := natsClient(t, srv, nats.NoEcho()), natsClient(t, srv)
	own, err := mute.SubscribeSync("echo")
	require.NoError(t, err)
	queued, err := mute.QueueSubscribeSync("echo", "q")
	require.NoError(t, err)
	theirs, err := other.QueueSubscribeSync("echo", "q")
	require.NoError(t, err)
	require.NoError(t, mute.Flush())
	require.NoError(t, other.Flush())
	for range 20 {
		require.NoError(t, mute.Publish("echo", nil))
	}
	require.NoError(t, mute.Flush())
	for range 20 {
		natsMessage(t, theirs)
	}
	require.NoError(t, other.Publish("echo", []byte("last")))
	require.Equal(t, "last", string(natsMessage(t, own).Data))
	for _, sub := range []*nats.Subscription{own, queued} {
		n, _, err := sub.Pending()
		require.NoError(t, err)
		require.LessOrEqual(t, n, 1)
	}
}

// A publisher that is faster than a subscriber is held back, on the same loop and on another one.
func TestNATSFastPublisherLosesNothing(t *testing.T) {
	for _, loops := range []int{1, 2} {
		srv := startServer(t, Options{Loops: loops, MaxPendingBytes: 8 << 20})
		reader, writer := natsClient(t, srv), natsClient(t, srv)
		var got atomic.Int64
		sub, err := reader.Subscribe("fast", func(*nats.Msg) { got.Add(1) })
		require.NoError(t, err)
		require.NoError(t, sub.SetPendingLimits(-1, -1))
		require.NoError(t, reader.Flush())
		const n = 50_000
		payload := make([]byte, 1024)
		for range n {
			require.NoError(t, writer.Publish("fast", payload))
		}
		require.NoError(t, writer.FlushTimeout(waitLimit))
		require.Eventually(t, func() bool { return got.Load() == n }, waitLimit, time.Millisecond)
		require.Zero(t, srv.metrics.slowConsumers.Load())
	}
}
