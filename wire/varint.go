package wire

import "encoding/binary"

// uvarint reads an unsigned varint and returns it with the bytes behind it. It refuses one that is cut short,
// overflows 64 bits, or is longer than necessary, so that every value has exactly one encoding.
func uvarint(b []byte) (uint64, []byte, bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	v, n := binary.Uvarint(b)
	if n <= 0 || b[n-1] == 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// varint reads a zigzag varint under the same rules as uvarint.
func varint(b []byte) (int64, []byte, bool) {
	u, rest, ok := uvarint(b)
	return int64(u>>1) ^ -int64(u&1), rest, ok
}

// lengthPrefixed splits off a uvarint length, at most limit, and that many bytes. field is a view.
func lengthPrefixed(b []byte, limit uint64) (field, rest []byte, ok bool) {
	n, rest, ok := uvarint(b)
	if !ok || n > limit || n > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:n:n], rest[n:], true
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }
