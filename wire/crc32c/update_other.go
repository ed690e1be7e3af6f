//go:build !amd64 || purego

package crc32c

import "hash/crc32"

// Update returns the checksum of some bytes followed by b, from the checksum of the former.
func Update(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }
