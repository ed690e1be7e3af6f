package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// answerSink is a sink that counts the replies by correlation id.
type answerSink struct {
	fullSink
	got map[uint32]int
}

func (s *answerSink) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		f, next, _, _, err := wire.NextFrame(rest, wire.MaxReplyBytes)
		if err != nil {
			return 0, err
		}
		if f.Flags&wire.FlagError == 0 {
			s.got[f.Correlation]++
		}
		rest = next
	}
	return len(b), nil
}

// A worker that ends gets an answer to all that it waits for, whatever that waits for itself.
func TestTheEndOfAWorkerEndsAllItsLeases(t *testing.T) {
	f := func(name string, prepare func(b *bench, own *binary, p *partition.Partition, out *answerSink) (proceed func())) {
		t.Helper()
		b, srv := newBench(t, Options{})
		out := &answerSink{got: map[uint32]int{}}
		b.s.t = out
		p := srv.registry.Topic("orders").Partition(0)
		_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{Lease: time.Hour}, b.now)
		require.NoError(t, err)
		_, _, _, err = p.Publish(batchPtr(t, "a", "b"), b.now.UnixMilli())
		require.NoError(t, err)
		own := b.s.proto.(*binary)
		proceed := prepare(b, own, p, out)
		require.Empty(t, out.got, name)
		lease := wire.Lease{Partition: wire.AnyPartition, Group: []byte("workers"), MaxBytes: 1}
		b.feed(request1(wire.OpLease, 0, 20, lease.Append))
		require.Equal(t, map[uint32]int{10: 1, 20: 1}, out.got, name)
		list, err := p.Pending(nil, "workers", 0, 10)
		require.NoError(t, err)
		for _, g := range list {
			require.NotEqual(t, wire.PhaseLeased, wire.Phase(g.Phase), name)
		}
		proceed()
		require.Eventually(t, func() bool {
			b.l.drain(b.now)
			b.l.tick(b.now)
			b.l.endTurn(b.now)
			return own.working == 0 && own.waits() == 0
		}, waitLimit, time.Millisecond, name)
		require.Equal(t, map[uint32]int{10: 1, 20: 1}, out.got, name)
		require.Empty(t, own.leasing, name)
	}
	lease := wire.Lease{Partition: wire.AnyPartition, Group: []byte("workers"), MaxMessages: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs}
	f("the peer to read", func(b *bench, _ *binary, _ *partition.Partition, out *answerSink) func() {
		out.unread = softPending
		b.feed(request1(wire.OpLease, 0, 10, lease.Append))
		return func() { out.unread = 0 }
	})
	f("a worker", func(b *bench, own *binary, p *partition.Partition, out *answerSink) func() {
		out.unread = softPending
		b.feed(request1(wire.OpLease, 0, 10, lease.Append))
		out.unread = 0
		release := occupy(t, b.l.srv)
		r := own.blocked[0].(*leaseRequest)
		own.blocked = nil
		leases, err := p.Lease(nil, "workers", 1, 0, b.s.id, b.now)
		require.NoError(t, err)
		require.Len(t, leases, 1)
		r.serveCold(p, leases)
		require.Equal(t, 1, own.working)
		return release
	})
}
