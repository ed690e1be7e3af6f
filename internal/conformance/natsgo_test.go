package conformance

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// broker starts one with a socket.
func broker(t *testing.T, o server.Options) *servertest.Broker {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	return servertest.Start(t, servertest.Options{Server: o})
}

func connect(t *testing.T, b *servertest.Broker, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://"+b.Addr, append([]nats.Option{nats.Timeout(patience)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func subscribe(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return sub
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(patience)
	require.NoError(t, err)
	return m
}

// nothing checks that no message is on its way to a subscription.
func nothing(t *testing.T, nc *nats.Conn, sub *nats.Subscription) {
	t.Helper()
	require.NoError(t, nc.Flush())
	n, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestWhatTheServerSaysOfItself(t *testing.T) {
	b := broker(t, server.Options{Name: "n1", Advertise: "127.0.0.1:4999"})
	nc := connect(t, b, nats.Name("me"))
	require.Equal(t, "n1", nc.ConnectedServerName())
	require.NotEmpty(t, nc.ConnectedServerId())
	require.Regexp(t, `^2\.10\.`, nc.ConnectedServerVersion())
	require.True(t, nc.HeadersSupported())
	require.False(t, nc.AuthRequired())
	require.False(t, nc.TLSRequired())
	require.EqualValues(t, 1<<20, nc.MaxPayload())
	id, err := nc.GetClientID()
	require.NoError(t, err)
	require.NotZero(t, id)
	ip, err := nc.GetClientIP()
	require.NoError(t, err)
	require.True(t, ip.Equal(net.IPv4(127, 0, 0, 1)))
	rtt, err := nc.RTT()
	require.NoError(t, err)
	require.Positive(t, rtt)
	require.Contains(t, nc.DiscoveredServers(), "nats://127.0.0.1:4999")
}

func TestWildcards(t *testing.T) {
	b := broker(t, server.Options{})
	nc := connect(t, b)
	one, rest, literal := subscribe(t, nc, "a.*.c"), subscribe(t, nc, "a.>"), subscribe(t, nc, "a.b.c")
	for _, s := range []string{"a.b.c", "a.x.c", "a.b", "a", "b.b.c", "a.b.c.d"} {
		require.NoError(t, nc.Publish(s, nil))
	}
	f := func(sub *nats.Subscription, want ...string) {
		t.Helper()
		for _, s := range want {
			require.Equal(t, s, next(t, sub).Subject)
		}
		nothing(t, nc, sub)
	}
	f(one, "a.b.c", "a.x.c")
	f(rest, "a.b.c", "a.x.c", "a.b", "a.b.c.d")
	f(literal, "a.b.c")
}

func TestHeadersRepeatAndKeepTheirCase(t *testing.T) {
	b := broker(t, server.Options{})
	nc := connect(t, b)
	sub := subscribe(t, nc, "h")
	m := &nats.Msg{Subject: "h", Reply: "r", Data: []byte("x"), Header: nats.Header{"Key": {"1", "2"}, "lower": {"v: w"}}}
	require.NoError(t, nc.PublishMsg(m))
	got := next(t, sub)
	require.Equal(t, m.Header, got.Header)
	require.Equal(t, "r", got.Reply)
	require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "h", Header: nats.Header{"Only": {""}}}))
	got = next(t, sub)
	require.Empty(t, got.Data)
	require.Equal(t, nats.Header{"Only": {""}}, got.Header)
}

func TestRequestsOfEachStyle(t *testing.T) {
	b := broker(t, server.Options{})
	helper := connect(t, b)
	_, err := helper.QueueSubscribe("help", "crew", func(m *nats.Msg) { _ = m.Respond(append(m.Data, '!')) })
	require.NoError(t, err)
	require.NoError(t, helper.Flush())
	for name, opts := range map[string][]nats.Option{
		"one inbox": nil, "an inbox each": {nats.UseOldRequestStyle()}, "own prefix": {nats.CustomInboxPrefix("MINE")},
	} {
		t.Run(name, func(t *testing.T) {
			nc := connect(t, b, opts...)
			for i := range 50 {
				m, err := nc.Request("help", fmt.Append(nil, i), patience)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(i, "!"), string(m.Data))
			}
			_, err := nc.Request("nobody", nil, patience)
			require.ErrorIs(t, err, nats.ErrNoResponders)
		})
	}
}

