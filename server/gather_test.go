package server

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// The checksum of a batch that is cut is looked at once, and a damaged one is refused every time.
func TestABatchIsCheckedBeforeItIsCut(t *testing.T) {
	var b wire.BatchBuilder
	for range 3 {
		b.Add(wire.Record{Value: []byte("x")})
	}
	good, bad := append([]byte(nil), b.Bytes()...), append([]byte(nil), b.Bytes()...)
	bad[0]++
	checked := checkedEntry{}
	cut := func(id wire.Identity, index uint64, payload []byte) error {
		g := gatherer{id: id, checked: &checked}
		_, err := g.open(&wire.Entry{Stamp: wire.Stamp{Index: index}, Payload: payload})
		return err
	}
	one := wire.Identity{Partition: 1}
	for range 2 {
		require.Error(t, cut(one, 1, bad))
	}
	require.NoError(t, cut(one, 1, good))
	require.NoError(t, cut(one, 1, bad), "not looked at again")
	require.Error(t, cut(one, 2, bad))
	require.Error(t, cut(wire.Identity{Partition: 2}, 1, bad))
	require.NoError(t, cut(one, 1, good))
}

// entryOf returns an entry whose records have consecutive offsets from base on, as compaction leaves it when it keeps the
// first kept of them.
func entryOf(t *testing.T, seed uint32, index, base uint64, records, kept int) []byte {
	var b, thin wire.BatchBuilder
	for range records {
		b.Add(wire.Record{Value: []byte("x")})
	}
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	if kept < records {
		_, err = batch.Thin(&thin, func(i int, _ *wire.Record) bool { return i < kept })
		require.NoError(t, err)
		batch, err = wire.ParseBatch(thin.Bytes())
		require.NoError(t, err)
	}
	st := wire.Stamp{
		Kind: wire.KindData, Index: index, BaseOffset: base, Count: batch.Count(), Length: uint32(len(batch.Raw())),
	}
	entry := append(make([]byte, wire.StampBytes), batch.Raw()...)
	st.Put(entry, seed)
	return entry
}

// What is said to be sent is in the entries, and the rest is gone or left, also when reading fails on the way.
func TestEveryLeasedMessageIsSentGoneOrLeft(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("jobs")
	p := b.srv.registry.Topic("jobs").Partition(0)
	seed := p.Identity().Seed()
	entries := [][]byte{entryOf(t, seed, 1, 0, 1, 1), entryOf(t, seed, 2, 1, 2, 1), entryOf(t, seed, 3, 3, 1, 1)}
	broken := errors.New("broken")
	gather := func(readable int) (g gatherer, err error) {
		read := func(c *log.Chunk, offset uint64, _ int) error {
			for _, raw := range entries[:readable] {
				e, _, err := wire.ViewEntry(raw)
				require.NoError(t, err)
				if e.BaseOffset >= offset {
					c.Slices, c.Next = [][]byte{raw}, e.NextOffset()
					return nil
				}
			}
			return broken
		}
		err = g.gather(p, []group.Lease{{First: 0, Count: 4, Attempt: 1}}, read)
		return g, err
	}
	g, err := gather(3)
	require.NoError(t, err)
	require.Equal(t, slices.Concat(entries...), g.out)
	require.Equal(t, []group.Lease{{First: 0, Count: 2, Attempt: 1}, {First: 3, Count: 1, Attempt: 1}}, g.sent)
	require.Equal(t, []group.Settle{{First: 2, Count: 1, Attempt: 1}}, g.gone)
	require.Empty(t, g.left)

	g, err = gather(2)
	require.ErrorIs(t, err, broken)
	require.Equal(t, []group.Lease{{First: 0, Count: 2, Attempt: 1}}, g.sent)
	require.Equal(t, []group.Lease{{First: 3, Count: 1, Attempt: 1}}, g.left)
}

// How many messages a lease takes comes from their average size. Those that come next can be much larger, and a reply that
// does not fit a frame would end the worker's connection, again and again.
func TestALeaseOfLargeMessagesBehindSmallOnesFitsAFrame(t *testing.T) {
	const large = 800 << 10
	f := func(name string, apart, together int, messages uint32) {
		t.Run(name, func(t *testing.T) {
			srv := startServer(t, Options{})
			p := login(t, srv)
			h := p.fill("jobs")
			part := srv.registry.Topic("jobs").Partition(0)
			publishBatch(t, part, 20_000, 10)
			open := wire.OpenQueue{Handle: h, Group: "workers", Start: wire.Position{Kind: wire.PositionEnd}}
			require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
			next := part.Visible()
			for range apart {
				publishBatch(t, part, 1, large)
			}
			publishBatch(t, part, together, large)
			for end := next + uint64(apart+together); next < end; {
				got := lease(p, h, messages) // reads a frame
				require.Len(t, got.Ranges, 1)
				require.Equal(t, next, got.Ranges[0].First)
				require.Equal(t, uint32(1), got.Ranges[0].Attempt, "what did not fit was no attempt")
				require.Greater(t, len(got.Bytes), int(got.Ranges[0].Count)*large)
				next += uint64(got.Ranges[0].Count)
			}
		})
	}
	f("one by one", 11, 1, 100)
	f("a batch behind others", 2, 9, 100)
	f("a part of a batch behind others", 6, 6, 11)
}

// publishBatch stores n records of a size in one batch.
func publishBatch(t *testing.T, p *partition.Partition, n, size int) {
	t.Helper()
	var b wire.BatchBuilder
	value := make([]byte, size)
	for range n {
		b.Add(wire.Record{Value: value})
	}
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
	require.NoError(t, err)
}
