package server

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizesInDigits(t *testing.T) {
	for n := range 12_000 {
		require.Equal(t, "x"+strconv.Itoa(n), string(appendSize([]byte("x"), n)))
	}
	require.Equal(t, "1048576", string(appendSize(nil, 1<<20)))
}

func BenchmarkAppendMessage(b *testing.B) {
	m := newMessage([]byte("orders.eu.paid"), make([]byte, 128))
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	b.SetBytes(128)
	for b.Loop() {
		dst = appendMessage(dst[:0], m, "17", true)
	}
}
