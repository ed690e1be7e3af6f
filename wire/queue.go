package wire

// OpenQueue creates a queue on every partition of a topic, or changes the policy of an existing one. The reply is
// empty, and sent when the change is durable.
type OpenQueue struct {
	Handle        uint16
	Group         string
	Start         Position // where a new queue starts; ignored when it exists
	LeaseMs       uint32   // 0 for the broker's default
	BackoffMinMs  uint32   // 0 for the broker's default
	BackoffMaxMs  uint32   // 0 for the broker's default
	MaxDeliveries uint32   // 0 for the broker's default
	DeadLetter    string   // topic for dead letters; "" for "<topic>.<group>.dlq"
}

// Append appends the encoded body.
func (m *OpenQueue) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = appendStr(dst, m.Group)
	dst = m.Start.append(dst)
	dst = le.AppendUint32(dst, m.LeaseMs)
	dst = le.AppendUint32(dst, m.BackoffMinMs)
	dst = le.AppendUint32(dst, m.BackoffMaxMs)
	dst = le.AppendUint32(dst, m.MaxDeliveries)
	return appendStr(dst, m.DeadLetter)
}

// Parse sets m from a body.
func (m *OpenQueue) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Group = r.str(MaxGroupName)
	m.Start = r.position()
	m.LeaseMs = r.u32()
	m.BackoffMinMs = r.u32()
	m.BackoffMaxMs = r.u32()
	m.MaxDeliveries = r.u32()
	m.DeadLetter = r.str(MaxTopicName)
	return r.done()
}

// Lease leases messages of a queue to this connection. The reply is Leased. The broker waits up to MaxWaitMs for
// the first message.
type Lease struct {
	Handle      uint16
	Partition   uint16 // or AnyPartition: the broker picks one that has messages
	Group       []byte // a view after Parse
	MaxMessages uint32
	MaxBytes    uint32
	MaxWaitMs   uint32
	LeaseMs     uint32 // 0 for the queue's policy
}

// Append appends the encoded body.
func (m *Lease) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = appendStr(dst, m.Group)
	dst = le.AppendUint32(dst, m.MaxMessages)
	dst = le.AppendUint32(dst, m.MaxBytes)
	dst = le.AppendUint32(dst, m.MaxWaitMs)
	return le.AppendUint32(dst, m.LeaseMs)
}

// Parse sets m from a body.
func (m *Lease) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.Group = r.view(MaxGroupName)
	m.MaxMessages = r.u32()
	m.MaxBytes = r.u32()
	m.MaxWaitMs = r.u32()
	m.LeaseMs = r.u32()
	return r.done()
}

// LeaseRange is a range of offsets with the same delivery attempt. The attempt is the fence: a settle with an
// attempt other than the current one is refused.
type LeaseRange struct {
	First   uint64
	Count   uint32
	Attempt uint32 // 1 for the first delivery
}

const leaseRangeBytes = 8 + 4 + 4

func appendRanges(dst []byte, ranges []LeaseRange) []byte {
	dst = le.AppendUint16(dst, uint16(len(ranges)))
	for _, g := range ranges {
		dst = le.AppendUint64(dst, g.First)
		dst = le.AppendUint32(dst, g.Count)
		dst = le.AppendUint32(dst, g.Attempt)
	}
	return dst
}

// ranges reads into the memory of have when that is large enough.
func (r *body) ranges(have []LeaseRange) []LeaseRange {
	n := r.count(leaseRangeBytes)
	have = have[:0]
	for range n {
		g := LeaseRange{First: r.u64(), Count: r.u32(), Attempt: r.u32()}
		if g.Count == 0 || g.First+uint64(g.Count) < g.First {
			r.bad = true
		}
		have = append(have, g)
	}
	return have
}

// Leased is the reply to Lease: the leased ranges, and entries that hold their messages. The entries may hold
// other records, too, which are not leased.
type Leased struct {
	Partition uint16
	Ranges    []LeaseRange // in offset order
	Bytes     []byte       // whole entries; a view
}

// AppendFixed appends the body without the entries, which the caller sends behind it.
func (m *Leased) AppendFixed(dst []byte) []byte {
	return appendRanges(le.AppendUint16(dst, m.Partition), m.Ranges)
}

// Append appends the encoded body.
func (m *Leased) Append(dst []byte) []byte { return append(m.AppendFixed(dst), m.Bytes...) }

