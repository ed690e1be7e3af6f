package partition

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// alarm watches a partition.
type alarm struct {
	w     *Watcher
	fired atomic.Bool
}

func newAlarm(p *Partition) *alarm {
	a := &alarm{}
	a.w = NewWatcher(func() { a.fired.Store(true) })
	p.Watch(a.w)
	return a
}

// set makes the next change ring.
func (a *alarm) set() {
	a.fired.Store(false)
	a.w.Arm()
}

// fullQueue returns a partition with a queue that has as many messages in flight as it may, and more to give.
func fullQueue(t *testing.T, n *node) *Partition {
	t.Helper()
	p := n.create("jobs", 1).Partition(0)
	batch := batchOf(t, make([]string, group.MaxInFlight/1000)...)
	for range 1100 {
		_, _, _, err := p.Publish(batch, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	_, err := p.OpenQueue("q", 0, QueuePolicy{}, time.Now())
	require.NoError(t, err)
	require.Equal(t, group.MaxInFlight, leaseAll(t, p))
	require.Zero(t, leaseAll(t, p))
	return p
}

// leaseAll leases what the queue gives, and returns how much that is.
func leaseAll(t *testing.T, p *Partition) int {
	t.Helper()
	got, err := p.Lease(nil, "q", group.MaxInFlight, 2*time.Hour, 1, time.Now())
	require.NoError(t, err)
	return leased(got)
}

// settleFirst settles messages that were leased for the first time.
func settleFirst(t *testing.T, p *Partition, op wire.Op, first uint64, count uint32) {
	t.Helper()
	s := Settlement{Op: op, Ranges: []group.Settle{{First: first, Count: count, Attempt: 1}}}
	_, lost, err := p.Settle("q", s, time.Now())
	require.NoError(t, err)
	require.Zero(t, lost)
}

// A worker that waits for messages of a full queue gets some as soon as others are done, however they get done.
func TestWorkersOfAFullQueueWakeUp(t *testing.T) {
	n := openNode(t, "", Options{})
	p := fullQueue(t, n)
	a := newAlarm(p)
	a.set()
	settleFirst(t, p, wire.OpAck, 5, 10)
	require.True(t, a.fired.Load())
	require.Equal(t, 10, leaseAll(t, p))

	a.set()
	require.NoError(t, n.Purge("jobs", 0, 1000))
	require.True(t, a.fired.Load())
	require.Equal(t, 990, leaseAll(t, p))

	eventually(t, func() bool { return n.timer.napping.Load() }) // it has seen the purge
	a.set()
	settleFirst(t, p, wire.OpReject, 2000, group.MaxDead)
	eventually(t, func() bool { // some dead letters are stored
		if !a.fired.Load() {
			return false
		}
		a.set()
		return leaseAll(t, p) > 0
	})
}

// A queue that has its share of the messages in flight of all queues goes on when some of its own are done.
func TestWorkersOfAQueueWithItsShareWakeUp(t *testing.T) {
	n := openNode(t, "", Options{MaxInFlight: 1})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, make([]string, 2*fairShare)...)
	_, err := p.OpenQueue("q", 0, QueuePolicy{}, time.Now())
	require.NoError(t, err)
	require.Equal(t, fairShare, leaseAll(t, p))
	require.Zero(t, leaseAll(t, p))
	a := newAlarm(p)
	a.set()
	settleFirst(t, p, wire.OpAck, 3, 2)
	require.True(t, a.fired.Load())
	require.Equal(t, 2, leaseAll(t, p))
}

// Room for all queues wakes the timer, which looks for those that have too few messages.
func TestRoomForAllQueuesWakesTheTimer(t *testing.T) {
	n := openNode(t, "", Options{MaxInFlight: 2 * fairShare})
	a, b := n.create("a", 1).Partition(0), n.create("b", 1).Partition(0)
	for _, p := range []*Partition{a, b} {
		publish(t, p, make([]string, 4*fairShare)...)
		_, err := p.OpenQueue("q", 0, QueuePolicy{}, time.Now())
		require.NoError(t, err)
	}
	n.Registry.Close()
	n.timer.rest = time.Hour
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { n.timer.run(stop) })
	defer func() {
		close(stop)
		wg.Wait()
		require.NoError(t, n.store.Close())
		n.Registry = nil
	}()
	require.Equal(t, 2*fairShare, leaseAll(t, a))
	require.Equal(t, fairShare, leaseAll(t, b))
	require.Zero(t, leaseAll(t, b))
	eventually(t, n.timer.napping.Load)
	rings := newAlarm(b)
	rings.set()
	settleFirst(t, a, wire.OpAck, 0, fairShare+1)
	eventually(t, rings.fired.Load)
	require.Equal(t, 1, leaseAll(t, b))
}
