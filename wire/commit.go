package wire

import "time"

// PartitionOffset is a group's committed offset on one partition: the next one to read.
type PartitionOffset struct {
	Partition uint16
	Offset    uint64
}

// Commit stores a group's offsets for one topic. The reply is empty and durable. An offset beyond
// the visible end is refused with CodeOffsetOutOfRange, a partition that is named twice with CodeInvalid, and nothing is
// stored.
type Commit struct {
	Handle     uint16
	Group      []byte // a view after Parse
	Generation uint32 // of the sender's assignment; 0 when it is no member
	Offsets    []PartitionOffset
}

// Append appends the encoded body.
func (m *Commit) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = appendStr(dst, m.Group)
	dst = le.AppendUint32(dst, m.Generation)
	return appendOffsets(dst, m.Offsets)
}

// Parse sets m from a body, reusing the memory of m.Offsets.
func (m *Commit) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Group = r.view(MaxGroupName)
	m.Generation = r.u32()
	m.Offsets = r.offsets(m.Offsets[:0])
	return r.done()
}

func appendOffsets(dst []byte, offsets []PartitionOffset) []byte {
	dst = le.AppendUint16(dst, uint16(len(offsets)))
	for _, o := range offsets {
		dst = le.AppendUint16(dst, o.Partition)
		dst = le.AppendUint64(dst, o.Offset)
	}
	return dst
}

// offsets appends to dst what appendOffsets wrote.
func (r *body) offsets(dst []PartitionOffset) []PartitionOffset {
	for range r.count(2 + 8) {
		dst = append(dst, PartitionOffset{Partition: r.u16(), Offset: r.u64()})
	}
	return dst
}

// Committed asks for a group's offsets on one topic.
type Committed struct {
	Handle uint16
	Group  string
}

// Append appends the encoded body.
func (m *Committed) Append(dst []byte) []byte {
	return appendStr(le.AppendUint16(dst, m.Handle), m.Group)
}

// Parse sets m from a body.
func (m *Committed) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.Group = r.str(MaxGroupName)
	return r.done()
}

// CommittedOffset is one partition of a CommittedReply.
type CommittedOffset struct {
	Partition uint16
	Offset    uint64
	Time      int64 // of the commit, in milliseconds since 1970 UTC
}

// CommittedReply holds the partitions for which the group has committed an offset, in order.
type CommittedReply struct {
	Offsets []CommittedOffset
}

// Append appends the encoded body.
func (m *CommittedReply) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(len(m.Offsets)))
	for _, o := range m.Offsets {
		dst = le.AppendUint16(dst, o.Partition)
		dst = le.AppendUint64(dst, o.Offset)
		dst = le.AppendUint64(dst, uint64(o.Time))
	}
	return dst
}

// Parse sets m from a body.
func (m *CommittedReply) Parse(b []byte) error {
	r := body{b: b}
	n := r.count(2 + 8 + 8)
	m.Offsets = make([]CommittedOffset, n)
	for i := range m.Offsets {
		m.Offsets[i] = CommittedOffset{Partition: r.u16(), Offset: r.u64(), Time: int64(r.u64())}
	}
	return r.done()
}

// Groups asks for groups and queues with their positions. The reply is a JSON array of GroupInfo.
type Groups struct {
	Group string // "" for all
}

// Append appends the encoded body.
func (m *Groups) Append(dst []byte) []byte { return appendStr(dst, m.Group) }

// Parse sets m from a body.
func (m *Groups) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	return r.done()
}

// GroupInfo is one group on one partition.
type GroupInfo struct {
	Group      string  `json:"group"`
	Mode       string  `json:"mode"` // "group" or "queue"
	Topic      string  `json:"topic"`
	Partition  int     `json:"partition"`
	Offset     uint64  `json:"offset"` // committed offset, or the queue's floor: all messages below are done
	End        uint64  `json:"end"`    // visible end of the partition
	Lag        uint64  `json:"lag"`    // messages that are not done
	LagSeconds float64 `json:"lag_seconds"`
	InFlight   int     `json:"in_flight"` // leased now; queues only
	Retrying   int     `json:"retrying"`  // waiting for redelivery; queues only
	Parked     int     `json:"parked"`    // waiting for an earlier message of their key; queues only
	Dead       int     `json:"dead"`      // on their way to the dead-letter topic; queues only
	OrderByKey bool    `json:"order_by_key,omitempty"`
	DeadLetter string  `json:"dead_letter,omitempty"` // topic of the dead letters; queues only

	Paused      bool      `json:"paused,omitempty"`
	Member      string    `json:"member,omitempty"`      // that has the partition: its instance, or its id without one
	CommittedAt time.Time `json:"committed_at,omitzero"` // when the group last committed; groups only
}

// DeleteGroup forgets a group or queue on one topic, or on all topics when Topic is empty. The reply
// is empty and durable.
type DeleteGroup struct {
	Group string
	Topic string
}

// Append appends the encoded body.
func (m *DeleteGroup) Append(dst []byte) []byte { return appendStr(appendStr(dst, m.Group), m.Topic) }

// Parse sets m from a body.
func (m *DeleteGroup) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Topic = r.str(MaxTopicName)
	return r.done()
}
