package wire

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A run must write what single stamps would.
func TestStampsOfARun(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	seed := Identity{Topic: [16]byte{1, 2, 3}, Partition: 4}.Seed()
	for range 200 {
		r := NewStampRun(seed)
		s := Stamp{Kind: KindData, Term: rng.Uint64(), Time: rng.Int64(), Index: rng.Uint64(), BaseOffset: rng.Uint64()}
		for range 1000 {
			s.Length = 4 + rng.Uint32N(2)*rng.Uint32N(20)
			s.Count = 1 + rng.Uint32N(2)*rng.Uint32N(300)
			got, want := make([]byte, s.Size()), make([]byte, s.Size())
			for i := StampBytes; i < len(got); i++ {
				got[i] = byte(rng.Uint32())
				want[i] = got[i]
			}
			r.Put(got, &s, le.Uint32(got[StampBytes:]))
			s.Put(want, seed)
			require.Equal(t, want, got)
			require.True(t, CheckStamp(got, seed))
			s.Index++
			s.BaseOffset += uint64(s.Count)
		}
	}
}

func BenchmarkStamp(b *testing.B) {
	mem := make([]byte, 1<<20)
	f := func(name string, put func(b []byte, s *Stamp)) {
		b.Run(name, func(b *testing.B) {
			s := Stamp{Kind: KindData, Count: 1, Term: 1, Time: 1 << 40, Length: 26}
			for pos := 0; b.Loop(); pos += s.Size() {
				if pos > len(mem)-s.Size() {
					pos = 0
				}
				put(mem[pos:], &s)
				s.Index++
				s.BaseOffset++
			}
		})
	}
	f("single", func(b []byte, s *Stamp) { s.Put(b, 77) })
	r := NewStampRun(77)
	f("run", func(b []byte, s *Stamp) { r.Put(b, s, le.Uint32(b[StampBytes:])) })
}
