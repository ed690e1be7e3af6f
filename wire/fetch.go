package wire

// PositionKind says how a Position names its offset.
type PositionKind uint8

// The kinds of position.
const (
	PositionOffset    PositionKind = 0 // Value is an offset
	PositionFirst     PositionKind = 1 // the first record stored
	PositionLast      PositionKind = 2 // the last visible record
	PositionEnd       PositionKind = 3 // behind the last visible record
	PositionTime      PositionKind = 4 // the first batch appended at Value, in ms since 1970, or later
	PositionCommitted PositionKind = 5 // the group's committed offset, or PositionFirst when there is none
)

// Position names the offset at which to start reading.
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

// Fetch asks for stored entries. The broker replies when there are MinBytes of entries or MaxWaitMs have
// passed. The reply has whole entries: the first one is sent even when it is larger than MaxBytes, and may
// begin with records before the requested offset, which the reader skips.
type Fetch struct {
	Handle    uint16
	Partition uint16
	From      Position
	MinBytes  uint32 // 0 for a reply at once, even without entries
	MaxBytes  uint32 // at most the connection's frame limit
	MaxWaitMs uint32 // at most MaxWaitMs
	Group     string // for PositionCommitted
	Filter    Filter // selects records
}

// MaxWaitMs bounds the wait of a fetch or lease in milliseconds. A longer wait is cut to it.
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

// AppendFixed appends the body without the entries, which the caller sends behind it.
func (m *Entries) AppendFixed(dst []byte) []byte {
	dst = le.AppendUint64(dst, m.First)
	dst = le.AppendUint64(dst, m.Visible)
	return le.AppendUint64(dst, m.Next)
}

// Append appends the encoded body.
func (m *Entries) Append(dst []byte) []byte {
	return append(m.AppendFixed(dst), m.Bytes...)
}

// Parse sets m from a body. It does not look at the entries.
func (m *Entries) Parse(b []byte) error {
	r := body{b: b}
	m.First = r.u64()
	m.Visible = r.u64()
	m.Next = r.u64()
	var err error
	m.Bytes, err = r.rest()
	return err
}

// Subscribe asks the broker to push entries in OpDeliver frames. They carry the correlation id of this
// request, which identifies the subscription until it ends. The reply is a SubscribeReply.
type Subscribe struct {
	Handle    uint16
	Partition uint16
	From      Position
	Credit    uint32 // bytes of entries that the broker may send before more credit arrives
	MaxBytes  uint32 // bytes of entries in one frame; 0 for the broker's choice
	Group     string // for PositionCommitted
	Filter    Filter // selects records
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

// Credit lets the broker send Bytes more on a subscription. Entries count with their stamps. An entry larger
// than the credit is sent when nothing else is outstanding. There is no reply.
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

// Unsubscribe ends a subscription. The reply is empty, and the last frame of the subscription.
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
	Offset  uint64 // of the position
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

// Get asks for the latest record of a key in a partition of a compacted topic. The reply is an Entries with
// one entry. The record is the one directly before Next.
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
		err = Errorf(CodeTooLarge, "a key has at most %d bytes", MaxKeyBytes)
	}
	return err
}
