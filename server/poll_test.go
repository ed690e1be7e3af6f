package server

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// A request that waits for records keeps nothing once it is answered, and nothing beyond its connection.
func TestWhatWaitedForRecordsLeavesNothingBehind(t *testing.T) {
	f := func(op wire.Op, body func([]byte) []byte) {
		t.Helper()
		b, srv := newBench(t, Options{})
		p := srv.registry.Topic("orders").Partition(0)
		_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
		require.NoError(t, err)
		waits := func() (timers, polls, own int) {
			w := b.l.watches[p]
			if w != nil {
				polls = w.polls.len()
			}
			return len(b.l.timers.h), polls, len(b.s.proto.(*binary).polls)
		}
		equal := func(n int) {
			t.Helper()
			timers, polls, own := waits()
			require.Equal(t, []int{n, n, n}, []int{timers, polls, own})
		}
		for id := range uint32(3) {
			b.feed(request1(op, 0, 10+id, body))
		}
		equal(3)
		publish := func() {
			_, _, _, err := p.Publish(batchPtr(t, "a"), b.now.UnixMilli())
			require.NoError(t, err)
			b.l.drain(b.now)
		}
		publish() // answers one lease, or all fetches
		if op == wire.OpLease {
			equal(2)
		}
		publish()
		publish()
		equal(0)
		for id := range uint32(3) {
			b.feed(request1(wire.OpFetch, 0, 20+id, (&wire.Fetch{
				From: wire.Position{Kind: wire.PositionEnd}, MinBytes: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs,
			}).Append))
		}
		equal(3)
		b.l.sessionEnded(b.s, b.now)
		equal(0)
		require.True(t, b.l.watches[p].idle())
		require.Zero(t, srv.metrics.panics.Load())
	}
	f(wire.OpFetch, (&wire.Fetch{MinBytes: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs}).Append)
	f(wire.OpLease, (&wire.Lease{
		Partition: wire.AnyPartition, Group: []byte("workers"), MaxMessages: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs,
	}).Append)
}

type waiter struct {
	n    int
	gone bool
}

func (w *waiter) over() bool { return w.gone }

func TestWaitersEndInAnyOrder(t *testing.T) {
	var all waiters[*waiter]
	var list []*waiter
	for n := range 100 {
		list = append(list, &waiter{n: n})
		all.add(list[n])
	}
	end := func(w *waiter) {
		w.gone = true
		all.left()
	}
	there := func() (ns []int) {
		all.each(func(w *waiter) { ns = append(ns, w.n) })
		return ns
	}
	var seen []int
	all.each(func(w *waiter) { // each one ends itself and a later one, and another one comes
		seen = append(seen, w.n)
		end(w)
		if other := list[min(99, 2*w.n+1)]; !other.gone {
			end(other)
		}
		if w.n%10 == 0 {
			all.add(&waiter{n: 1000 + w.n})
		}
	})
	require.True(t, slices.IsSorted(seen))
	require.NotContains(t, seen, 1, "it ended before its turn")
	require.Equal(t, len(there()), all.len())
	require.Subset(t, there(), []int{1000, 1010})
	for _, w := range slices.Clone(all.list) {
		if !w.gone {
			end(w)
		}
	}
	require.Zero(t, all.len())
	require.Empty(t, there())
	require.Nil(t, all.list)
}

// Requests that each wait on many partitions take memory for each of them.
func TestPartitionsToWaitOnAreBounded(t *testing.T) {
	b, srv := newBench(t, Options{})
	wide, err := srv.registry.Create("wide", wire.MaxPartitions, nil)
	require.NoError(t, err)
	for _, p := range wide.Partitions() {
		_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
		require.NoError(t, err)
	}
	b.feed(request1(wire.OpResolve, 0, 5, (&wire.Resolve{Topic: "wide"}).Append))
	lease := wire.Lease{Handle: 1, Partition: wire.AnyPartition, Group: []byte("workers"), MaxMessages: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs}
	for id := range uint32(maxPolled/wire.MaxPartitions + 1) {
		require.Zero(t, srv.metrics.failures[wire.CodeLimit].Load())
		b.feed(request1(wire.OpLease, 0, 10+id, lease.Append))
	}
	require.EqualValues(t, 1, srv.metrics.failures[wire.CodeLimit].Load())
	require.Equal(t, maxPolled, b.s.proto.(*binary).polled)
	lease.MaxMessages = 0 // ends the others
	b.feed(request1(wire.OpLease, 0, 9, lease.Append))
	require.Zero(t, b.s.proto.(*binary).polled)
}
