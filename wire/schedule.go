package wire

// ScheduleKind says how a ScheduleItem gives its time.
type ScheduleKind uint8

const (
	// ScheduleDelay publishes Ms milliseconds after the broker received the item.
	ScheduleDelay ScheduleKind = 1
	// ScheduleAt publishes at Ms milliseconds since 1970 UTC.
	ScheduleAt ScheduleKind = 2
	// ScheduleCron publishes whenever Spec says, until it is cancelled.
	ScheduleCron ScheduleKind = 3
)

const (
	// MaxScheduleMs bounds how far ahead a message can be scheduled: ten years.
	MaxScheduleMs = 10 * 366 * 24 * 3600 * 1000
	// MaxCronBytes bounds a cron expression, and the name of its time zone.
	MaxCronBytes = 255
)

// ScheduleItem is a batch to be published later. Each of its records is a message of its own, with an id.
type ScheduleItem struct {
	Kind  ScheduleKind
	Ms    int64  // ScheduleDelay, ScheduleAt; else 0
	Spec  []byte // ScheduleCron: five fields, or a name such as @hourly; else empty. A view after Parse
	Zone  []byte // ScheduleCron: name of the time zone, empty for UTC; else empty. A view after Parse
	Batch []byte // a view after Parse
}

// scheduleItemBytes is the size of the smallest item.
const scheduleItemBytes = 1 + 8 + 2 + 2 + 4

// Schedule stores batches to be published to a partition later: all or none. The frame's flags hold the
// requested durability level, as for a publish. The reply is a ScheduleReply with the level reached.
type Schedule struct {
	Handle    uint16
	Partition uint16
	// Producer numbers the records, from Sequence on, when its ID is not 0. FlagNumbered says that the body has
	// it.
	Producer Producer
	Items    []ScheduleItem
}

// Append appends the encoded body.
func (m *Schedule) Append(dst []byte) []byte {
	dst = AppendScheduleHead(dst, m.Handle, m.Partition, m.Producer, len(m.Items))
	for i := range m.Items {
		dst = m.Items[i].Append(dst)
	}
	return dst
}

// AppendScheduleHead appends the part of a Schedule in front of its items, of which there may be at most 65,535.
func AppendScheduleHead(dst []byte, handle, partition uint16, p Producer, items int) []byte {
	dst = le.AppendUint16(dst, handle)
	dst = le.AppendUint16(dst, partition)
	if p.ID != 0 {
		dst = le.AppendUint64(dst, p.ID)
		dst = le.AppendUint64(dst, p.Epoch)
		dst = le.AppendUint64(dst, p.Sequence)
	}
	return le.AppendUint16(dst, uint16(items))
}

// Append appends the encoded item.
func (it *ScheduleItem) Append(dst []byte) []byte {
	dst = append(dst, byte(it.Kind))
	dst = le.AppendUint64(dst, uint64(it.Ms))
	dst = appendStr(dst, it.Spec)
	dst = appendStr(dst, it.Zone)
	return appendBlob(dst, it.Batch)
}

// Parse sets m from the body of a frame with these flags, reusing the memory of m.Items.
func (m *Schedule) Parse(b []byte, flags Flags) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.Producer = Producer{}
	if flags&FlagNumbered != 0 {
		m.Producer = Producer{ID: r.u64(), Epoch: r.u64(), Sequence: r.u64()}
		r.bad = r.bad || m.Producer.ID == 0
	}
	n := r.count(scheduleItemBytes)
	m.Items = m.Items[:0]
	for range n {
		m.Items = append(m.Items, ScheduleItem{
			Kind: ScheduleKind(r.u8()), Ms: int64(r.u64()), Spec: r.view(MaxCronBytes), Zone: r.view(MaxCronBytes), Batch: r.blob(),
		})
	}
	return r.done()
}

func appendBlob(dst, b []byte) []byte {
	return append(le.AppendUint32(dst, uint32(len(b))), b...)
}

