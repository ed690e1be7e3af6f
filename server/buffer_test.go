package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestBufferClasses(t *testing.T) {
	f := func(size int, want uint8) {
		t.Helper()
		class := bufferClass(size)
		require.Equal(t, want, class, size)
		b := takeBuffer(class)
		require.Empty(t, b.B)
		require.GreaterOrEqual(t, cap(b.B), min(size, wire.MaxFrameBytes))
		putBuffer(b)
	}
	f(0, 0)
	f(1, 0)
	f(leastBuffer, 0)
	f(leastBuffer+1, 1)
	f(2*leastBuffer, 1)
	f(2*leastBuffer+1, 2)
	f(wire.MaxFrameBytes, bufferClasses-1)
	f(4*wire.MaxFrameBytes, bufferClasses-1)
	putBuffer(nil)
	putBuffer(&buffer{B: make([]byte, 0, 4*wire.MaxFrameBytes)})
}
