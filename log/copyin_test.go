package log

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPayloadsAreCopiedWholeAndNothingElse(t *testing.T) {
	src := make([]byte, 3*streamFrom)
	for i := range src {
		src[i] = byte(1 + rand.IntN(255))
	}
	sizes := []int{streamFrom - 1, streamFrom, streamFrom + 1, streamFrom + 63, streamFrom + 64, 2*streamFrom + 7}
	for n := range 2 * shortMost {
		sizes = append(sizes, n)
	}
	mem := make([]byte, len(src)+2*cacheLine)
	for _, n := range sizes {
		for at := range cacheLine + 1 {
			clear(mem)
			from := src[at : at+n]
			if dst := mem[at : at+n : at+n]; n >= shortLeast && n <= shortMost {
				copyWords(dst, from)
			} else if copyIn(dst, from) {
				streamFence()
			}
			require.True(t, bytes.Equal(from, mem[at:at+n]), "%d bytes at %d", n, at)
			require.Equal(t, make([]byte, at), mem[:at], "%d bytes at %d", n, at)
			require.Equal(t, make([]byte, cacheLine), mem[at+n:at+n+cacheLine], "%d bytes at %d", n, at)
		}
	}
}
