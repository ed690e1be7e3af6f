package wire

import "github.com/rafka-mq/rafka/wire/crc32c"

// StampBytes is the size of the broker's stamp in front of every entry's payload.
const StampBytes = crc32c.HeadBytes

// Kind says what the payload of an entry is. Only data has records. Other kinds, except KindGap, have a
// count of 0, so that users see consecutive offsets.
type Kind uint8

const (
	// KindData is a batch of a producer.
	KindData Kind = 1
	// KindTerm marks the start of a leader's term; its payload is empty but for the checksum.
	KindTerm Kind = 2
	// KindConfig is a configuration: of a raft group or, in the metadata log, of a topic.
	KindConfig Kind = 3
	// KindState is a change of the partition's own state: committed offsets, acknowledgements.
	KindState Kind = 4
	// KindGap stands in the place of entries whose records compaction removed. Its Count and Skip are
	// those of the removed entries, so that offsets and indexes continue behind it. It is never
	// delivered.
	KindGap Kind = 5
)

// Identity names the partition that an entry belongs to. The stamp's checksum covers it, so that an intact
// entry fails its checksum in any other partition.
type Identity struct {
	Topic     [16]byte // a UUID, different when a topic is deleted and created again
	Partition uint32
}

// Seed returns the checksum of the identity, with which every stamp checksum of the partition starts.
func (id Identity) Seed() uint32 {
	var b [20]byte
	copy(b[:], id.Topic[:])
	le.PutUint32(b[16:], id.Partition)
	return crc32c.Update(0, b[:])
}

// Stamp is the broker's part of an entry.
//
//	0        4       8      9       10      12      16     24      32            40           48
//	+--------+-------+------+-------+-------+-------+------+-------+-------------+------------+---------+
//	| crc    | length| kind | flags | skip  | count | term | index | base offset | append ms  | payload |
//	+--------+-------+------+-------+-------+-------+------+-------+-------------+------------+---------+
//
// crc covers the partition's identity, bytes 4 to 48, and the first four bytes of the payload, which are the
// payload's own checksum. So it binds the stamp to its payload. length is the size of the payload in bytes.
// Where both are zero, nothing was written.
type Stamp struct {
	Length     uint32 // payload bytes, at least 4
	Kind       Kind
	Flags      uint8  // StampCut or 0
	Skip       uint16 // entries, besides one, that a KindGap stands for; else 0
	Count      uint32 // records; 0 unless Kind is KindData or KindGap
	Term       uint64 // leader's term; 1 without a cluster
	Index      uint64 // position among all entries of the partition, from 1
	BaseOffset uint64 // offset of the first record, or of the next data entry's
	Time       int64  // append time of the broker in milliseconds since 1970 UTC
}

// StampCut marks an entry that the broker made for a delivery from a part of a stored batch. It is never
// stored.
const StampCut = 1 << 0

// NextOffset returns the offset behind the entry's last record.
func (s *Stamp) NextOffset() uint64 { return s.BaseOffset + uint64(s.Count) }

// NextIndex returns the index of the next entry.
func (s *Stamp) NextIndex() uint64 { return s.Index + 1 + uint64(s.Skip) }

// Size returns the size of the whole entry.
func (s *Stamp) Size() int { return StampBytes + int(s.Length) }

// Put writes the stamp to b[:StampBytes]. The payload must already be behind it in b. seed is the partition's
// Identity.Seed.
func (s *Stamp) Put(b []byte, seed uint32) {
	s.PutFields(b)
	le.PutUint32(b[0:], stampChecksum(b, seed))
}

// PutFields is Put without the checksum; see SealStamps.
func (s *Stamp) PutFields(b []byte) {
	_ = b[StampBytes-1]
	le.PutUint32(b[4:], s.Length)
	b[8] = byte(s.Kind)
	b[9] = s.Flags
	le.PutUint16(b[10:], s.Skip)
	le.PutUint32(b[12:], s.Count)
	le.PutUint64(b[16:], s.Term)
	le.PutUint64(b[24:], s.Index)
	le.PutUint64(b[32:], s.BaseOffset)
	le.PutUint64(b[40:], uint64(s.Time))
}

// SealStamps adds the checksums to the stamps of the entries that fill b, one directly behind the other, which is faster
// than one by one.
func SealStamps(b []byte, seed uint32) { crc32c.SealHeads(b, seed) }

