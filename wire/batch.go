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

// The codecs. The broker stores a compressed batch as it is, without a look inside. It opens one where it needs
// single records: to compact a topic, to find a key, to apply a filter, for a dead letter, or for a text client.
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

// ParseCodec returns the codec with a name, and false when there is none.
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

// Producer is a position in the stream of an idempotent producer.
type Producer struct {
	ID       uint64 // chosen by the producer; 0 means none
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
// The checksum covers all bytes behind it. Attributes: bits 0-2 codec, bit 3 base time present, bit 4
// producer present, bit 5 some records have a message id, bit 6 time to live present, bit 7 compaction
// removed records. In a compressed batch, the uvarint size of the decompressed records stands before the
// compressed bytes.
type Batch struct {
	raw      []byte
	records  []byte
	count    uint32
	unpacked uint32 // size of the decompressed records; compressed batches only
	baseTime int64
	ttl      int64 // in ms; 0 means no limit
	producer Producer
}

// ParseBatch reads the header of the batch that fills b, and checks its checksum. It does not look at the
// records; see Validate. The batch is a view of b. The error is ErrBatch or ErrBatchChecksum.
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

// Parse is ParseBatch into b, which saves the publish path a copy of the struct. After an error b must not
// be used.
func (b *Batch) Parse(raw []byte) error {
	if len(raw) < minBatch {
		return ErrBatch
	}
	if crc32c.Checksum(raw[4:]) != le.Uint32(raw) {
		return ErrBatchChecksum
	}
	return b.view(raw)
}

// view sets b to a view of raw, without a check of the checksum.
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

// HasIDs reports whether the producer says that records have message ids; see Headers.ID.
func (b *Batch) HasIDs() bool { return b.raw[4]&attrIDs != 0 }

// Thinned reports whether compaction removed records; see Record.Removed.
func (b *Batch) Thinned() bool { return b.raw[4]&attrThinned != 0 }

// TTL returns how many milliseconds after their append the records expire, or 0 when they do not.
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

// Unpacked returns b with records, which are its decompressed records, in place of the compressed ones. The
// result is a view of records. It returns ErrBatch when they do not have the announced size.
func (b *Batch) Unpacked(records []byte) (Batch, error) {
	if len(records) != int(b.unpacked) {
		return Batch{}, ErrBatch
	}
	u := *b
	u.records = records
	return u, nil
}

// Records iterates over the records of an uncompressed (or unpacked) batch. The records are views. When the
// bytes do not hold exactly Count records, the last step yields ErrBatch.
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

// RecordReader reads the records of a batch one by one, for callers that cannot use an iterator. The zero
// value has no records.
type RecordReader struct {
	rest     []byte
	left     uint32
	baseTime int64
}

// Reader returns a reader of the records of an uncompressed (or unpacked) batch.
func (b *Batch) Reader() RecordReader {
	return RecordReader{rest: b.records, left: b.count, baseTime: b.baseTime}
}

// Left returns how many records are left, according to the batch.
func (r *RecordReader) Left() int { return int(r.left) }

// Next sets rec to the next record, whose fields are views. It returns false behind the last one. When the
// bytes do not hold exactly Count records, it returns false with ErrBatch.
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

// Validate checks the records of a batch from a producer: there are exactly Count, all are well formed, and
// none has more than maxRecord bytes of key, headers and value. It does not open a compressed batch, which its
// readers check. It refuses a batch that is marked as compacted. The error is ErrBatch or ErrRecordTooLarge.
func (b *Batch) Validate(maxRecord int) error {
	if b.Thinned() {
		return ErrBatch
	}
	if b.Codec() != CodecNone {
		return nil
	}
	if plainRecords(b.records, b.count, maxRecord) {
		return nil
	}
	rest := b.records
	for range b.count {
		body, next, ok := splitRecord(rest)
		if !ok || body[0] != 0 && !validRecord(body) {
			return ErrBatch
		}
		if len(body) > maxRecord && (len(body) > MaxRecordBytes || contentLen(body) > maxRecord) {
			return ErrRecordTooLarge
		}
		rest = next
	}
	if len(rest) != 0 {
		return ErrBatch
	}
	return nil
}

// splitRecord splits off a record's body, at least one byte. It has a fast path for lengths of one and two
// bytes, because it runs once for every record that is read.
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

// validRecord reports whether b is the body of a record that a producer may send. It has a fast path for a
// record with a key and a value.
func validRecord(b []byte) bool {
	if b[0] == recordKey && len(b) > 1 && b[1] < 0x80 {
		return int(b[1]) <= len(b)-2
	}
	var r Record
	return r.parse(b, 0) && !r.Removed
}

// contentLen returns the size of the key, headers and value in the body of a valid record. Its subject, and what
// separates the fields, do not count: a NATS client may send as much as INFO says, to any subject.
func contentLen(body []byte) int {
	var r Record
	r.parse(body, 0)
	n := len(r.Key) + len(r.Value)
	for name, value := range r.Headers.All() {
		n += len(name) + len(value)
	}
	return n
}

// Cut appends to dst a batch of the records [from, to) of b, which must not be compressed, and returns the
// extended slice. It leaves out the producer's position, which belongs to the whole batch. It panics unless
// from < to <= Count. It returns ErrBatch when b is malformed.
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

// AppendStamped appends to dst the batch b with p as its producer's position, and returns the extended slice.
// The records stay as they are, compressed or not.
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

// builderRoom is the room that a builder leaves in front of the records.
const builderRoom = FrameRoom + headerRoom

// BatchBuilder collects records into one batch. The zero value is ready. It is not safe for
// concurrent use.
type BatchBuilder struct {
	buf      []byte // builderRoom bytes, then the encoded records
	sum      uint32 // checksum of the records in buf[builderRoom:summed]
	summed   int    // 0 when there is no sum yet
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

// Grow makes room for a batch of n bytes.
func (b *BatchBuilder) Grow(n int) { b.buf = slices.Grow(b.buf, max(0, n-len(b.buf))) }

// Add appends a record. It copies the record's bytes. The first record decides whether the batch carries
// times. If it does, a later record without a time gets that of the first; if not, a later record loses its
// time.
func (b *BatchBuilder) Add(r Record) {
	if b.count == 0 {
		b.begin(r.Time)
	}
	if !b.timed {
		r.Time = 0
	}
	b.makeRoom(len(r.Key) + len(r.Value) + len(r.Headers) + len(r.Subject))
	b.buf = r.append(b.buf, b.baseTime)
	b.count++
}

// recordRoom is more than most records have around their content. For others append makes room.
const recordRoom = 32

// makeRoom makes room for a record with size bytes of content. The memory doubles: append would take a quarter more at a
// time, and copy the batch each time.
func (b *BatchBuilder) makeRoom(size int) {
	if size += recordRoom; cap(b.buf)-len(b.buf) < size {
		b.Grow(2*cap(b.buf) + size)
	}
}

func (b *BatchBuilder) begin(baseTime int64) {
	b.buf = append(b.buf[:0], make([]byte, builderRoom)...)
	b.timed = baseTime != 0
	b.baseTime = baseTime
}

// AddPlain is Add for a record that has only a key, nil for none, and a value. It takes 10 ns instead of 14.
func (b *BatchBuilder) AddPlain(key, value []byte) {
	if value == nil {
		b.Add(Record{Key: key})
		return
	}
	if b.count == 0 {
		b.begin(0)
	}
	b.makeRoom(len(key) + len(value))
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

// sumBytes is how much SumAhead adds to the checksum at a time: little enough to be in the processor's nearest
// cache still, and enough for the fast loop of the checksum.
const sumBytes = 8 << 10

// SumAhead adds recently added records to the checksum, once there are sumBytes of them. Call it after Add
// for a batch that grows large before Bytes is called: then Bytes need not fetch all of it into the
// processor's cache again. It is useless for a batch that will be compressed.
func (b *BatchBuilder) SumAhead() {
	if len(b.buf)-b.summed >= builderRoom+sumBytes {
		b.sumUp()
	}
}

// sumUp adds all records to the checksum.
func (b *BatchBuilder) sumUp() {
	from := max(b.summed, builderRoom)
	b.sum = crc32c.Update(b.sum, b.buf[from:])
	b.summed = len(b.buf)
}

// SetProducer stamps the batch with an idempotent producer's position.
func (b *BatchBuilder) SetProducer(p Producer) { b.producer = p }

// MarkIDs says that records have message ids. The broker ignores the ids in a batch without this mark.
func (b *BatchBuilder) MarkIDs() { b.ids = true }

// SetTTL makes the records expire ms milliseconds after their append, at most MaxTTLMs; 0 means never.
func (b *BatchBuilder) SetTTL(ms int64) { b.ttl = ms }

// Count returns the number of records added since the last Reset.
func (b *BatchBuilder) Count() int { return int(b.count) }

// Size returns an upper bound of the size of the uncompressed batch in bytes.
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

// FrameRoom is the largest n of BytesBehind.
const FrameRoom = 16

// BytesBehind is Bytes with n bytes in front of the batch, which the caller may set: the head of a frame.
func (b *BatchBuilder) BytesBehind(n int) []byte {
	head := b.header(make([]byte, 0, headerRoom), CodecNone, 0)
	at := builderRoom - len(head)
	b.sign(head, b.buf[at:])
	return b.buf[at-n:]
}

// sign copies head to the start of batch, whose records stand behind it, and sets the checksum.
func (b *BatchBuilder) sign(head, batch []byte) {
	copy(batch, head)
	if b.summed == 0 {
		le.PutUint32(batch, crc32c.Checksum(batch[4:]))
		return
	}
	b.sumUp()
	le.PutUint32(batch, crc32c.Join(crc32c.Checksum(batch[4:len(head)]), b.sum, len(b.buf)-builderRoom))
}

// AppendCompressed appends to dst the encoded batch with packed, the compressed form of Records, in place of
// the records.
func (b *BatchBuilder) AppendCompressed(dst []byte, c Codec, packed []byte) []byte {
	at := len(dst)
	dst = b.header(dst, c, len(b.Records()))
	dst = append(dst, packed...)
	le.PutUint32(dst[at:], crc32c.Checksum(dst[at+4:]))
	return dst
}

// header appends the header of the batch, with zeros for the checksum. unpacked is the size of the
// decompressed records.
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