func (r *body) blob() []byte {
	n := r.u32()
	if n > MaxFrameBytes {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// ScheduleReply gives the ids of the scheduled records: First and the ones after it. An id is valid on one
// partition.
type ScheduleReply struct {
	First uint64
}

// Append appends the encoded body.
func (m ScheduleReply) Append(dst []byte) []byte { return le.AppendUint64(dst, m.First) }

// Parse sets m from a body.
func (m *ScheduleReply) Parse(b []byte) error {
	r := body{b: b}
	m.First = r.u64()
	return r.done()
}

// Schedules asks for the messages that will be published to a partition, in the order of due time and id. The
// reply is ScheduleList.
type Schedules struct {
	Handle    uint16
	Partition uint16
	ID        uint64 // only this message; 0 for all
	AfterDue  int64  // with AfterID: only messages behind the one with this due time and id,
	AfterID   uint64 // which is the last one of the list before
	Limit     uint32
}

// Append appends the encoded body.
func (m *Schedules) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = le.AppendUint64(dst, m.ID)
	dst = le.AppendUint64(dst, uint64(m.AfterDue))
	dst = le.AppendUint64(dst, m.AfterID)
	return le.AppendUint32(dst, m.Limit)
}

// Parse sets m from a body.
func (m *Schedules) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.ID = r.u64()
	m.AfterDue = int64(r.u64())
	m.AfterID = r.u64()
	m.Limit = r.u32()
	return r.done()
}

// MaxScheduleList bounds the items of one ScheduleList.
const MaxScheduleList = 1000

// ScheduleInfo is one message that will be published.
type ScheduleInfo struct {
	ID    uint64
	Due   int64  // when it is published next, in ms since 1970 UTC
	Spec  string // cron expression; empty for a message that is published once
	Zone  string // time zone of Spec
	Batch []byte // has this message alone; a view after Parse
}

// ScheduleList has at most MaxScheduleList items, and no more than fit in a frame.
type ScheduleList struct {
	Total uint64 // messages that wait in the partition
	Items []ScheduleInfo
}

const scheduleInfoBytes = 8 + 8 + 2 + 2 + 4

// Append appends the encoded body.
func (m *ScheduleList) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, m.Total)
	dst = le.AppendUint16(dst, uint16(len(m.Items)))
	for i := range m.Items {
		it := &m.Items[i]
		dst = le.AppendUint64(dst, it.ID)
		dst = le.AppendUint64(dst, uint64(it.Due))
		dst = appendStr(dst, it.Spec)
		dst = appendStr(dst, it.Zone)
		dst = appendBlob(dst, it.Batch)
	}
	return dst
}

// Parse sets m from a body.
func (m *ScheduleList) Parse(b []byte) error {
	r := body{b: b}
	m.Total = r.u64()
	m.Items = make([]ScheduleInfo, r.count(scheduleInfoBytes))
	for i := range m.Items {
		m.Items[i] = ScheduleInfo{
			ID: r.u64(), Due: int64(r.u64()), Spec: r.str(MaxCronBytes), Zone: r.str(MaxCronBytes), Batch: r.blob(),
		}
	}
	return r.done()
}

// Cancel cancels scheduled messages. The reply is a SettleReply with the number of ids that were not waiting,
// sent when the cancellation is as durable as the topic asks.
type Cancel struct {
	Handle    uint16
	Partition uint16
	IDs       []uint64
}

// Append appends the encoded body.
func (m *Cancel) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = le.AppendUint16(dst, uint16(len(m.IDs)))
	for _, id := range m.IDs {
		dst = le.AppendUint64(dst, id)
	}
	return dst
}

// Parse sets m from a body.
func (m *Cancel) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.IDs = make([]uint64, r.count(8))
	for i := range m.IDs {
		m.IDs[i] = r.u64()
	}
	return r.done()
}
