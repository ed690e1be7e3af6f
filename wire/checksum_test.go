package wire

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChecksumsAreJoined(t *testing.T) {
	b := make([]byte, 70_000)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	for _, n := range []int{0, 1, 2, 7, 8, 63, 1024, 4095, 65_536, 70_000} {
		for _, at := range []int{0, 1, n / 2, n} {
			at = min(at, n)
			is := joined(crc32.Checksum(b[:at], castagnoli), crc32.Checksum(b[at:n], castagnoli), n-at)
			require.Equal(t, crc32.Checksum(b[:n], castagnoli), is, "%d of %d", at, n)
		}
	}
}

func TestABatchThatWasSummedUpIsTheSame(t *testing.T) {
	for _, n := range []int{1, 10, 1000, 5000} {
		var plain, summed BatchBuilder
		for _, b := range []*BatchBuilder{&plain, &summed} {
			b.SetProducer(Producer{ID: 7, Epoch: 1, Sequence: 300})
		}
		for i := range n {
			value := bytes.Repeat([]byte{byte(i)}, i%300)
			plain.AddPlain(nil, value)
			summed.AddPlain(nil, value)
			summed.SumAhead()
		}
		require.Equal(t, n >= 1000, summed.summed > 0)
		require.Equal(t, plain.Bytes(), summed.Bytes())

		for _, b := range []*BatchBuilder{&plain, &summed} {
			b.SetProducer(Producer{ID: 7, Epoch: 2})
			b.AddPlain([]byte("key"), []byte("value"))
		}
		is := summed.Bytes()
		require.Equal(t, plain.Bytes(), is, "after more records and another number")
		_, err := ParseBatch(is)
		require.NoError(t, err)

		summed.Reset()
		plain.Reset()
		summed.AddPlain(nil, []byte("next"))
		plain.AddPlain(nil, []byte("next"))
		require.Equal(t, plain.Bytes(), summed.Bytes(), "used again")
	}
}
