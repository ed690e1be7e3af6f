// Package crc32c has the checksum of what is sent and stored: CRC-32 with Castagnoli's polynomial, that of
// iSCSI. A sum of 0 is that of no bytes.
//
//	sum := crc32c.Checksum(head)
//	sum = crc32c.Update(sum, body)
//
// Long buffers are summed by hash/crc32. Where short ones are, a stamp and a batch of one small record, the
// way into it costs more than the sum itself; amd64 has code of its own for them. What hash/crc32 does on
// arm64 takes unaligned words as it is.
package crc32c

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the checksum of b.
func Checksum(b []byte) uint32 { return Update(0, b) }
