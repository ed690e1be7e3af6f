package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever asks with a name that is too long hears that. A body that is cut short as well cannot be decoded.
func TestAStringOverItsLimitIsTooLarge(t *testing.T) {
	f := func(size int, want string) {
		t.Helper()
		m := (&Committed{Group: strings.Repeat("g", size)}).Append(nil)
		var got Committed
		err := got.Parse(m)
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, CodeTooLarge)
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, ErrMalformed)
		for _, cut := range []int{1, len(m) / 2, len(m) - 1} {
			require.ErrorIs(t, got.Parse(m[:cut]), ErrMalformed)
		}
		require.ErrorIs(t, got.Parse(append(m, 0)), ErrMalformed)
	}
	f(MaxGroupName, "")
	f(MaxGroupName+1, "a name or text of 256 bytes, the limit is 255")
	f(1<<16+5, "a name or text of 65535 bytes") // more than a string can have
}

func TestAKeyOverItsLimitIsTooLarge(t *testing.T) {
	var m Get
	require.NoError(t, m.Parse((&Get{Key: make([]byte, MaxKeyBytes)}).Append(nil)))
	require.ErrorIs(t, m.Parse((&Get{Key: make([]byte, MaxKeyBytes+1)}).Append(nil)), CodeTooLarge)
}
