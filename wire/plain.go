package wire

import "github.com/rafka-mq/rafka/wire/crc32c"

// PlainBatch reports whether raw is a batch without optional fields, whose records are well formed and have fewer than
// 16 KiB and at most maxRecord bytes each, and returns how many there are. It does not look at the checksum; see
// PayloadsOK. It is a fast form of Parse and Validate for the most common batches. Those decide about one that it refuses.
func PlainBatch(raw []byte, maxRecord int) (count uint32, ok bool) {
	if len(raw) < minBatch+2 || raw[4] != 0 {
		return 0, false
	}
	n, records, ok := uvarint(raw[5:])
	if !ok || n == 0 || n > MaxBatchRecords {
		return 0, false
	}
	return uint32(n), plainRecords(records, uint32(n), maxRecord)
}

// PlainValueLeast and PlainValueMost bound the size of a batch that PlainValue recognizes.
const (
	PlainValueLeast = minBatch + 2
	PlainValueMost  = minBatch + 1 + 0x7f
)

// PlainValue reports whether raw is a batch of one record with a value of at most 126 bytes and nothing else. It is a fast
// form of PlainBatch for the most common small batches.
func PlainValue(raw []byte) bool {
	const head = minBatch + 1 // what is in front of the record's body, which begins with its flags: none
	return len(raw) > head && len(raw) < head+0x80 && le.Uint32(raw[4:]) == 1<<8|uint32(len(raw)-head)<<16
}

// plainRecords reports whether b is count well-formed records of fewer than 16 KiB and at most maxRecord bytes each. It is
// Validate's loop without slices, because it runs once for every record that is published.
func plainRecords(b []byte, count uint32, maxRecord int) bool {
	at := 0
	for ; count > 0; count-- {
		if len(b)-at < 2 {
			return false
		}
		n := int(b[at])
		at++
		if n >= 0x80 {
			high := int(b[at])
			if high == 0 || high >= 0x80 {
				return false
			}
			n += high<<7 - 0x80
			at++
		}
		if n == 0 || n > len(b)-at || n > maxRecord || b[at] != 0 && !validRecord(b[at:at+n]) {
			return false
		}
		at += n
	}
	return at == len(b)
}

// PayloadsOK returns how many payloads, from the first one on, pass PayloadOK. Each has at least 4 bytes. For payloads of
// up to a hundred bytes it takes less time than PayloadOK.
func PayloadsOK(payloads [][]byte) int {
	const most = 16
	for from := 0; from < len(payloads); from += most {
		var sums [most]uint32
		some := payloads[from:min(from+most, len(payloads))]
		crc32c.UpdateEach(sums[:], some, 4)
		for i, p := range some {
			if sums[i] != le.Uint32(p) {
				return from + i
			}
		}
	}
	return len(payloads)
}
