//go:build !purego

package crc32c

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

const (
	// short is the size from which on hash/crc32 is as fast. It aligns its words first.
	short = 64
	// long is the size from which on folding is faster.
	long = 256
	// foldStep is what foldLong takes at a time.
	foldStep = 64
)

var (
	hasCRC32 = cpu.X86.HasSSE42
	hasFold  = hasCRC32 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512VPCLMULQDQ
)

// Update returns the checksum of some bytes followed by b, from the checksum of the former.
func Update(sum uint32, b []byte) uint32 {
	if len(b) < short && hasCRC32 {
		return updateShort(sum, b)
	}
	if len(b) >= long && hasFold {
		whole := len(b) &^ (foldStep - 1)
		return updateShort(foldLong(sum, b[:whole], &powersOfFold), b[whole:])
	}
	return crc32.Update(sum, castagnoli, b)
}

// UpdateEach is Update for each of sums and what is behind the first skip bytes of the buffer with the same index. For
// buffers of up to a hundred bytes it is faster than Update one by one. Every buffer has at least skip bytes.
func UpdateEach(sums []uint32, bufs [][]byte, skip int) {
	switch {
	case len(bufs) == 0:
	case hasCRC32:
		updateEach(sums[:len(bufs)], bufs, skip)
	default:
		updateOneByOne(sums, bufs, skip)
	}
}

//go:noescape
func updateEach(sums []uint32, bufs [][]byte, skip int)

// SealHeads sets the checksums of pieces that fill b, one directly behind the other. Each has a head of HeadBytes: its
// checksum, 4 bytes; the size of the rest of the piece, which is at least 4, in 4 bytes; and 40 others. The checksum is that
// of something with the checksum seed, the rest of the head, and the 4 bytes behind it.
func SealHeads(b []byte, seed uint32) {
	if hasCRC32 {
		sealHeads(b, seed)
	} else {
		sealOneByOne(b, seed)
	}
}

//go:noescape
func sealHeads(b []byte, seed uint32)

// updateShort is Update with the processor's CRC instruction, 8 bytes at a time without alignment.
//
//go:noescape
func updateShort(sum uint32, b []byte) uint32

// foldLong is Update for at least long bytes, a multiple of foldStep, on processors that multiply polynomials 64 bytes at
// a time. It is the method of Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction", Intel 2009: bytes that are followed by n others are replaced by the remainder of their product with x to
// the power of 8n, added to the bytes there. The checksum of the 16 bytes that are left is computed with the CRC
// instruction.
//
//go:noescape
func foldLong(sum uint32, b []byte, k *folding) uint32

// folding has what foldLong multiplies with: for each distance one power for the first half of 16 bytes, and one for the
// second.
type folding struct {
	by256, by64 [2]uint64
	lanes       [4][2]uint64 // for the first three of four neighbours, 48, 32 and 16 bytes in front of the last
}

var powersOfFold = folding{
	by256: fold(256), by64: fold(64),
	lanes: [4][2]uint64{fold(48), fold(32), fold(16)},
}

// fold returns the factors for 16 bytes that are n bytes away. A product of numbers whose lowest bit is the highest power
// is one bit too low, hence the shift.
func fold(n int) [2]uint64 {
	return [2]uint64{uint64(power(8*n+32)) << 1, uint64(power(8*n-32)) << 1}
}
