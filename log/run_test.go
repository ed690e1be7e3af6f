package log_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// edges are sizes at which the way to copy or to check a payload changes.
var edges = []int{4, 8, 64, 100, 126, 127, 128, 256, 4 << 10, 64 << 10}

// nearEdge returns a size close to one of edges.
func nearEdge(rng *rand.Rand) int {
	return max(4, edges[rng.IntN(len(edges))]+rng.IntN(7)-3)
}

// A run is stored as its entries would be one by one: in memory, and in segments.
func TestModelOfRuns(t *testing.T) {
	seeds.Each(t, 8, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var stores [2]*log.Store
		var logs [2]*log.Log
		for i := range logs {
			o := small(faultfs.New())
			o.SegmentBytes, o.CommitFileBytes, o.CommitLogBytes, o.MemoryBytes = 1<<20, 1<<20, 8<<20, 64<<20
			var err error
			stores[i], err = log.OpenStill(o)
			require.NoError(t, err)
			logs[i] = openLog(t, stores[i], identity(1), log.Config{})
		}
		for range 20 {
			var run log.Run
			for range 1 + rng.IntN(60) {
				p := make([]byte, nearEdge(rng))
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				p = wire.AppendPayload(nil, p[4:])
				run.Payloads, run.Counts = append(run.Payloads, p), append(run.Counts, 1+rng.Uint32N(3))
			}
			base, n, err := logs[0].AppendRun(run, 1, 1000)
			require.NoError(t, err)
			require.Len(t, run.Payloads, n)
			for i, p := range run.Payloads {
				at, _, err := logs[1].Append(log.Batch{Kind: wire.KindData, Count: run.Counts[i], Term: 1, Time: 1000, Payload: p})
				require.NoError(t, err)
				if i == 0 {
					require.Equal(t, at, base)
				}
			}
		}
		require.NoError(t, logs[0].CheckPlaces())
		for range 2 { // hot, and cold
			require.True(t, bytes.Equal(raw(t, logs[1]), raw(t, logs[0])))
			for _, s := range stores {
				require.NoError(t, s.Checkpoint())
				s.Forget()
			}
		}
		for _, s := range stores {
			require.NoError(t, s.Close())
		}
	})
}

// raw returns the stored bytes of all entries, whose checksums it checks.
func raw(t *testing.T, l *log.Log) (all []byte) {
	t.Helper()
	var c log.Chunk
	for at := uint64(0); at < l.Positions().Next; at = c.Next {
		c.Release()
		require.NoError(t, l.ReadCold(&c, at, l.Positions().Next, 1<<20))
		for _, b := range c.Slices {
			all = append(all, b...)
			for len(b) > 0 {
				var err error
				_, b, err = wire.ParseEntry(b, l.Identity().Seed())
				require.NoError(t, err)
			}
		}
	}
	c.Release()
	return all
}

// The limits of a payload hold wherever it stands in a run, also where there is room for a larger one.
func TestARunEndsBeforeAPayloadThatIsNone(t *testing.T) {
	s := openMemory(t, log.Options{MemoryBytes: 256 << 20})
	l := openLog(t, s, identity(1), log.Config{})
	for _, first := range []int{20, 2 << 20} { // in a small slab, and in one for large entries
		for _, bad := range []int{0, 3, wire.MaxFrameBytes + 1} {
			run := log.Run{
				Payloads: [][]byte{payload(1, first), make([]byte, bad), payload(2, 20)},
				Counts:   []uint32{1, 1, 1},
			}
			next := l.Positions().Next
			base, n, err := l.AppendRun(run, 1, 1000)
			require.ErrorIs(t, err, log.ErrPayload)
			require.Equal(t, 1, n)
			require.Equal(t, next, base)
			require.Equal(t, next+1, l.Positions().Next)
		}
	}
}
