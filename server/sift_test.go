package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// mixed appends a compressed batch of zeros: one record without the header "pass" and then as many with it as passing
// says, all of size bytes.
func mixed(t *testing.T, p *partition.Partition, passing, size int) {
	t.Helper()
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: make([]byte, size)})
	for range passing {
		b.Add(wire.Record{Value: make([]byte, size), Headers: wire.Headers(nil).Append("pass", nil)})
	}
	batch, err := wire.ParseBatch(b.AppendCompressed(nil, wire.CodecZstd, codec.Compress(nil, wire.CodecZstd, b.Records())))
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
	require.NoError(t, err)
}

// Compressed batches are larger when they are cut: the replies to a filter keep to the size that was asked for, or hold one
// entry that fits a frame.
func TestRepliesToAFilterFitAFrame(t *testing.T) {
	srv := startServer(t, Options{})
	_, err := srv.registry.Create("t", 1, []wire.Setting{{Key: "durability", Value: "memory"}})
	require.NoError(t, err)
	p := srv.registry.Topic("t").Partition(0)
	for range 3 {
		mixed(t, p, 3, 1<<20)
	}
	mixed(t, p, 20, 1<<20)
	peer := login(t, srv)
	handle := peer.resolve("t").Handle
	filter := wire.Filter{{Op: wire.FilterExists, Name: "pass"}}
	passed := 0
	for at, end := uint64(0), p.Visible(); at < end; {
		request := wire.Fetch{Handle: handle, From: wire.Position{Value: at}, MaxBytes: 4 << 20, Filter: filter}
		f := peer.call(wire.OpFetch, 0, request.Append)
		require.Zero(t, f.Flags)
		var reply wire.Entries
		require.NoError(t, reply.Parse(f.Body))
		require.LessOrEqual(t, len(reply.Bytes), 4<<20)
		require.Greater(t, reply.Next, at)
		at = reply.Next
		for rest := reply.Bytes; len(rest) > 0; {
			var e wire.Entry
			e, rest, err = wire.ViewEntry(rest)
			require.NoError(t, err)
			batch, err := partition.Unpacked(&e)
			require.NoError(t, err)
			for r, err := range batch.Records() {
				require.NoError(t, err)
				if !r.Removed {
					passed++
				}
			}
		}
	}
	require.Equal(t, 3*3+20, passed)
}

// Small batches may unpack to much. A worker that opens them for a filter stops after about maxSift bytes, too.
func TestAFilterOpensLittleAtOnce(t *testing.T) {
	srv := startServer(t, Options{})
	_, err := srv.registry.Create("t", 1, []wire.Setting{{Key: "durability", Value: "memory"}})
	require.NoError(t, err)
	p := srv.registry.Topic("t").Partition(0)
	for range 5 {
		mixed(t, p, 3, maxSift/8)
	}
	s, err := sift(p, wire.Filter{{Op: wire.FilterExists, Name: "absent"}}, 0, 1<<20)
	require.NoError(t, err)
	require.Empty(t, s.out)
	require.Equal(t, uint64(8), s.next, "behind two of the batches")
}

// A subscription whose filter leaves everything out learns how far that goes: it need not be looked through again.
func TestAFilteredSubscriptionSaysHowFarItIs(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "0", "1", "2")
	m := wire.Subscribe{
		Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 20,
		Filter: wire.Filter{{Op: wire.FilterExists, Name: "pass"}},
	}
	p.send(wire.OpSubscribe, 0, m.Append)
	require.Equal(t, wire.OpSubscribe|wire.OpReply, p.read().Op)
	f := p.read()
	require.Equal(t, wire.OpDeliver, f.Op)
	var e wire.Entries
	require.NoError(t, e.Parse(f.Body))
	require.Equal(t, []uint64{3, 3}, []uint64{e.Visible, e.Next})
	require.Empty(t, e.Bytes)
}
