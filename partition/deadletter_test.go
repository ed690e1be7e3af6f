package partition

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// packedBatch returns a batch of as many records whose compressed bytes are packed.
func packedBatch(t *testing.T, c wire.Codec, records int, packed []byte) *wire.Batch {
	t.Helper()
	var b wire.BatchBuilder
	for range records {
		b.Add(wire.Record{Value: []byte("v")})
	}
	return packedBatchOf(t, &b, c, packed)
}

// packedBatchOf returns the builder's batch with packed in place of its records.
func packedBatchOf(t *testing.T, b *wire.BatchBuilder, c wire.Codec, packed []byte) *wire.Batch {
	t.Helper()
	batch, err := wire.ParseBatch(b.AppendCompressed(nil, c, packed))
	require.NoError(t, err)
	return &batch
}

// rejected publishes batches, and has a queue of the dead-letter topic "dead" give up all of their records.
func rejected(t *testing.T, p *Partition, batches ...*wire.Batch) {
	t.Helper()
	for _, b := range batches {
		_, _, _, err := p.Publish(b, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	require.NoError(t, p.log.Sync())
	_, err := p.OpenQueue("workers", 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
	require.NoError(t, err)
	var all []group.Settle
	for _, l := range lease(t, p, 100) {
		all = append(all, group.Settle(l))
	}
	settle(t, p, Settlement{Op: wire.OpReject, Ranges: all})
}

// The largest record, in a queue with the longest names and reason, fits the dead-letter topic with its headers.
func TestTheLargestDeadLetterIsBuried(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	long := strings.Repeat("n", wire.MaxTopicName)
	p := n.create(long, 1, "max_record_bytes", strconv.Itoa(wire.MaxRecordBytes)).Partition(0)
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: make([]byte, wire.MaxRecordBytes-220), Headers: wire.Headers(nil).Append("h", make([]byte, 200)), Time: 1})
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	require.NoError(t, batch.Validate(wire.MaxRecordBytes))
	_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
	require.NoError(t, err)
	require.NoError(t, p.log.Sync())
	queue := strings.Repeat("q", wire.MaxGroupName)
	_, err = p.OpenQueue(queue, 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
	require.NoError(t, err)
	leases, err := p.Lease(nil, queue, 1, 0, 1, time.Now())
	require.NoError(t, err)
	require.Len(t, leases, 1)
	_, _, err = p.Settle(queue, Settlement{
		Op: wire.OpReject, Ranges: []group.Settle{{Count: 1, Attempt: 1}}, Reason: strings.Repeat("r", wire.MaxReasonBytes),
	}, time.Now())
	require.NoError(t, err)
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
	got := records(t, n.Topic("dead").Partition(0), 0)
	require.Len(t, got, 1)
	require.Equal(t, wire.MaxRecordBytes-220, len(got[0].Value))
	name, _ := got[0].Headers.Get(wire.HeaderDeadTopic)
	require.Equal(t, long, string(name))
	reason, _ := got[0].Headers.Get(wire.HeaderDeadReason)
	require.Equal(t, strings.Repeat("r", wire.MaxReasonBytes), string(reason))
	own, _ := got[0].Headers.Get("h")
	require.Len(t, own, 200)
}

// A compressed batch may hold a record that is far over the limit of its topic, and cannot be stored by itself.
func TestADeadLetterThatCannotBeStoredIsLost(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: make([]byte, wire.MaxFrameBytes-10)})
	batch, err := wire.ParseBatch(b.AppendCompressed(nil, wire.CodecZstd, codec.Compress(nil, wire.CodecZstd, b.Records())))
	require.NoError(t, err)
	rejected(t, p, &batch, batchOf(t, "good"))
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
	require.Equal(t, []string{"good"}, values(t, n.Topic("dead").Partition(0), 0))
}

// A producer may send a compressed batch that nobody can open: the broker does not look. What a queue gives up of it
// is lost, and keeps back no other dead letter.
func TestADeadLetterThatCannotBeDecodedIsLost(t *testing.T) {
	var lines bytes.Buffer
	n := openNode(t, t.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	p := n.create("jobs", 1).Partition(0)
	short := codec.Compress(nil, wire.CodecZstd, bytes.Repeat([]byte{0xff}, 6)) // unpacks, to no records
	rejected(t, p, packedBatch(t, wire.CodecS2, 2, []byte("garbage")), packedBatch(t, wire.CodecZstd, 2, short), batchOf(t, "good"))
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
	require.Equal(t, []string{"good"}, values(t, n.Topic("dead").Partition(0), 0))
	n.close()
	require.Equal(t, 2, strings.Count(lines.String(), "dead letters lost"), "once for each batch: %s", &lines)
	require.Contains(t, lines.String(), "topic=jobs partition=0 offset=2")
}

// The headers of a record are left out when they and those of a dead letter are too large together.
func TestADeadLetterWithTooManyHeadersLosesItsOwn(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: []byte("v"), Headers: wire.Headers(nil).Append("h", make([]byte, wire.MaxHeaderBytes-100)), Time: 1})
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	rejected(t, p, &batch)
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
	got := records(t, n.Topic("dead").Partition(0), 0)
	require.Len(t, got, 1)
	require.Equal(t, "v", string(got[0].Value))
	_, ok := got[0].Headers.Get("h")
	require.False(t, ok)
	name, _ := got[0].Headers.Get(wire.HeaderDeadTopic)
	require.Equal(t, "jobs", string(name))
}

// A partition asks for a burial once, however many messages die meanwhile: it holds its lock when it asks.
func TestDeathsDuringABurialHoldNobodyUp(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{MaxPartitions: 2})
	p := n.create("jobs", 1).Partition(0)
	const messages = 50
	for range messages {
		publish(t, p, "a")
	}
	_, err := p.OpenQueue("workers", 0, QueuePolicy{DeadLetter: "dead"}, time.Now())
	require.NoError(t, err)
	lease(t, p, messages)
	done := make(chan error)
	go func() {
		for i := range uint64(messages) {
			s := Settlement{Op: wire.OpReject, Ranges: []group.Settle{{First: i, Count: 1, Attempt: 1}}}
			if _, _, err := p.Settle("workers", s, time.Now()); err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "a settlement waits for the burial")
	}
	eventually(t, func() bool { return p.Groups(time.Now())[0].Dead == 0 })
	require.Len(t, values(t, n.Topic("dead").Partition(0), 0), messages)
}

// Partitions of deleted topics that wait for the burial of their dead letters do not hold up others, whose workers would
// wait with their event loop.
func TestDeadLettersNeverWaitForABurial(t *testing.T) {
	n := openNode(t, "", Options{MaxPartitions: 1})
	n.Registry.Close() // nobody buries
	defer func() {
		require.NoError(t, n.store.Close())
		n.Registry = nil
	}()
	for _, name := range []string{"a", "b"} {
		p := n.create(name, 1).Partition(0)
		publish(t, p, "x")
		_, err := p.OpenQueue("q", 0, QueuePolicy{}, time.Now())
		require.NoError(t, err)
		require.Equal(t, 1, leaseAll(t, p))
		done := make(chan struct{})
		go func() {
			settleFirst(t, p, wire.OpReject, 0, 1)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("a reject hangs")
		}
		require.NoError(t, n.Delete(name))
	}
}
