//go:build !purego

package crc32c

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

// short is the size from which on hash/crc32 is as fast. It aligns its words first.
const short = 64

var hasCRC32 = cpu.X86.HasSSE42

// Update returns the checksum of some bytes followed by b, from the checksum of the former.
func Update(sum uint32, b []byte) uint32 {
	if len(b) < short && hasCRC32 {
		return updateShort(sum, b)
	}
	return crc32.Update(sum, castagnoli, b)
}

// updateShort is Update with the processor's CRC instruction, 8 bytes at a time without alignment.
//
//go:noescape
func updateShort(sum uint32, b []byte) uint32
