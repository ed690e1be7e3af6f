package wire

// PositionKind names a way to say where to start reading.
type PositionKind uint8

// The kinds of position.
const (
	PositionOffset    PositionKind = 0 // Value is an offset
	PositionFirst     PositionKind = 1 // the first record stored
	PositionLast      PositionKind = 2 // the last visible record
	PositionEnd       PositionKind = 3 // only what comes after now
	PositionTime      PositionKind = 4 // Value is a time in ms: the first batch appended then or later
	PositionCommitted PositionKind = 5 // the group's committed offset, or the first record without one
)

// Position says where to start reading.
type Position struct {
	Kind  PositionKind
	Value uint64
}

func (p Position) append(dst []byte) []byte {
	return le.AppendUint64(append(dst, byte(p.Kind)), p.Value)
}

func (r *body) position() Position {
	p := Position{Kind: PositionKind(r.u8()), Value: r.u64()}
	if p.Kind > PositionCommitted {
		r.bad = true
	}
	return p
}

// Fetch asks for stored entries. The reply waits until MinBytes of entries are there or MaxWaitMs
// have passed. It holds whole entries: the first one is sent even when it is larger than MaxBytes,
// and may start with records before the asked offset, which the reader skips.
type Fetch struct {
	Handle    uint16
	Partition uint16
	From      Position
	MinBytes  uint32 // 0 answers at once, with nothing if there is nothing
	MaxBytes  uint32 // at most the connection's frame limit
	MaxWaitMs uint32 // at most MaxWaitMs
	Group     string // for PositionCommitted
	Filter    Filter // leaves out other records
}

// MaxWaitMs is the longest a fetch or lease may wait, in milliseconds; longer waits are cut to it.
const MaxWaitMs = 5 * 60 * 1000

// Append appends the encoded body.
func (m *Fetch) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = m.From.append(dst)
	dst = le.AppendUint32(dst, m.MinBytes)
	dst = le.AppendUint32(dst, m.MaxBytes)
	dst = le.AppendUint32(dst, m.MaxWaitMs)
	return m.Filter.append(appendStr(dst, m.Group))
}

// Parse sets m from a body. An empty Group costs no allocation.
func (m *Fetch) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.From = r.position()
	m.MinBytes = r.u32()
	m.MaxBytes = r.u32()
	m.MaxWaitMs = r.u32()
	m.Group = r.str(MaxGroupName)
	m.Filter = r.filter()
	return r.done()
}

// EntriesFixed is the size of an Entries body before its entries.
const EntriesFixed = 3 * 8

// Entries is the reply to Fetch and the body of OpDeliver.
//
//	0       8         16     24
//	+-------+---------+------+---------+
//	| first | visible | next | entries |
//	+-------+---------+------+---------+
type Entries struct {
	First   uint64 // first offset still stored
	Visible uint64 // end of what can be read now
	Next    uint64 // offset to read next: behind the last entry
	Bytes   []byte // whole entries, one behind the other; a view
}

// AppendFixed appends the body without the entries, which follow from elsewhere.
func (m *Entries) AppendFixed(dst []byte) []byte {
	dst = le.AppendUint64(dst, m.First)
	dst = le.AppendUint64(dst, m.Visible)
	return le.AppendUint64(dst, m.Next)
}

// Append appends the encoded body.
func (m *Entries) Append(dst []byte) []byte {
	return append(m.AppendFixed(dst), m.Bytes...)
}

// Parse sets m from a body. The entries are not looked at.
func (m *Entries) Parse(b []byte) error {
	r := body{b: b}
	m.First = r.u64()
	m.Visible = r.u64()
	m.Next = r.u64()
	var err error
	m.Bytes, err = r.rest()
	return err
}

