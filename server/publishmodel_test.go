package server

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// randomPublish returns a publish whose size is close to one at which something changes: what a value takes to be plain,
// how its checksum is checked, how it is copied, what ends a run. Some are damaged.
func randomPublish(rng *rand.Rand, id uint32) []byte {
	sizes := []int{0, 90, 110, 118, 126, 240, 4 << 10, 64 << 10}
	weights := []int{20, 20, 10, 20, 20, 10, 6, 1}
	var b wire.BatchBuilder
	n := rng.IntN(107)
	for i, w := range weights {
		if n -= w; n >= 0 {
			continue
		}
		for range 1 + rng.IntN(8)/7 {
			v := make([]byte, max(0, sizes[i]+rng.IntN(21)-10))
			for i := range v {
				v[i] = byte(rng.Uint32())
			}
			r := wire.Record{Value: v}
			if rng.IntN(10) == 0 {
				r.Key = v[:len(v)/2]
			}
			b.Add(r)
		}
		break
	}
	f := request1(wire.OpPublish, 0, id, publishBody(0, 0, b.Bytes()))
	if rng.IntN(40) == 0 {
		f[runOverhead+rng.IntN(len(f)-runOverhead)] ^= 1 << rng.IntN(8)
	}
	return f
}

// TestModelOfPublishRuns sends the same publishes frame by frame, and in pieces that do not care where frames end.
func TestModelOfPublishRuns(t *testing.T) {
	seeds.Each(t, 6, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var frames [][]byte
		var all []byte
		id := uint32(10)
		for range 1500 {
			frames = append(frames, randomPublish(rng, id))
			all = append(all, frames[len(frames)-1]...)
			if id++; rng.IntN(50) == 0 {
				id += 5
			}
		}
		var pieces [][]byte
		for len(all) > 0 {
			n := min(len(all), 1+rng.IntN(1<<(4+rng.IntN(15))))
			pieces = append(pieces, all[:n:n])
			all = all[n:]
		}
		send := func(pieces [][]byte) (answers map[uint32]string, stored []byte) {
			b, srv := newBench(t, Options{})
			s, out := b.loggedIn(t, 2, "orders")
			for _, p := range pieces {
				s.receive(p, b.now)
				b.l.endTurn(b.now)
			}
			require.Equal(t, uint64(len(frames)), srv.metrics.requests[wire.OpPublish].Load())
			p := srv.registry.Topic("orders").Partition(0)
			require.Equal(t, p.Next(), srv.metrics.published.messages.Load())
			var c log.Chunk
			for at := uint64(0); at < p.Next(); at = c.Next {
				c.Release()
				require.NoError(t, p.ReadCold(&c, at, 1<<20))
				for _, b := range c.Slices {
					stored = append(stored, b...)
				}
			}
			c.Release()
			return out.answers(t), payloadsOf(t, stored)
		}
		want, stored := send(frames)
		got, also := send(pieces)
		require.True(t, bytes.Equal(stored, also))
		require.Len(t, got, len(frames))
		require.Len(t, want, len(frames))
		for id, answer := range got { // a range tells the offset of its first publish only
			require.Contains(t, want[id], answer, "publish %d", id)
		}
	})
}

// payloadsOf returns the payloads of entries, without the stamps, which have the time and the identity.
func payloadsOf(t *testing.T, b []byte) (payloads []byte) {
	t.Helper()
	for len(b) > 0 {
		var st wire.Stamp
		st.View(b)
		payload := b[wire.StampBytes:st.Size()]
		require.True(t, wire.PayloadOK(payload))
		payloads = append(payloads, payload...)
		b = b[st.Size():]
	}
	return payloads
}
