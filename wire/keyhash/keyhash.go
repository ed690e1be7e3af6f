// Package keyhash maps keys to partitions. The client and the broker share it, so that both map a key to the same
// partition. It is separate from package wire because it needs a library.
package keyhash

import (
	"github.com/cespare/xxhash/v2"

	"github.com/rafka-mq/rafka/wire"
)

// Partition returns the partition of key out of n under the hash h. It panics when n is below 1.
func Partition(h wire.Hash, key []byte, n int) int {
	switch h {
	case wire.HashMurmur2:
		return int(murmur2(key)&0x7fffffff) % n
	case wire.HashSum:
		return int(sum(key) % uint32(n))
	default:
		return int(xxhash.Sum64(key) % uint64(n))
	}
}

// Sum returns a hash that identifies a key, the same for every topic: xxHash64, except that it is 0 for nil, which
// is no key, and never for a key.
func Sum(key []byte) uint64 {
	if key == nil {
		return 0
	}
	return max(1, xxhash.Sum64(key))
}

// sum returns the sum of the bytes modulo 2^32. It distributes keys badly and exists for demonstrations.
func sum(key []byte) (s uint32) {
	for _, b := range key {
		s += uint32(b)
	}
	return s
}

// murmur2 is the 32-bit MurmurHash2 with the seed of Apache Kafka's Java client, whose default
// partitioner uses the result without its sign bit.
func murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(key[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
