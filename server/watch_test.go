package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// gone is a transport whose peer turns out to be gone when something is pushed to it.
type gone struct {
	sink
	s *session
}

func (g *gone) Writev(bs [][]byte) (int, error) {
	g.s.loop.sessionEnded(g.s, time.Now())
	return 0, nil
}

// Writing to a subscriber may show that it is gone. The others must get what was pushed.
func TestASubscriberThatIsGoneHoldsUpNoOther(t *testing.T) {
	o := Options{Listen: off}
	srv := startServer(t, o)
	l := newLoop(srv)
	l.ring = func() {}
	_, err := srv.registry.Create("orders", 1, nil)
	require.NoError(t, err)
	now := time.Now()
	var peers []*bench
	var sinks []*sink
	for i := range uint64(6) {
		s := newSession(l, i+1)
		srv.connections.Add(1)
		var to transport
		if i%2 == 1 {
			to = &gone{s: s}
		} else {
			sinks = append(sinks, &sink{})
			to = sinks[len(sinks)-1]
		}
		b := &bench{l: l, s: s, now: now}
		s.open(to, now)
		b.feed(wire.AppendPreface(nil))
		hello, resolve := wire.Hello{}, wire.Resolve{Topic: "orders"}
		b.feed(request1(wire.OpHello, 0, 1, hello.Append))
		b.feed(request1(wire.OpResolve, 0, 2, resolve.Append))
		m := wire.Subscribe{Credit: 1 << 20}
		b.feed(request1(wire.OpSubscribe, 0, 3, m.Append))
		peers = append(peers, b)
	}
	var before []int
	for _, s := range sinks {
		before = append(before, s.bytes)
	}
	value := string(make([]byte, 1000))
	_, _, _, err = srv.registry.Topic("orders").Partition(0).Publish(batchPtr(t, value), now.UnixMilli())
	require.NoError(t, err)
	l.drain(now)
	for i, s := range sinks {
		require.Greater(t, s.bytes, before[i]+1000, "subscriber %d", i)
	}
	for i, b := range peers {
		require.Equal(t, i%2 == 1, b.s.gone)
	}
	require.Equal(t, 3, l.watches[srv.registry.Topic("orders").Partition(0)].subs.len())
	require.Zero(t, srv.metrics.panics.Load())
}

func batchPtr(t *testing.T, values ...string) *wire.Batch {
	t.Helper()
	b, err := wire.ParseBatch(batchOf(values...))
	require.NoError(t, err)
	return &b
}