func stampChecksum(b []byte, seed uint32) uint32 {
	return crc32c.Update(seed, b[4:StampBytes+4])
}

// View sets s from the start of an entry. It checks nothing; see CheckStamp. b must have StampBytes bytes.
func (s *Stamp) View(b []byte) {
	_ = b[StampBytes-1]
	s.Length = le.Uint32(b[4:])
	s.Kind = Kind(b[8])
	s.Flags = b[9]
	s.Skip = le.Uint16(b[10:])
	s.Count = le.Uint32(b[12:])
	s.Term = le.Uint64(b[16:])
	s.Index = le.Uint64(b[24:])
	s.BaseOffset = le.Uint64(b[32:])
	s.Time = int64(le.Uint64(b[40:]))
}

// CheckStamp reports whether b starts with a stamp that is intact and belongs to the partition with
// this seed. It looks at StampBytes+4 bytes and says nothing about the rest of the payload.
func CheckStamp(b []byte, seed uint32) bool {
	if len(b) < StampBytes+4 {
		return false
	}
	n := le.Uint32(b[4:])
	return n >= 4 && n <= MaxFrameBytes && (le.Uint16(b[10:]) == 0 || b[8] == byte(KindGap)) &&
		b[8] >= byte(KindData) && b[8] <= byte(KindGap) && b[9]&^StampCut == 0 &&
		stampChecksum(b, seed) == le.Uint32(b)
}

// Entry is a stamp with its payload.
type Entry struct {
	Stamp
	Payload []byte // a view; an encoded batch for KindData
}

// ParseEntry returns the entry at the start of b and the bytes behind it. It checks the stamp and the
// payload's checksum. The payload is a view of b. ErrEnd means that b is empty or starts with zeros, ErrShort
// that the entry is cut, ErrEntry that it is damaged or belongs to another partition.
func ParseEntry(b []byte, seed uint32) (Entry, []byte, error) {
	e, rest, err := ViewEntry(b)
	if err != nil {
		return Entry{}, nil, err
	}
	if !CheckStamp(b, seed) || !PayloadOK(e.Payload) {
		return Entry{}, nil, ErrEntry
	}
	return e, rest, nil
}

// ViewEntry is ParseEntry without a check of checksums, for bytes that were checked before.
func ViewEntry(b []byte) (Entry, []byte, error) {
	if len(b) < 8 {
		return Entry{}, nil, shortEnd(b)
	}
	if le.Uint64(b) == 0 {
		return Entry{}, nil, ErrEnd
	}
	n := le.Uint32(b[4:])
	if n < 4 || n > MaxFrameBytes {
		return Entry{}, nil, ErrEntry
	}
	if len(b) < StampBytes || uint64(len(b)) < StampBytes+uint64(n) {
		return Entry{}, nil, ErrShort
	}
	var e Entry
	e.View(b)
	end := StampBytes + int(n)
	e.Payload = b[StampBytes:end:end]
	return e, b[end:], nil
}

// shortEnd returns ErrEnd when b has only zeros, and ErrShort otherwise. b is too short for an entry.
func shortEnd(b []byte) error {
	for _, c := range b {
		if c != 0 {
			return ErrShort
		}
	}
	return ErrEnd
}

// PayloadOK reports whether a payload matches its checksum, which is its first four bytes.
func PayloadOK(p []byte) bool {
	return len(p) >= 4 && crc32c.Checksum(p[4:]) == le.Uint32(p)
}

// SealPayload sets the first four bytes of p to the checksum of the bytes behind them.
func SealPayload(p []byte) {
	le.PutUint32(p, crc32c.Checksum(p[4:]))
}

// SealHead is SealPayload for a payload that is head followed by a batch: it sets the first four bytes of head.
// It computes the batch's share from the batch's own checksum, which must be right.
func SealHead(head []byte, b *Batch) {
	sum := crc32c.Update(crc32c.Checksum(head[4:]), b.raw[:4])
	le.PutUint32(head, crc32c.Join(sum, le.Uint32(b.raw), len(b.raw)-4))
}

// AppendPayload appends the payload of an entry of any kind but data: the checksum of body and body.
func AppendPayload(dst, body []byte) []byte {
	dst = le.AppendUint32(dst, crc32c.Checksum(body))
	return append(dst, body...)
}
