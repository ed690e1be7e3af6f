package wire

import "bytes"

// Record is one message inside a batch.
//
// An encoded record is its length, a byte of flags, the fields that the flags announce, and the value, which
// takes the rest:
//
//	uvarint length | flags | [varint time delta] | [uvarint n, key] | [headers] | [uvarint n, subject] | value
//	headers: uvarint n, then n bytes of ( uvarint n, name | uvarint n, value ) pairs
type Record struct {
	// Time is when the producer made the record, in milliseconds since 1970 UTC. Set by the producer; 0
	// means that only the broker's append time is known.
	Time int64
	// Key chooses the partition and identifies the record for compaction. Set by the producer; nil means
	// no key, empty means an empty key.
	Key []byte
	// Value is the payload, any bytes. nil is a tombstone, empty is an empty value.
	Value []byte
	// Headers are encoded name/value pairs; a name may repeat. Set by the producer.
	Headers Headers
	// Subject is the subject that the record was published to, or empty when that is the topic's name.
	Subject []byte
	// Removed marks the place of a record that compaction removed. It takes an offset, and consumers skip
	// it.
	Removed bool
}

const (
	recordTime    = 1 << 0 // a time delta follows
	recordKey     = 1 << 1 // a key follows
	recordHeaders = 1 << 2 // headers follow
	recordSubject = 1 << 3 // a subject follows
	recordNull    = 1 << 4 // the value is nil, not empty
	recordRemoved = 1 << 5 // compaction removed the record; no other flag is set, and nothing follows
	recordKnown   = recordTime | recordKey | recordHeaders | recordSubject | recordNull
)

// Headers is an encoded list of name/value pairs: uvarint name length, name, uvarint value length,
// value, repeated. Names may repeat and order is kept. The zero value is no headers.
type Headers []byte

// Append returns h with one more pair. It may reuse h's memory, like append.
func (h Headers) Append(name string, value []byte) Headers {
	h = appendUvarint(h, uint64(len(name)))
	h = append(h, name...)
	h = appendUvarint(h, uint64(len(value)))
	return append(h, value...)
}

// All iterates over the pairs. Names and values are views. It stops at malformed bytes; see Valid.
func (h Headers) All() func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		for b := []byte(h); len(b) > 0; {
			name, value, rest, ok := nextHeader(b)
			if !ok || !yield(name, value) {
				return
			}
			b = rest
		}
	}
}

// Get returns the first value with a name, as a view, and false when there is none.
func (h Headers) Get(name string) ([]byte, bool) {
	for n, v := range h.All() {
		if string(n) == name {
			return v, true
		}
	}
	return nil, false
}

// HeaderID is the name of the header with a message id. On a topic with a dedupe window, only the first of the
// messages with the same id is stored. HeaderNATSID is an alternative name.
const (
	HeaderID     = "rafka-id"
	HeaderNATSID = "Nats-Msg-Id"
)

// Headers of a dead letter. They stand in front of the record's own.
const (
	HeaderDeadTopic     = "rafka-dead-topic"      // where the record came from
	HeaderDeadPartition = "rafka-dead-partition"  // decimal
	HeaderDeadOffset    = "rafka-dead-offset"     // decimal
	HeaderDeadGroup     = "rafka-dead-group"      // the queue or group that gave up
	HeaderDeadReason    = "rafka-dead-reason"     // what the last failure said
	HeaderDeadAttempts  = "rafka-dead-attempts"   // deliveries, decimal
	HeaderDeadFirst     = "rafka-dead-first-time" // first failure, RFC 3339
	HeaderDeadLast      = "rafka-dead-last-time"  // last failure, RFC 3339
)

// ID returns the message id in h as a view, or nil when there is none. Names are compared without case.
func (h Headers) ID() []byte {
	for n, v := range h.All() {
		if len(v) > 0 && (bytes.EqualFold(n, []byte(HeaderID)) || bytes.EqualFold(n, []byte(HeaderNATSID))) {
			return v
		}
	}
	return nil
}

