package subject

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every size up to three words, with dots and the bytes next to a dot in each place.
func TestDotsAreFoundAsByLookingAtEachByte(t *testing.T) {
	for range 100_000 {
		s := make([]byte, rand.IntN(26))
		for i := range s {
			s[i] = "..-/ax\x00\xae\xff\x80"[rand.IntN(10)]
		}
		token, after, goesOn := cut(s)
		wantToken, wantAfter, wantGoesOn := bytes.Cut(s, dot)
		require.Equal(t, wantToken, token, "%q", s)
		require.Equal(t, string(wantAfter), string(after), "%q", s)
		require.Equal(t, wantGoesOn, goesOn, "%q", s)
		empty := false
		for part := range strings.SplitSeq(string(s), ".") {
			empty = empty || part == ""
		}
		require.Equal(t, !empty, whole(s), "%q", s)
	}
}
