package client

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// Every answer of the broker arrives when the worker has nothing left to do, as it does over a long distance. Then more is
// leased ahead, until the worker gets slow.
func TestADistantQueueLeasesMoreAhead(t *testing.T) {
	const n = 8000
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 100, texts(n)...)
	var handled, leased, most atomic.Int64
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		var m wire.Lease
		if f.Op == wire.OpLease && m.Parse(f.Body) == nil && m.MaxMessages > 0 && leased.Load() < n/2 {
			for handled.Load() < leased.Load() {
				time.Sleep(10 * time.Microsecond)
			}
			leased.Add(int64(m.MaxMessages))
			most.Store(max(most.Load(), int64(m.MaxMessages)))
		}
		return false
	})
	c := dial(t, b, Options{})
	s := Queue("q", "t")
	s.Lease = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(within(t))
	slow := make(chan struct{})
	var mu sync.Mutex
	seen := map[uint64]bool{}
	ran := make(chan error)
	go func() {
		ran <- c.Run(ctx, s, func(_ context.Context, m *Message) error {
			if handled.Add(1) > n/2 {
				<-slow
			}
			mu.Lock()
			defer mu.Unlock()
			seen[m.Offset] = true
			if len(seen) == n/2+2*mostAhead {
				return ErrStop
			}
			return nil
		})
	}()
	eventually(t, func() bool { return handled.Load() > n/2 })
	require.Greater(t, most.Load(), int64(400), "so many in one request")
	require.LessOrEqual(t, most.Load(), int64(mostAhead))
	eventually(t, func() bool { return b.count(wire.OpNack) > 0 }) // what others can handle meanwhile goes back
	close(slow)
	require.NoError(t, <-ran)
	cancel()
}

func TestOnlyTheDefaultPrefetchGrows(t *testing.T) {
	f := func(s Source, want bool) {
		t.Helper()
		require.Equal(t, want, s.withDefaults().grows)
		require.Equal(t, want, s.withDefaults().withDefaults().grows)
	}
	f(Source{}, true)
	f(Source{Prefetch: 32}, false)
	f(Source{MaxDeliveries: 2}, false)
	f(Source{MaxDeliveries: 5}, true)
}
