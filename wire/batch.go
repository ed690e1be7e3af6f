package wire

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/rafka-mq/rafka/wire/crc32c"
)

var le = binary.LittleEndian

func appendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}

// Codec names how the records of a batch are compressed.
type Codec uint8

// The codecs. The broker stores every codec as it comes and never opens it.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1
	CodecZstd Codec = 2
	CodecLZ4  Codec = 3
)

var codecNames = [...]string{"none", "s2", "zstd", "lz4"}

// String returns the codec's name.
func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return "unknown"
}

// ParseCodec returns the codec of a name and whether there is one.
func ParseCodec(name string) (Codec, bool) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), true
		}
	}
	return 0, false
}

const (
	attrCodec    = 0x07
	attrTime     = 1 << 3
	attrProducer = 1 << 4
	attrIDs      = 1 << 5
	attrTTL      = 1 << 6
	attrThinned  = 1 << 7
)

// minBatch is the checksum, the attributes and a count of one byte.
const minBatch = 4 + 1 + 1

// Producer identifies one position in the stream of an idempotent producer.
type Producer struct {
	ID       uint64 // given out by the broker; 0 means none
	Epoch    uint64 // raised when a producer takes over an id
	Sequence uint64 // of the batch's first record, counting records per partition
}

// Batch is a view of an encoded batch:
//
//	0        4            5
//	+--------+------------+---------------+------------------+-------------------------------+------------------+---------+
//	| crc32c | attributes | uvarint count | [varint base ms] | [uvarint id, epoch, sequence] | [uvarint ttl ms] | records |
//	+--------+------------+---------------+------------------+-------------------------------+------------------+---------+
//
// The checksum covers everything behind itself. Attributes: bits 0-2 codec, bit 3 base time present,
// bit 4 producer present, bit 5 some records have a message id, bit 6 time to live present, bit 7
// compaction removed records. A compressed batch has the uvarint size of its decompressed records before the compressed
// bytes.
type Batch struct {
	raw      []byte
	records  []byte
	count    uint32
	unpacked uint32 // size of the decompressed records; compressed batches only
	baseTime int64
	ttl      int64 // ms; 0 means for ever
	producer Producer
}

// ParseBatch reads the header of the batch that fills b and checks its checksum. The records are
// not walked; see Validate. The batch is a view of b. It returns ErrBatch or ErrBatchChecksum.
func ParseBatch(b []byte) (Batch, error) {
	var batch Batch
	err := batch.Parse(b)
	return batch, err
}

// ViewBatch is ParseBatch for bytes whose checksum was already checked.
func ViewBatch(b []byte) (Batch, error) {
	var batch Batch
	err := batch.view(b)
	return batch, err
}

// Parse is ParseBatch into a batch that is reused: the broker's publish path copies nothing twice.
// After an error the batch must not be used.
func (b *Batch) Parse(raw []byte) error {
	if len(raw) < minBatch {
		return ErrBatch
	}
	if crc32c.Checksum(raw[4:]) != le.Uint32(raw) {
		return ErrBatchChecksum
	}
	return b.view(raw)
}

func (b *Batch) view(raw []byte) error {
	if len(raw) < minBatch || raw[4]&attrCodec > byte(CodecLZ4) {
		return ErrBatch
	}
	count, rest, ok := uvarint(raw[5:])
	if !ok || count == 0 || count > MaxBatchRecords {
		return ErrBatch
	}
	b.raw, b.records, b.count = raw, rest, uint32(count)
	b.unpacked, b.baseTime, b.ttl, b.producer = 0, 0, 0, Producer{}
	if raw[4] == 0 { // the plain batch: nothing optional
		return nil
	}
	return b.viewOptional(raw[4], rest)
}

