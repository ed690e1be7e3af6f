package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// keyed publishes a batch with a record for each key, "" for none.
func keyed(t *testing.T, p *Partition, c wire.Codec, keys ...string) {
	t.Helper()
	var b wire.BatchBuilder
	for _, k := range keys {
		r := wire.Record{Value: []byte("v")}
		if k != "" {
			r.Key = []byte(k)
		}
		b.Add(r)
	}
	raw := b.Bytes()
	if c != wire.CodecNone {
		raw = b.AppendCompressed(nil, c, codec.Compress(nil, c, b.Records()))
	}
	batch, err := wire.ParseBatch(raw)
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
	require.NoError(t, err)
}

func orderedQueue(t *testing.T, n *node) *Partition {
	t.Helper()
	p := n.create("jobs", 1, "durability", "memory").Partition(0)
	_, err := p.OpenQueue("workers", 0, QueuePolicy{OrderByKey: true}, time.Now())
	require.NoError(t, err)
	return p
}

func TestAQueueWithOrderByKeyReadsTheKeys(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := orderedQueue(t, n)
	keyed(t, p, wire.CodecNone, "a", "b", "a", "")
	require.Equal(t, []group.Lease{{First: 0, Count: 2, Attempt: 1}, {First: 3, Count: 1, Attempt: 1}}, lease(t, p, 10))
	moved := make(chan struct{}, 1)
	w := NewWatcher(func() { moved <- struct{}{} })
	p.Watch(w)
	w.Arm()
	settle(t, p, Settlement{Op: wire.OpAck, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	<-moved // whoever waits for messages looks again
	require.Equal(t, []group.Lease{{First: 2, Count: 1, Attempt: 1}}, lease(t, p, 10))
}

func TestKeysOfCompressedBatchesAreLearnedApart(t *testing.T) {
	n := openNode(t, "", Options{})
	p := orderedQueue(t, n)
	keyed(t, p, wire.CodecNone, "a")
	keyed(t, p, wire.CodecS2, "a", "b")
	require.Equal(t, []group.Lease{{First: 0, Count: 1, Attempt: 1}}, lease(t, p, 10))
	_, err := p.Lease(nil, "workers", 10, 0, 1, time.Now())
	require.ErrorIs(t, err, ErrKeys)
	require.NoError(t, p.LearnKeys("workers"))
	require.NoError(t, p.LearnKeys("workers"), "none are wanted")
	require.NoError(t, p.LearnKeys("another"))
	require.Equal(t, []group.Lease{{First: 2, Count: 1, Attempt: 1}}, lease(t, p, 10))
	require.Empty(t, lease(t, p, 10))
}

// Whoever publishes cannot make a worker open gigabytes at once.
func TestKeysAreLearnedInSteps(t *testing.T) {
	n := openNode(t, "", Options{})
	p := orderedQueue(t, n)
	var b wire.BatchBuilder
	for range 3 {
		b.Add(wire.Record{Value: make([]byte, keysOpened/6)})
	}
	packed := codec.Compress(nil, wire.CodecZstd, b.Records())
	for range 5 {
		_, _, _, err := p.Publish(packedBatchOf(t, &b, wire.CodecZstd, packed), 1)
		require.NoError(t, err)
	}
	keys, err := p.readKeys(nil, 0, p.ReadCold, true)
	require.NoError(t, err)
	require.Len(t, keys, 6, "of two batches")
}

func TestTheOrderOfKeysHoldsOverAReopen(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := orderedQueue(t, n)
	keyed(t, p, wire.CodecNone, "a", "b", "a", "b")
	require.Len(t, lease(t, p, 10), 1)
	settle(t, p, Settlement{Op: wire.OpNack, Delay: time.Hour, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}})
	settle(t, p, Settlement{Op: wire.OpAck, Ranges: []group.Settle{{First: 1, Count: 1, Attempt: 1}}})
	n.reopen()
	p = n.Topic("jobs").Partition(0)
	for {
		leases, err := p.Lease(nil, "workers", 10, 0, 1, time.Now())
		if err == nil {
			require.Equal(t, []group.Lease{{First: 3, Count: 1, Attempt: 1}}, leases)
			break
		}
		require.ErrorIs(t, err, ErrKeys)
		require.NoError(t, p.LearnKeys("workers"))
	}
	info := p.Groups(time.Now())[0]
	require.Equal(t, 1, info.Parked)
	require.True(t, info.OrderByKey)
	require.Equal(t, "jobs.workers.dlq", info.DeadLetter)
}

func TestManyMessagesOfAStuckKeyDoNotHoldUpTheLoop(t *testing.T) {
	n := openNode(t, "", Options{})
	p := orderedQueue(t, n)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = "stuck"
	}
	for range 6 * maxLook / 1000 {
		keyed(t, p, wire.CodecNone, keys...)
	}
	keyed(t, p, wire.CodecNone, "free")
	require.Equal(t, []group.Lease{{First: 0, Count: 1, Attempt: 1}}, lease(t, p, 1))
	turns := 0
	for {
		leases, err := p.Lease(nil, "workers", 10, 0, 1, time.Now())
		if err == nil {
			require.Len(t, leases, 1)
			break
		}
		require.ErrorIs(t, err, ErrKeys)
		require.NoError(t, p.LearnKeys("workers"))
		turns++
	}
	require.Positive(t, turns)
	require.Less(t, turns, 10)
}

func TestDiscardedMessagesAreDone(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1, "durability", "memory").Partition(0)
	_, err := p.OpenQueue("workers", 0, QueuePolicy{}, time.Now())
	require.NoError(t, err)
	keyed(t, p, wire.CodecNone, "a", "b", "c")
	_, lost, err := p.Settle("workers", Settlement{Op: wire.OpDiscard, Ranges: []group.Settle{{First: 1, Count: 5}}}, time.Now())
	require.NoError(t, err)
	require.Equal(t, 3, lost)
	n.reopen()
	p = n.Topic("jobs").Partition(0)
	list, err := p.Pending(nil, "workers", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []group.Pending{{First: 0, Count: 1, Phase: group.PhaseWaiting, Due: time.UnixMilli(0)}}, list)
	_, err = p.Pending(nil, "none", 0, 10)
	code(t, wire.CodeGroupNotFound, err)
}
