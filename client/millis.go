package client

import (
	"math"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Durations travel as whole milliseconds. They are rounded up, so that a short one does not become none,
// and one that is too long for its field becomes the longest that fits.

func wholeMs(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// waitMs returns how long the broker is to wait.
func waitMs(d time.Duration) uint32 { return uint32(min(wholeMs(max(d, 0)), wire.MaxWaitMs)) }

// policyMs returns a duration of a queue's policy. The broker bounds it.
func policyMs(d time.Duration) uint32 { return uint32(min(wholeMs(d), math.MaxUint32)) }

// delayMs returns the delay of a nack, or the length of a lease; -1 for a negative d. Its longest is 24
// days.
func delayMs(d time.Duration) int32 {
	if d < 0 {
		return -1
	}
	return int32(min(wholeMs(d), math.MaxInt32))
}
