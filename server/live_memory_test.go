package server

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Subscriptions with subjects of their own cost at most 250 bytes each.
func TestMemoryOfSubscriptions(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	f := func(n int, format string) {
		t.Helper()
		b := newTextBroker(t, Options{})
		p := b.program()
		before := liveHeap()
		var lines []byte
		for i := range n {
			lines = fmt.Appendf(lines, format, i, i)
			if len(lines) > 32<<10 || i == n-1 {
				p.s.receive(lines, b.now())
				lines = lines[:0]
			}
		}
		require.Empty(t, p.take())
		require.Equal(t, n, b.srv.live.Len())
		each := (liveHeap() - before) / int64(n)
		require.LessOrEqual(t, each, int64(250), format)
	}
	f(1_000_000, "SUB orders.eu.%d.paid %d\r\n")
	f(300_000, "SUB device%d %d\r\n")
	f(300_000, "SUB device.%d.> workers %d\r\n")
}

// Patterns that need many nodes are counted as what they take.
func TestMemoryOfSubscriptionsWithManyWildcards(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	b := newTextBroker(t, Options{})
	p := b.program()
	before := liveHeap()
	for i := range 100 {
		p.feed(fmt.Sprintf("SUB %d%s %d\r\n", i, strings.Repeat(".*.a", 1000), i))
	}
	require.Empty(t, p.take())
	require.Less(t, liveHeap()-before, 2*b.srv.subBytes.Load())
	for i := range 100 {
		p.feed(fmt.Sprintf("UNSUB %d\r\n", i))
	}
	require.Zero(t, b.srv.subBytes.Load())
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
