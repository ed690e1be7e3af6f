//go:build !purego

package crc32c

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

// short is where hash/crc32 begins to be as fast: it aligns its words first.
const short = 64

var hasCRC32 = cpu.X86.HasSSE42

// Update returns the checksum of some bytes and behind them b, from the sum of the former.
func Update(sum uint32, b []byte) uint32 {
	if len(b) < short && hasCRC32 {
		return updateShort(sum, b)
	}
	return crc32.Update(sum, castagnoli, b)
}

// updateShort is Update with the processor's instruction, 8 bytes at a time wherever they are.
//
//go:noescape
func updateShort(sum uint32, b []byte) uint32
