package partition

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// Without it a client could make the broker remember a million messages for each of a million queues.
func TestTheMessagesInFlightOfAllQueuesAreBounded(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{MaxInFlight: 50})
	a, b := n.create("a", 1), n.create("b", 1)
	now := time.Now()
	parts := []*Partition{a.Partition(0), b.Partition(0)}
	for _, p := range parts {
		for i := range 100 {
			publish(t, p, strconv.Itoa(i))
		}
		_, err := p.OpenQueue("q", 0, QueuePolicy{}, now)
		require.NoError(t, err)
		require.NoError(t, flushError(p.log.Sync()))
	}
	lease := func(p *Partition) int {
		t.Helper()
		leases, err := p.Lease(nil, "q", 1000, time.Hour, 1, now)
		require.NoError(t, err)
		return leased(leases)
	}
	require.Equal(t, 50, lease(parts[0]))
	require.Zero(t, lease(parts[0]))
	require.Equal(t, fairShare, lease(parts[1]), "the other queue goes on")
	require.Zero(t, lease(parts[1]))
	require.EqualValues(t, 50+fairShare, n.inFlight.Load())

	settle := func(p *Partition, op wire.Op, first uint64, count uint32, want int) {
		t.Helper()
		s := Settlement{Op: op, Ranges: []group.Settle{{First: first, Count: count, Attempt: 1}}}
		_, lost, err := p.Settle("q", s, now)
		require.NoError(t, err)
		require.Equal(t, want, lost)
	}
	settle(parts[1], wire.OpDiscard, 60, 1, 1)
	require.EqualValues(t, 50+fairShare, n.inFlight.Load(), "nor are those in front of a discarded one tracked")

	var fired atomic.Bool
	w := NewWatcher(func() { fired.Store(true) })
	parts[1].Watch(w)
	w.Arm()
	settle(parts[0], wire.OpAck, 10, 20, 0)
	require.EqualValues(t, 30+fairShare, n.inFlight.Load())
	eventually(t, fired.Load)
	require.Equal(t, 50-30-fairShare, lease(parts[1]))
	_, _, err := parts[1].DropGroup("q", now)
	require.NoError(t, err)
	require.EqualValues(t, 30, n.inFlight.Load())
	n.reopen()
	require.EqualValues(t, 10, n.inFlight.Load(), "leases above what was settled are forgotten")
	require.NoError(t, n.Delete("a"))
	require.Zero(t, n.inFlight.Load())
}