// Several services answer one request.
func TestRequestMany(t *testing.T) {
	b := broker(t, server.Options{})
	nc := connect(t, b)
	for i := range 3 {
		helper := connect(t, b)
		_, err := helper.Subscribe("all", func(m *nats.Msg) { _ = m.Respond(fmt.Append(nil, i)) })
		require.NoError(t, err)
		require.NoError(t, helper.Flush())
	}
	inbox := nc.NewInbox()
	sub := subscribe(t, nc, inbox)
	require.NoError(t, nc.PublishRequest("all", inbox, nil))
	var got []string
	for range 3 {
		got = append(got, string(next(t, sub).Data))
	}
	slices.Sort(got)
	require.Equal(t, []string{"0", "1", "2"}, got)
}

// Flush is a barrier: what was published before it has reached everybody's connection.
func TestFlushIsABarrier(t *testing.T) {
	b := broker(t, server.Options{Loops: 2})
	from := connect(t, b)
	for round := range 20 {
		to := connect(t, b)
		sub := subscribe(t, to, "barrier")
		for range 100 {
			require.NoError(t, from.Publish("barrier", nil))
		}
		require.NoError(t, from.Flush())
		require.NoError(t, to.Flush())
		n, _, err := sub.Pending()
		require.NoError(t, err)
		require.Equal(t, 100, n, "round %d", round)
		to.Close()
	}
}

func TestUnsubscribeAfterSome(t *testing.T) {
	b := broker(t, server.Options{})
	nc := connect(t, b)
	sub := subscribe(t, nc, "u")
	require.NoError(t, sub.AutoUnsubscribe(3))
	for range 10 {
		require.NoError(t, nc.Publish("u", nil))
	}
	for range 3 {
		next(t, sub)
	}
	_, err := sub.NextMsg(patience)
	require.ErrorIs(t, err, nats.ErrMaxMessages)
}

