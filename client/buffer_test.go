package client

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestDeliveriesShareMemory(t *testing.T) {
	var pool bufferPool
	for _, size := range []int{1, 200, 5000, 1 << 20} {
		f := frame{Frame: wire.Frame{Body: make([]byte, size)}, pool: &pool}
		allocs := testing.AllocsPerRun(100, func() {
			b := f.keep()
			require.Len(t, b.body, size)
			pool.put(b)
		})
		require.Less(t, allocs, 2.0, size) // none, but the race detector has a pool forget some
	}
}

func TestWhatAFrameGivesAwayIsAsLargeAsItsBody(t *testing.T) {
	var pool bufferPool
	f := frame{Frame: wire.Frame{Body: []byte("0123456789")}, pool: &pool}
	b := f.own()
	f.Body[0] = 'x'
	require.Equal(t, "0123456789", string(b.body))
	require.Less(t, cap(b.body), 1<<minPooled)
}
