//go:build !amd64 || purego

package crc32c

import "hash/crc32"

// Update returns the checksum of some bytes followed by b, from the checksum of the former.
func Update(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// UpdateEach is Update for each of sums and what is behind the first skip bytes of the buffer with the same index. Every
// buffer has at least skip bytes.
func UpdateEach(sums []uint32, bufs [][]byte, skip int) { updateOneByOne(sums, bufs, skip) }

// SealHeads sets the checksums of pieces that fill b, one directly behind the other. Each has a head of HeadBytes: its
// checksum, 4 bytes; the size of the rest of the piece, which is at least 4, in 4 bytes; and 40 others. The checksum is that
// of something with the checksum seed, the rest of the head, and the 4 bytes behind it.
func SealHeads(b []byte, seed uint32) { sealOneByOne(b, seed) }
