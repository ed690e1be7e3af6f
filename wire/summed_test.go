package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

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
