// Package crc32c computes the checksum of all that Rafka sends and stores: CRC-32 with Castagnoli's polynomial, as
// in iSCSI. The checksum of no bytes is 0.
//
//	sum := crc32c.Checksum(head)
//	sum = crc32c.Update(sum, body)
//
// Buffers of middle size go to hash/crc32. For short ones, such as a stamp or a batch of one small record, entering
// hash/crc32 takes longer than the checksum itself, so amd64 has its own code for them. It has code for long ones, too,
// where the processor multiplies polynomials 64 bytes at a time, which hash/crc32 uses for another polynomial only. On
// arm64 hash/crc32 reads unaligned words and needs no help.
package crc32c

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the checksum of b.
func Checksum(b []byte) uint32 { return Update(0, b) }

// updateOneByOne is UpdateEach for any processor.
func updateOneByOne(sums []uint32, bufs [][]byte, skip int) {
	for i, b := range bufs {
		sums[i] = Update(sums[i], b[skip:])
	}
}

// HeadBytes is the size of the heads that SealHeads looks for.
const HeadBytes = 48

// sealOneByOne is SealHeads for any processor.
func sealOneByOne(b []byte, seed uint32) {
	for len(b) > 0 {
		binary.LittleEndian.PutUint32(b, Update(seed, b[4:HeadBytes+4]))
		b = b[HeadBytes+binary.LittleEndian.Uint32(b[4:]):]
	}
}
