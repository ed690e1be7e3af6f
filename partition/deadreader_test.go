package partition

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// Dead letters of one batch need it once: the reader has the rest of the batch when the log has it no more.
func TestTheBatchOfDeadLettersIsReadOnce(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "0", "1", "2", "3", "4")
	var b wire.BatchBuilder
	for i := range 5 {
		b.Add(wire.Record{Value: fmt.Append(nil, 5+i)})
	}
	packed, err := wire.ParseBatch(b.AppendCompressed(nil, wire.CodecS2, codec.Compress(nil, wire.CodecS2, b.Records())))
	require.NoError(t, err)
	_, _, _, err = p.Publish(&packed, time.Now().UnixMilli())
	require.NoError(t, err)
	publish(t, p, "10")

	r := deadReader{p: p}
	defer func() { r.c.Release() }()
	f := func(offsets ...uint64) {
		t.Helper()
		for _, offset := range offsets {
			rec, err := r.record(offset)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(offset), string(rec.Value))
		}
	}
	f(3, 1, 2, 4, 5, 0, 10, 9, 6)
	require.NoError(t, n.Purge("jobs", 0, 10))
	f(7, 9)
	_, err = r.record(8) // back in the batch
	require.ErrorIs(t, err, wire.CodeOffsetOutOfRange)
	f(10)
	_, err = r.record(11)
	require.Error(t, err)
	f(10)
}
