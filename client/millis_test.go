package client

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// TestTheLongestDurationIsLong guards against overflow: a duration that has no equal on the wire becomes
// the longest one there, not a short or a negative one.
func TestTheLongestDurationIsLong(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	require.Equal(t, int64(math.MaxInt64/1_000_000+1), wholeMs(longest))
	require.Equal(t, uint32(wire.MaxWaitMs), waitMs(longest))
	require.Equal(t, uint32(math.MaxUint32), policyMs(longest))
	require.Equal(t, int32(math.MaxInt32), delayMs(longest))
}

func TestAShortDurationDoesNotBecomeNone(t *testing.T) {
	require.Equal(t, int64(1), wholeMs(1))
	require.Equal(t, uint32(1), waitMs(1))
	require.Equal(t, uint32(1), policyMs(1))
	require.Equal(t, int32(1), delayMs(1))
	require.Equal(t, int64(2), wholeMs(time.Millisecond+1))
	require.Equal(t, int64(2), wholeMs(2*time.Millisecond))
	require.Zero(t, waitMs(-1))
	require.Equal(t, int32(-1), delayMs(-1))
}
