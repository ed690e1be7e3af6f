package keyhash

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// The vectors of Apache Kafka's own UtilsTest.testMurmur2.
func TestMurmur2IsKafkas(t *testing.T) {
	f := func(key string, want int32) {
		t.Helper()
		require.Equal(t, want, int32(murmur2([]byte(key))), key)
	}
	f("21", -973932308)
	f("foobar", -790332482)
	f("a-little-bit-long-string", -985981536)
	f("a-little-bit-longer-string", -1486304829)
	f("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971)
	f("abc", 479470107)
}

func TestSumIsTheSumOfBytes(t *testing.T) {
	require.Equal(t, 0, Partition(wire.HashSum, []byte("test-key"), 3))
	require.Equal(t, 2, Partition(wire.HashSum, []byte("default-key"), 3))
	require.Equal(t, 1, Partition(wire.HashSum, []byte("docker-key"), 3))
}

func TestXXHashSpreadsAndStays(t *testing.T) {
	seen := make([]int, 16)
	for i := range 16_000 {
		seen[Partition(wire.HashXXH64, fmt.Appendf(nil, "user-%06d", i), 16)]++
	}
	for p, n := range seen {
		require.InDelta(t, 1000, n, 200, "partition %d", p)
	}
	require.Equal(t, int(0xef46db3751d8e999%7), Partition(wire.HashXXH64, nil, 7), "xxhash64 of nothing, seed 0")
}
