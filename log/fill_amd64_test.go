//go:build !purego

package log

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// fillOneByOne is what fillShort does, without its speed.
func fillOneByOne(mem []byte, used, due int, payloads [][]byte, counts []uint32, st *wire.Stamp) (n, end int) {
	for n < len(payloads) && used < due && used+wire.StampBytes+shortMost <= len(mem) {
		p := payloads[n]
		if len(p) < shortLeast || len(p) > shortMost {
			break
		}
		one := *st
		one.Length, one.Count = uint32(len(p)), counts[n]
		one.PutFields(mem[used:])
		st.Index, st.BaseOffset = one.NextIndex(), one.NextOffset()
		used += wire.StampBytes + copy(mem[used+wire.StampBytes:], p)
		n++
	}
	return n, used
}

// randomRun returns payloads that are mostly short, and their counts.
func randomRun(rng *rand.Rand) (payloads [][]byte, counts []uint32) {
	for range rng.IntN(20) {
		p := make([]byte, shortLeast+rng.IntN(shortMost-shortLeast+1))
		if rng.IntN(40) == 0 {
			p = make([]byte, []int{0, 4, shortLeast - 1, shortMost + 1, 300}[rng.IntN(5)])
		}
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		payloads = append(payloads, p)
		counts = append(counts, []uint32{1, 1 + rng.Uint32N(9), math.MaxUint32}[rng.IntN(3)])
	}
	return payloads, counts
}

func TestShortPayloadsAreAppendedAsOneByOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		payloads, counts := randomRun(rng)
		got := bytes.Repeat([]byte{0xaa}, rng.IntN(2000))
		want := bytes.Clone(got)
		used, due := rng.IntN(len(got)+1), rng.IntN(len(got)+100)
		st := wire.Stamp{
			Kind: wire.KindData, Flags: byte(rng.Uint32()), Term: rng.Uint64(), Index: rng.Uint64N(1 << 40),
			BaseOffset: rng.Uint64N(1 << 40), Time: rng.Int64(),
		}
		wantSt := st
		wantN, wantEnd := fillOneByOne(want, used, due, payloads, counts, &wantSt)
		n, end := fillShort(got, used, due, payloads, counts, &st)
		require.Equal(t, wantN, n)
		require.Equal(t, wantEnd, end)
		require.True(t, bytes.Equal(want, got))
		require.Equal(t, wantSt, st)
	}
}