// viewOptional reads the fields that the attributes announce.
func (b *Batch) viewOptional(attrs byte, rest []byte) error {
	var ok bool
	if attrs&attrTime != 0 {
		if b.baseTime, rest, ok = varint(rest); !ok {
			return ErrBatch
		}
	}
	if attrs&attrProducer != 0 {
		if rest, ok = b.producer.parse(rest); !ok {
			return ErrBatch
		}
	}
	if attrs&attrTTL != 0 {
		var ttl uint64
		if ttl, rest, ok = uvarint(rest); !ok || ttl == 0 || ttl > MaxTTLMs {
			return ErrBatch
		}
		b.ttl = int64(ttl)
	}
	if attrs&attrCodec != 0 {
		var size uint64
		if size, rest, ok = uvarint(rest); !ok || size > MaxDecompressedBytes {
			return ErrBatch
		}
		b.unpacked = uint32(size)
	}
	b.records = rest
	return nil
}

func (p *Producer) parse(b []byte) (rest []byte, ok bool) {
	if p.ID, b, ok = uvarint(b); !ok || p.ID == 0 {
		return nil, false
	}
	if p.Epoch, b, ok = uvarint(b); !ok {
		return nil, false
	}
	p.Sequence, b, ok = uvarint(b)
	return b, ok
}

// Raw returns the whole encoded batch.
func (b *Batch) Raw() []byte { return b.raw }

// Count returns how many records the batch says it has; at least 1.
func (b *Batch) Count() uint32 { return b.count }

// Codec returns how the records are compressed.
func (b *Batch) Codec() Codec { return Codec(b.raw[4] & attrCodec) }

// BaseTime returns the producer's base time in milliseconds, 0 when the batch carries no times.
func (b *Batch) BaseTime() int64 { return b.baseTime }

// HasIDs reports whether the producer says that records have message ids; see Headers.ID.
func (b *Batch) HasIDs() bool { return b.raw[4]&attrIDs != 0 }

// Thinned reports whether compaction removed records; see Record.Removed.
func (b *Batch) Thinned() bool { return b.raw[4]&attrThinned != 0 }

// TTL returns for how many milliseconds after their append the records are delivered, 0 for ever.
func (b *Batch) TTL() int64 { return b.ttl }

// Producer returns the idempotent producer's position; its ID is 0 when there is none.
func (b *Batch) Producer() Producer { return b.producer }

// Packed returns the records as stored, compressed or not, and their decompressed size.
func (b *Batch) Packed() (records []byte, unpackedBytes int) {
	if b.Codec() == CodecNone {
		return b.records, len(b.records)
	}
	return b.records, int(b.unpacked)
}

// Unpacked returns b with its records replaced by their decompressed bytes, which must have the
// announced size.
func (b *Batch) Unpacked(records []byte) (Batch, error) {
	if len(records) != int(b.unpacked) {
		return Batch{}, ErrBatch
	}
	u := *b
	u.records = records
	return u, nil
}