// Valid reports whether h consists of well-formed pairs and has at most MaxHeaderBytes.
func (h Headers) Valid() bool {
	if len(h) > MaxHeaderBytes {
		return false
	}
	for b := []byte(h); len(b) > 0; {
		var ok bool
		if _, _, b, ok = nextHeader(b); !ok {
			return false
		}
	}
	return true
}

func nextHeader(b []byte) (name, value, rest []byte, ok bool) {
	if name, b, ok = lengthPrefixed(b, MaxHeaderBytes); !ok {
		return nil, nil, nil, false
	}
	value, rest, ok = lengthPrefixed(b, MaxHeaderBytes)
	return name, value, rest, ok
}

// bodyLen returns the size of the encoded record without its length.
func (r *Record) bodyLen(delta int64) int {
	n := 1 + len(r.Value)
	if delta != 0 {
		n += uvarintLen(zigzag(delta))
	}
	if r.Key != nil {
		n += uvarintLen(uint64(len(r.Key))) + len(r.Key)
	}
	if len(r.Headers) > 0 {
		n += uvarintLen(uint64(len(r.Headers))) + len(r.Headers)
	}
	if len(r.Subject) > 0 {
		n += uvarintLen(uint64(len(r.Subject))) + len(r.Subject)
	}
	return n
}

// append appends the encoded record. base is the batch's base time.
func (r *Record) append(dst []byte, base int64) []byte {
	var delta int64
	if r.Time != 0 {
		delta = r.Time - base
	}
	dst = appendUvarint(dst, uint64(r.bodyLen(delta)))
	at := len(dst)
	dst = append(dst, 0)
	var flags byte
	if delta != 0 {
		flags |= recordTime
		dst = appendUvarint(dst, zigzag(delta))
	}
	if r.Key != nil {
		flags |= recordKey
		dst = appendUvarint(dst, uint64(len(r.Key)))
		dst = append(dst, r.Key...)
	}
	if len(r.Headers) > 0 {
		flags |= recordHeaders
		dst = appendUvarint(dst, uint64(len(r.Headers)))
		dst = append(dst, r.Headers...)
	}
	if len(r.Subject) > 0 {
		flags |= recordSubject
		dst = appendUvarint(dst, uint64(len(r.Subject)))
		dst = append(dst, r.Subject...)
	}
	if r.Value == nil {
		flags |= recordNull
	}
	dst[at] = flags
	return append(dst, r.Value...)
}

// parse sets r from an encoded record without its length. base is the batch's base time.
func (r *Record) parse(b []byte, base int64) bool {
	if len(b) == 1 && b[0] == recordRemoved {
		*r = Record{Removed: true}
		return true
	}
	if len(b) == 0 || b[0]&^recordKnown != 0 {
		return false
	}
	flags, b := b[0], b[1:]
	if flags == 0 { // nothing but a value, like most
		*r = Record{Time: base, Value: b[:len(b):len(b)]}
		return true
	}
	*r = Record{Time: base}
	var ok bool
	if flags&recordTime != 0 {
		var delta int64
		if delta, b, ok = varint(b); !ok || delta == 0 {
			return false
		}
		r.Time += delta
	}
	if flags&recordKey != 0 {
		if r.Key, b, ok = lengthPrefixed(b, MaxKeyBytes); !ok {
			return false
		}
	}
	if flags&recordHeaders != 0 {
		var h []byte
		if h, b, ok = lengthPrefixed(b, MaxHeaderBytes); !ok || len(h) == 0 || !Headers(h).Valid() {
			return false
		}
		r.Headers = h
	}
	if flags&recordSubject != 0 {
		if r.Subject, b, ok = lengthPrefixed(b, MaxSubjectBytes); !ok || len(r.Subject) == 0 {
			return false
		}
	}
	if flags&recordNull != 0 {
		return len(b) == 0
	}
	r.Value = b[:len(b):len(b)]
	return true
}