// Subscribe asks for entries to be pushed as OpDeliver frames that carry this request's correlation
// id, which names the subscription until it ends. The reply is a SubscribeReply.
type Subscribe struct {
	Handle    uint16
	Partition uint16
	From      Position
	Credit    uint32 // bytes of entries the broker may send before more credit arrives
	MaxBytes  uint32 // of entries in one frame; 0 for the broker's choice
	Group     string // for PositionCommitted
	Filter    Filter // leaves out other records
}

// Append appends the encoded body.
func (m *Subscribe) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = m.From.append(dst)
	dst = le.AppendUint32(dst, m.Credit)
	dst = le.AppendUint32(dst, m.MaxBytes)
	return m.Filter.append(appendStr(dst, m.Group))
}

// Parse sets m from a body.
func (m *Subscribe) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.From = r.position()
	m.Credit = r.u32()
	m.MaxBytes = r.u32()
	m.Group = r.str(MaxGroupName)
	m.Filter = r.filter()
	return r.done()
}

// SubscribeReply says where the subscription starts.
type SubscribeReply struct {
	Offset uint64
}

// Append appends the encoded body.
func (m SubscribeReply) Append(dst []byte) []byte { return le.AppendUint64(dst, m.Offset) }

// Parse sets m from a body.
func (m *SubscribeReply) Parse(b []byte) error {
	r := body{b: b}
	m.Offset = r.u64()
	return r.done()
}

// Credit lets the broker send Bytes more on a subscription. Entries count with their stamps; an
// entry larger than the credit left is sent when nothing else is outstanding. There is no reply.
type Credit struct {
	Subscription uint32
	Bytes        uint32
}

// Append appends the encoded body.
func (m Credit) Append(dst []byte) []byte {
	return le.AppendUint32(le.AppendUint32(dst, m.Subscription), m.Bytes)
}

// Parse sets m from a body.
func (m *Credit) Parse(b []byte) error {
	r := body{b: b}
	m.Subscription = r.u32()
	m.Bytes = r.u32()
	return r.done()
}

// Unsubscribe ends a subscription. The reply is empty and the last frame of the subscription.
type Unsubscribe struct {
	Subscription uint32
}

// Append appends the encoded body.
func (m Unsubscribe) Append(dst []byte) []byte { return le.AppendUint32(dst, m.Subscription) }

// Parse sets m from a body.
func (m *Unsubscribe) Parse(b []byte) error {
	r := body{b: b}
	m.Subscription = r.u32()
	return r.done()
}

// Offsets asks which offset a position stands for.
type Offsets struct {
	Handle    uint16
	Partition uint16
	From      Position
	Group     string // for PositionCommitted
}

// Append appends the encoded body.
func (m *Offsets) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = m.From.append(dst)
	return appendStr(dst, m.Group)
}

// Parse sets m from a body.
func (m *Offsets) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.From = r.position()
	m.Group = r.str(MaxGroupName)
	return r.done()
}

// OffsetsReply answers Offsets.
type OffsetsReply struct {
	Offset  uint64 // what the position stands for
	First   uint64 // first offset still stored
	Visible uint64 // end of what can be read now
}

// Append appends the encoded body.
func (m *OffsetsReply) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, m.Offset)
	dst = le.AppendUint64(dst, m.First)
	return le.AppendUint64(dst, m.Visible)
}

// Parse sets m from a body.
func (m *OffsetsReply) Parse(b []byte) error {
	r := body{b: b}
	m.Offset = r.u64()
	m.First = r.u64()
	m.Visible = r.u64()
	return r.done()
}

// Get asks for the latest record of a key in a partition of a compacted topic. The reply is an Entries
// with one entry; the record is the one in front of Next.
type Get struct {
	Handle    uint16
	Partition uint16
	Key       []byte // at most MaxKeyBytes; a view after Parse
}

// Append appends the encoded body.
func (m *Get) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	return append(dst, m.Key...)
}

// Parse sets m from a body.
func (m *Get) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	var err error
	if m.Key, err = r.rest(); err == nil && len(m.Key) > MaxKeyBytes {
		err = ErrMalformed
	}
	return err
}