func TestDrainHandlesWhatIsThere(t *testing.T) {
	b := broker(t, server.Options{})
	from := connect(t, b)
	closed := make(chan struct{})
	nc := connect(t, b, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	var got atomic.Int64
	_, err := nc.Subscribe("d", func(*nats.Msg) { time.Sleep(100 * time.Microsecond); got.Add(1) })
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	for range 500 {
		require.NoError(t, from.Publish("d", nil))
	}
	require.NoError(t, from.Flush())
	require.NoError(t, nc.Drain())
	select {
	case <-closed:
	case <-time.After(patience):
		require.FailNow(t, "the drain does not end")
	}
	require.EqualValues(t, 500, got.Load())
}

// A client finds a restarted broker, and its subscriptions are there again.
func TestReconnectToTheSamePort(t *testing.T) {
	b := broker(t, server.Options{})
	back := make(chan struct{}, 10)
	nc := connect(t, b, nats.ReconnectWait(5*time.Millisecond), nats.MaxReconnects(-1), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	sub := subscribe(t, nc, "again.*")
	queue, err := nc.QueueSubscribeSync("queued", "q")
	require.NoError(t, err)
	for round := range 3 {
		b.Restart()
		select {
		case <-back:
		case <-time.After(patience):
			require.FailNow(t, "no reconnect")
		}
		require.NoError(t, nc.Publish("again.x", fmt.Append(nil, round)))
		require.Equal(t, fmt.Sprint(round), string(next(t, sub).Data))
		require.NoError(t, nc.Publish("queued", nil))
		next(t, queue)
	}
	require.NoError(t, nc.ForceReconnect())
	<-back
	require.NoError(t, nc.Publish("again.x", nil))
	next(t, sub)
}

// Clients that find the broker again subscribe to all that they had in one go, several at the same time. A subscription
// that ends after some messages counts those from before.
func TestReconnectWithManySubscriptions(t *testing.T) {
	const clients, subjects = 2, 10_000
	b := broker(t, server.Options{})
	back := make(chan struct{}, clients)
	var got atomic.Int64
	var ncs []*nats.Conn
	for range clients {
		nc := connect(t, b, nats.ReconnectWait(5*time.Millisecond), nats.MaxReconnects(-1),
			nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
		for i := range subjects {
			pattern := fmt.Sprintf("many.%d.*", i)
			_, err := nc.QueueSubscribe(pattern, []string{"", "q"}[i%2], func(*nats.Msg) { got.Add(1) })
			require.NoError(t, err)
		}
		require.NoError(t, nc.Flush())
		ncs = append(ncs, nc)
	}
	limited := subscribe(t, ncs[0], "limited")
	require.NoError(t, limited.AutoUnsubscribe(3))
	require.NoError(t, ncs[1].Publish("limited", nil))
	require.NoError(t, ncs[1].Flush())
	next(t, limited)

	b.Restart()
	for range clients {
		select {
		case <-back:
		case <-time.After(patience):
			require.FailNow(t, "no reconnect")
		}
	}
	for _, nc := range ncs {
		require.NoError(t, nc.Flush())
	}
	for i := range subjects {
		require.NoError(t, ncs[0].Publish(fmt.Sprintf("many.%d.x", i), nil))
	}
	const want = subjects/2*clients + subjects/2 // a queue group has one of its members get it
	require.Eventually(t, func() bool { return got.Load() == want }, patience, time.Millisecond)
	for range 5 {
		require.NoError(t, ncs[1].Publish("limited", nil))
	}
	next(t, limited)
	next(t, limited)
	_, err := limited.NextMsg(patience)
	require.ErrorIs(t, err, nats.ErrMaxMessages)
}

func TestLimitsAreSaidAndKept(t *testing.T) {
	b := broker(t, server.Options{MaxSubscriptions: 2, MaxConnections: 2})
	errs := make(chan error, 10)
	nc := connect(t, b, nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	require.ErrorIs(t, nc.Publish("big", make([]byte, nc.MaxPayload()+1)), nats.ErrMaxPayload)
	for range 3 {
		_, err := nc.SubscribeSync("s")
		require.NoError(t, err)
	}
	require.NoError(t, nc.Flush())
	require.ErrorIs(t, <-errs, nats.ErrMaxSubscriptionsExceeded)
	require.True(t, nc.IsConnected())
	connect(t, b)
	_, err := nats.Connect("nats://" + b.Addr)
	require.ErrorContains(t, err, "maximum connections exceeded")
}

// The broker asks a silent client, and gives up one that does not answer.
func TestStaleConnections(t *testing.T) {
	b := broker(t, server.Options{PingInterval: 500 * time.Millisecond, PingMax: 1})
	nc := connect(t, b)
	conn, err := net.Dial("tcp", b.Addr)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("CONNECT {\"verbose\":false}\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	var said strings.Builder
	buf := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = conn.Read(buf)
		said.Write(buf[:n])
	}
	require.Contains(t, said.String(), "PING\r\n")
	require.Contains(t, said.String(), "-ERR 'Stale Connection'")
	require.True(t, nc.IsConnected(), "who answers stays")
}

func TestManySubjectsAndChurn(t *testing.T) {
	b := broker(t, server.Options{Loops: 2})
	from, to := connect(t, b), connect(t, b)
	var got atomic.Int64
	var wg sync.WaitGroup
	const n = 5000
	_, err := to.Subscribe("all.>", func(*nats.Msg) { got.Add(1) })
	require.NoError(t, err)
	require.NoError(t, to.Flush())
	wg.Go(func() {
		for i := range n {
			sub, err := to.SubscribeSync(fmt.Sprintf("churn.%d", i))
			if err == nil {
				err = sub.Unsubscribe()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i := range n {
		require.NoError(t, from.Publish(fmt.Sprintf("all.%d.x", i), nil))
	}
	wg.Wait()
	require.NoError(t, from.Flush())
	require.NoError(t, to.Flush())
	require.Eventually(t, func() bool { return got.Load() == n }, patience, time.Millisecond)
}

func TestLameDuckSendsClientsAway(t *testing.T) {
	b := broker(t, server.Options{})
	lame := make(chan struct{})
	nc := connect(t, b, nats.LameDuckModeHandler(func(*nats.Conn) { close(lame) }), nats.NoReconnect())
	require.NoError(t, nc.Flush())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Server.LameDuck(t.Context(), 50*time.Millisecond, 50*time.Millisecond)
	}()
	<-lame
	require.NoError(t, nc.Flush(), "served until the end")
	<-done
	require.Eventually(t, nc.IsClosed, patience, time.Millisecond)
	_, err := nats.Connect("nats://" + b.Addr)
	require.Error(t, err)
}

// A slow client of its own making is told so and stays connected.
func TestSlowClientOfItsOwnMaking(t *testing.T) {
	b := broker(t, server.Options{})
	errs := make(chan error, 10)
	nc := connect(t, b, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case errs <- err:
		default:
		}
	}))
	sub := subscribe(t, nc, "s")
	require.NoError(t, sub.SetPendingLimits(10, -1))
	for range 100 {
		require.NoError(t, nc.Publish("s", nil))
	}
	require.NoError(t, nc.Flush())
	require.ErrorIs(t, <-errs, nats.ErrSlowConsumer)
	require.True(t, nc.IsConnected())
}

// JetStream is not there, and says so at once.
func TestJetStreamIsAbsent(t *testing.T) {
	b := broker(t, server.Options{})
	nc := connect(t, b)
	js, err := nc.JetStream()
	require.NoError(t, err)
	_, err = js.AccountInfo()
	require.True(t, errors.Is(err, nats.ErrJetStreamNotEnabled) || errors.Is(err, nats.ErrNoResponders), "%v", err)
}
