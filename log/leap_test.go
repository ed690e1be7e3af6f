package log_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// A read looks at few of the entries that it returns. It returns the same as one that looks at all of them, whatever the
// slabs hold, and wherever limit and maxBytes end it.
func TestReadLeapsOverWhatItWouldTake(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := openMemory(t, log.Options{})
	l := openLog(t, s, identity(1), log.Config{})
	type entry struct {
		base, next uint64
		size       int
	}
	var stored []entry
	for seq := range uint64(6_000) {
		b := data(seq, 1+uint32(random.IntN(3)), 20+random.IntN(400))
		if seq%2_000 > 1_000 && random.IntN(20) == 0 { // in some slabs only
			b.Kind, b.Count = wire.KindState, 0
		}
		base, _, err := l.Append(b)
		require.NoError(t, err)
		if b.Kind == wire.KindData {
			stored = append(stored, entry{base, base + uint64(b.Count), wire.StampBytes + len(b.Payload)})
		}
	}
	end := l.Positions().Next
	var c log.Chunk
	for range 4_000 {
		offset, maxBytes := random.Uint64N(end), 1+random.IntN(300_000)
		limit := offset + 1 + random.Uint64N(end-offset)
		want, bytes, next := 0, 0, offset
		for _, e := range stored {
			if e.next <= offset {
				continue
			}
			if e.next > limit || bytes > 0 && bytes+e.size > maxBytes {
				break
			}
			want, bytes, next = want+1, bytes+e.size, e.next
		}
		c.Release()
		require.NoError(t, l.Read(&c, offset, limit, maxBytes))
		name := fmt.Sprint("from ", offset, " to ", limit, ", ", maxBytes, " bytes")
		require.Len(t, entries(t, identity(1), &c), want, name)
		require.Equal(t, next, c.Next, name)
	}
}
