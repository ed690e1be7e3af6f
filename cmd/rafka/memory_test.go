package main

import (
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
)

func TestTheHeapGetsWhatMessagesLeaveOfAContainer(t *testing.T) {
	f := func(container, messages, want int64) {
		t.Helper()
		require.Equal(t, want<<20, heapLimit(container<<20, messages<<20))
	}
	f(1340, 340, 900)
	f(256, 64, 168)
	f(64, 16, 36)
	f(1024, 1024, 32)
	f(64, 1024, 32)
}

func TestTheHeapIsLimitedInAContainerOnlyAndNotTwice(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "off")
	limitHeap(0)
	require.EqualValues(t, math.MaxInt64, debug.SetMemoryLimit(-1), "who says GOMEMLIMIT is asked for no other")

	require.NoError(t, os.Unsetenv("GOMEMLIMIT")) // Setenv restores it
	limitHeap(0)
	limit, limited := log.ContainerMemory()
	if !limited {
		require.EqualValues(t, math.MaxInt64, debug.SetMemoryLimit(-1))
		return
	}
	require.Equal(t, heapLimit(limit, log.DefaultMemoryBytes()), debug.SetMemoryLimit(-1))
}