// Records walks the records of an uncompressed (or unpacked) batch in order. The records are views.
// It yields ErrBatch once, as the last step, when the bytes do not hold exactly Count records.
func (b *Batch) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r := b.Reader(); ; {
			var rec Record
			ok, err := r.Next(&rec)
			if !ok && err == nil || !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// RecordReader is Records for who reads on later: it reads the records one by one. The zero value has
// none.
type RecordReader struct {
	rest     []byte
	left     uint32
	baseTime int64
}

// Reader returns a reader of the records of an uncompressed (or unpacked) batch.
func (b *Batch) Reader() RecordReader {
	return RecordReader{rest: b.records, left: b.count, baseTime: b.baseTime}
}

// Left returns how many records come, according to the batch.
func (r *RecordReader) Left() int { return int(r.left) }

// Next sets rec to the next record, whose fields are views. It returns false behind the last one, and with
// ErrBatch where the bytes do not hold exactly Count records.
func (r *RecordReader) Next(rec *Record) (bool, error) {
	if r.left > 0 {
		if body, rest, ok := splitRecord(r.rest); ok && rec.parse(body, r.baseTime) {
			r.rest = rest
			r.left--
			return true, nil
		}
	}
	whole := r.left == 0 && len(r.rest) == 0
	*r, *rec = RecordReader{}, Record{}
	if whole {
		return false, nil
	}
	return false, ErrBatch
}

// Validate walks every record of an uncompressed batch: all fields well formed, exactly Count of
// them, none larger than maxRecord bytes. A compressed batch is opaque and always passes: its reader
// checks it. A batch that says it was compacted is no producer's. It returns ErrBatch or
// ErrRecordTooLarge.
func (b *Batch) Validate(maxRecord int) error {
	if b.Thinned() {
		return ErrBatch
	}
	if b.Codec() != CodecNone {
		return nil
	}
	rest := b.records
	for range b.count {
		body, next, ok := splitRecord(rest)
		if !ok || body[0] != 0 && !validRecord(body) {
			return ErrBatch
		}
		if len(body) > maxRecord {
			return ErrRecordTooLarge
		}
		rest = next
	}
	if len(rest) != 0 {
		return ErrBatch
	}
	return nil
}

// splitRecord splits off a record's body, at least one byte. Lengths of one and two bytes, which are
// nearly all, take the short way: this runs once for every record that is published.
func splitRecord(b []byte) (body, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n, at := int(b[0]), 1
	if n >= 0x80 {
		if b[1] == 0 || b[1] >= 0x80 {
			body, rest, ok = lengthPrefixed(b, MaxFrameBytes)
			return body, rest, ok && len(body) > 0
		}
		n, at = n&0x7f|int(b[1])<<7, 2
	}
	if n == 0 || n > len(b)-at {
		return nil, nil, false
	}
	return b[at : at+n], b[at+n:], true
}

// validRecord is Record.parse without building the record; the plain cases return early.
func validRecord(b []byte) bool {
	if b[0] == recordKey && len(b) > 1 && b[1] < 0x80 {
		return int(b[1]) <= len(b)-2
	}
	var r Record
	return r.parse(b, 0) && !r.Removed
}

// Cut appends to dst a batch that holds the records [from, to) of the uncompressed batch b, with
// its own checksum, and returns the extended slice. The producer's position is left out: it belongs
// to the whole batch. It panics unless from < to <= Count.
func (b *Batch) Cut(dst []byte, from, to uint32) ([]byte, error) {
	if from >= to || to > b.count || b.Codec() != CodecNone {
		panic("wire: cut outside the batch")
	}
	start := b.records
	var ok bool
	for range from {
		if _, start, ok = lengthPrefixed(start, MaxFrameBytes); !ok {
			return dst, ErrBatch
		}
	}
	end := start
	for range to - from {
		if _, end, ok = lengthPrefixed(end, MaxFrameBytes); !ok {
			return dst, ErrBatch
		}
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, b.raw[4]&(attrTime|attrIDs|attrTTL|attrThinned))
	dst = appendUvarint(dst, uint64(to-from))
	if b.raw[4]&attrTime != 0 {
		dst = appendUvarint(dst, zigzag(b.baseTime))
	}
	if b.ttl != 0 {
		dst = appendUvarint(dst, uint64(b.ttl))
	}
	dst = append(dst, start[:len(start)-len(end)]...)
	le.PutUint32(dst[at:], crc32c.Checksum(dst[at+4:]))
	return dst, nil
}

// AppendStamped appends to dst the batch b with another producer's position, and returns the extended
// slice. The records stay as they are, compressed or not.
func (b *Batch) AppendStamped(dst []byte, p Producer) []byte {
	at := len(dst)
	attrs := b.raw[4] &^ attrProducer
	if p.ID != 0 {
		attrs |= attrProducer
	}
	dst = append(dst, 0, 0, 0, 0, attrs)
	dst = appendUvarint(dst, uint64(b.count))
	if attrs&attrTime != 0 {
		dst = appendUvarint(dst, zigzag(b.baseTime))
	}
	if p.ID != 0 {
		dst = appendUvarint(dst, p.ID)
		dst = appendUvarint(dst, p.Epoch)
		dst = appendUvarint(dst, p.Sequence)
	}
	if b.ttl != 0 {
		dst = appendUvarint(dst, uint64(b.ttl))
	}
	if b.Codec() != CodecNone {
		dst = appendUvarint(dst, uint64(b.unpacked))
	}
	dst = append(dst, b.records...)
	le.PutUint32(dst[at:], crc32c.Checksum(dst[at+4:]))
	return dst
}

// headerRoom is the largest batch header before the records: checksum, attributes, count, base time,
// three producer numbers, time to live and the decompressed size.
const headerRoom = 4 + 1 + 3 + 10 + 3*10 + 7 + 5

// builderRoom is what a builder leaves in front of the records.
const builderRoom = FrameRoom + headerRoom

// BatchBuilder collects records into one batch. The zero value is ready. It is not safe for
// concurrent use.
type BatchBuilder struct {
	buf      []byte // builderRoom bytes, then the encoded records
	sum      uint32 // checksum of the records in front of summed
	summed   int    // position in buf; 0 when nothing is summed up
	count    uint32
	timed    bool
	baseTime int64
	ids      bool
	thinned  bool
	ttl      int64
	producer Producer
}

// Reset empties the builder and keeps its memory.
func (b *BatchBuilder) Reset() {
	*b = BatchBuilder{buf: b.buf[:0]}
}

// Grow makes room for a batch of n bytes in all.
func (b *BatchBuilder) Grow(n int) { b.buf = slices.Grow(b.buf, max(0, n-len(b.buf))) }

// Add appends a record, copying its bytes. The first record decides whether the batch carries
// times: a later record without a time then counts as made at the base time, and a later record
// with a time in a batch without times loses it. Check Timed before mixing them.
func (b *BatchBuilder) Add(r Record) {
	if b.count == 0 {
		b.begin(r.Time)
	}
	if !b.timed {
		r.Time = 0
	}
	b.buf = r.append(b.buf, b.baseTime)
	b.count++
}

func (b *BatchBuilder) begin(baseTime int64) {
	b.buf = append(b.buf[:0], make([]byte, builderRoom)...)
	b.timed = baseTime != 0
	b.baseTime = baseTime
}

// AddPlain is Add for a record with nothing but a key, nil for none, and a value: 10 ns instead of 14.
func (b *BatchBuilder) AddPlain(key, value []byte) {
	if value == nil {
		b.Add(Record{Key: key})
		return
	}
	if b.count == 0 {
		b.begin(0)
	}
	b.count++
	if key == nil {
		buf := appendUvarint(b.buf, uint64(1+len(value)))
		b.buf = append(append(buf, 0), value...)
		return
	}
	n := uint64(len(key))
	buf := appendUvarint(b.buf, 1+uint64(uvarintLen(n))+n+uint64(len(value)))
	buf = appendUvarint(append(buf, recordKey), n)
	b.buf = append(append(buf, key...), value...)
}

// sumBytes is how much is summed up ahead at a time: it is in the nearest cache still, and the long way of
// the checksum is taken.
const sumBytes = 8 << 10

// SumAhead takes the checksum of records soon after they were added, as soon as they are enough for that.
// For a batch that grows large and waits before Bytes is called this is cheaper than to fetch all of it
// into the processor's cache again. A batch that will be compressed does not need it.
func (b *BatchBuilder) SumAhead() {
	if len(b.buf)-b.summed >= builderRoom+sumBytes {
		b.sumUp()
	}
}

func (b *BatchBuilder) sumUp() {
	from := max(b.summed, builderRoom)
	b.sum = crc32c.Update(b.sum, b.buf[from:])
	b.summed = len(b.buf)
}

// SetProducer stamps the batch with an idempotent producer's position.
func (b *BatchBuilder) SetProducer(p Producer) { b.producer = p }

// MarkIDs says that records have message ids: the broker looks for them in no other batch.
func (b *BatchBuilder) MarkIDs() { b.ids = true }

// SetTTL has the records delivered for ms milliseconds after their append only; 0 means for ever. It
// is at most MaxTTLMs.
func (b *BatchBuilder) SetTTL(ms int64) { b.ttl = ms }

// Timed reports whether the batch carries record times.
func (b *BatchBuilder) Timed() bool { return b.timed }

// Count returns the number of records added since the last Reset.
func (b *BatchBuilder) Count() int { return int(b.count) }

// Size returns an upper bound of the encoded batch in bytes.
func (b *BatchBuilder) Size() int { return max(len(b.buf), builderRoom) }

// Records returns the encoded records without the header, for a codec to compress. The slice is
// valid until the next call.
func (b *BatchBuilder) Records() []byte {
	if b.count == 0 {
		return nil
	}
	return b.buf[builderRoom:]
}

// Bytes returns the encoded batch, uncompressed. The slice is valid until the next call of Add or
// Reset. It panics when the builder is empty: a batch has at least one record.
func (b *BatchBuilder) Bytes() []byte { return b.BytesBehind(0) }

// FrameRoom is how much BytesBehind leaves in front of a batch at most.
const FrameRoom = 16

// BytesBehind is Bytes with n bytes in front, at most FrameRoom, which the caller may set: the head of a
// frame.
func (b *BatchBuilder) BytesBehind(n int) []byte {
	head := b.header(make([]byte, 0, headerRoom), CodecNone, 0)
	at := builderRoom - len(head)
	b.sign(head, b.buf[at:])
	return b.buf[at-n:]
}

// sign puts the head in front of the records, with the checksum of both.
func (b *BatchBuilder) sign(head, batch []byte) {
	copy(batch, head)
	if b.summed == 0 {
		le.PutUint32(batch, crc32c.Checksum(batch[4:]))
		return
	}
	b.sumUp()
	le.PutUint32(batch, crc32c.Join(crc32c.Checksum(batch[4:len(head)]), b.sum, len(b.buf)-builderRoom))
}

// AppendCompressed appends the encoded batch to dst with packed, the compressed form of Records, in
// place of the records.
func (b *BatchBuilder) AppendCompressed(dst []byte, c Codec, packed []byte) []byte {
	at := len(dst)
	dst = b.header(dst, c, len(b.Records()))
	dst = append(dst, packed...)
	le.PutUint32(dst[at:], crc32c.Checksum(dst[at+4:]))
	return dst
}

func (b *BatchBuilder) header(dst []byte, c Codec, unpacked int) []byte {
	if b.count == 0 {
		panic("wire: empty batch")
	}
	attrs := byte(c)
	if b.timed {
		attrs |= attrTime
	}
	if b.producer.ID != 0 {
		attrs |= attrProducer
	}
	if b.ids {
		attrs |= attrIDs
	}
	if b.ttl != 0 {
		attrs |= attrTTL
	}
	if b.thinned {
		attrs |= attrThinned
	}
	dst = append(dst, 0, 0, 0, 0, attrs)
	dst = appendUvarint(dst, uint64(b.count))
	if b.timed {
		dst = appendUvarint(dst, zigzag(b.baseTime))
	}
	if b.producer.ID != 0 {
		dst = appendUvarint(dst, b.producer.ID)
		dst = appendUvarint(dst, b.producer.Epoch)
		dst = appendUvarint(dst, b.producer.Sequence)
	}
	if b.ttl != 0 {
		dst = appendUvarint(dst, uint64(b.ttl))
	}
	if c != CodecNone {
		dst = appendUvarint(dst, uint64(unpacked))
	}
	return dst
}
