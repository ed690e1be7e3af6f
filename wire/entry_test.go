package wire

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStampsThatAreSealedTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	seed := Identity{Topic: [16]byte{1, 2, 3}, Partition: 4}.Seed()
	var got, want []byte
	for range 300 {
		s := Stamp{
			Length: 4 + rng.Uint32N(300), Kind: KindData, Count: 1 + rng.Uint32N(300), Term: rng.Uint64(),
			Time: rng.Int64(), Index: rng.Uint64(), BaseOffset: rng.Uint64(),
		}
		b := make([]byte, s.Size())
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		s.PutFields(b)
		got = append(got, b...)
		s.Put(b, seed)
		want = append(want, b...)
	}
	SealStamps(got, seed)
	require.Equal(t, want, got)
}