// Parse sets m from a body, reusing the memory of m.Ranges.
func (m *Leased) Parse(b []byte) error {
	r := body{b: b}
	m.Partition = r.u16()
	m.Ranges = r.ranges(m.Ranges)
	var err error
	m.Bytes, err = r.rest()
	return err
}

// Pending asks which messages of a queue are not done. The reply is PendingReply.
type Pending struct {
	Handle    uint16
	Partition uint16
	Group     string
	From      uint64
	Limit     uint32 // of ranges; 0 for as many as the broker returns at once
}

// Append appends the encoded body.
func (m *Pending) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = appendStr(dst, m.Group)
	dst = le.AppendUint64(dst, m.From)
	return le.AppendUint32(dst, m.Limit)
}

// Parse sets m from a body.
func (m *Pending) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.Group = r.str(MaxGroupName)
	m.From = r.u64()
	m.Limit = r.u32()
	return r.done()
}

// Phase says what a message that is not done waits for.
type Phase uint8

// The phases.
const (
	PhaseFresh   Phase = 0 // never leased
	PhaseLeased  Phase = 1 // leased to a worker
	PhaseWaiting Phase = 2 // for its redelivery
	PhaseParked  Phase = 3 // for an earlier message of its key
	PhaseDead    Phase = 4 // on its way to the dead-letter topic
)

// PendingRange is a range of messages that are not done and have the same state.
type PendingRange struct {
	First, Count uint64
	Attempts     uint32 // deliveries so far
	Phase        Phase
	Due          int64 // in ms since 1970; PhaseWaiting: of the redelivery; PhaseLeased: the end of the lease; else 0
}

const pendingRangeBytes = 8 + 8 + 4 + 1 + 8

// MaxPendingRanges bounds the ranges of one PendingReply.
const MaxPendingRanges = 10_000

// PendingReply has ranges in offset order. When it has as many as were asked for, there may be more behind them.
type PendingReply struct {
	Ranges []PendingRange
}

// Append appends the encoded body.
func (m *PendingReply) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(len(m.Ranges)))
	for _, g := range m.Ranges {
		dst = le.AppendUint64(dst, g.First)
		dst = le.AppendUint64(dst, g.Count)
		dst = le.AppendUint32(dst, g.Attempts)
		dst = append(dst, byte(g.Phase))
		dst = le.AppendUint64(dst, uint64(g.Due))
	}
	return dst
}

// Parse sets m from a body.
func (m *PendingReply) Parse(b []byte) error {
	r := body{b: b}
	m.Ranges = make([]PendingRange, r.count(pendingRangeBytes))
	for i := range m.Ranges {
		m.Ranges[i] = PendingRange{First: r.u64(), Count: r.u64(), Attempts: r.u32(), Phase: Phase(r.u8()), Due: int64(r.u64())}
	}
	return r.done()
}

// Settle is the body of OpAck, OpNack, OpReject, OpExtend and OpDiscard. The reply is a SettleReply, sent when
// the settlement is as durable as the topic asks.
type Settle struct {
	Handle    uint16
	Partition uint16
	Group     []byte // a view after Parse
	Ranges    []LeaseRange
	Ms        int32  // OpNack: delay, negative for the queue's backoff, 0 with FlagUnhandled; OpExtend: new lease, 0 for the policy's; else 0
	Reason    []byte // OpNack, OpReject: for people, kept in dead letters; at most MaxReasonBytes; a view after Parse
}

// MaxReasonBytes bounds the reason of a nack or reject.
const MaxReasonBytes = 256

// Append appends the encoded body.
func (m *Settle) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = le.AppendUint16(dst, m.Partition)
	dst = appendStr(dst, m.Group)
	dst = appendRanges(dst, m.Ranges)
	dst = le.AppendUint32(dst, uint32(m.Ms))
	return appendStr(dst, m.Reason)
}

// Parse sets m from a body, reusing the memory of m.Ranges.
func (m *Settle) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Partition = r.u16()
	m.Group = r.view(MaxGroupName)
	m.Ranges = r.ranges(m.Ranges)
	m.Ms = int32(r.u32())
	m.Reason = r.view(MaxReasonBytes)
	return r.done()
}

// SettleReply says how many messages were not settled because their lease was lost.
type SettleReply struct {
	Lost uint32
}

// Append appends the encoded body.
func (m SettleReply) Append(dst []byte) []byte { return le.AppendUint32(dst, m.Lost) }

// Parse sets m from a body.
func (m *SettleReply) Parse(b []byte) error {
	r := body{b: b}
	m.Lost = r.u32()
	return r.done()
}
