package wire

import "github.com/rafka-mq/rafka/wire/crc32c"

// PlainBatch reports whether raw is an intact batch without optional fields, whose records are well formed and
// have at most maxRecord bytes each, and returns how many there are. It is a fast form of Parse and Validate
// for the most common batches. Parse and Validate decide about a batch that it refuses.
func PlainBatch(raw []byte, maxRecord int) (count uint32, ok bool) {
	if len(raw) < minBatch+2 || raw[4] != 0 {
		return 0, false
	}
	if raw[5] == 1 {
		body := raw[7:]
		if n := raw[6]; n >= 0x80 || int(n) != len(body) {
			var rest []byte
			var ok bool
			if body, rest, ok = splitRecord(raw[6:]); !ok || len(rest) != 0 {
				return 0, false
			}
		}
		if len(body) > maxRecord || body[0] != 0 && !validRecord(body) {
			return 0, false
		}
		count = 1
	} else {
		var b Batch
		if b.view(raw) != nil || b.Validate(maxRecord) != nil {
			return 0, false
		}
		count = b.count
	}
	return count, crc32c.Checksum(raw[4:]) == le.Uint32(raw)
}
