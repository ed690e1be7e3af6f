package wire

import "math"

// publishFixed is the size of a Publish before its batch.
const publishFixed = 4

// Publish appends one batch to a partition. The frame's flags hold the requested durability level.
//
//	0        2           4
//	+--------+-----------+-------+
//	| handle | partition | batch |
//	+--------+-----------+-------+
type Publish struct {
	Handle    uint16
	Partition uint16
	Batch     []byte // an encoded batch; a view after Parse
}

// Append appends the encoded body.
func (m *Publish) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	return append(dst, m.Batch...)
}

// Parse sets m from a body. Batch is a view, which Parse does not check.
func (m *Publish) Parse(b []byte) error {
	if len(b) < publishFixed+minBatch {
		return ErrMalformed
	}
	m.Handle = le.Uint16(b)
	m.Partition = le.Uint16(b[2:])
	m.Batch = b[publishFixed:]
	return nil
}

// PublishReply acknowledges publishes. The frame's flags hold the level reached. With FlagRange it answers the
// frame's correlation id and the Extra ids after it. Their batches were stored in the same partition, one
// behind the other from Base on.
type PublishReply struct {
	Base  uint64 // offset of the first record
	Extra uint32 // further publishes answered; only with FlagRange
}

// Append appends the encoded body: uvarint base, and with flags&FlagRange uvarint extra.
func (m PublishReply) Append(dst []byte, flags Flags) []byte {
	dst = appendUvarint(dst, m.Base)
	if flags&FlagRange != 0 {
		dst = appendUvarint(dst, uint64(m.Extra))
	}
	return dst
}

// Parse sets m from a body that came with flags.
func (m *PublishReply) Parse(b []byte, flags Flags) error {
	base, b, ok := uvarint(b)
	if !ok {
		return ErrMalformed
	}
	*m = PublishReply{Base: base}
	if flags&FlagRange != 0 {
		extra, rest, ok := uvarint(b)
		if !ok || extra == 0 || extra > math.MaxUint32 {
			return ErrMalformed
		}
		m.Extra, b = uint32(extra), rest
	}
	if len(b) != 0 {
		return ErrMalformed
	}
	return nil
}
