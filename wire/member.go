package wire

// TopicPartitions are partitions of one topic.
type TopicPartitions struct {
	Topic      string
	Partitions []uint16
}

func appendPartitions(dst []byte, list []TopicPartitions) []byte {
	dst = le.AppendUint16(dst, uint16(len(list)))
	for _, t := range list {
		dst = appendStr(dst, t.Topic)
		dst = le.AppendUint16(dst, uint16(len(t.Partitions)))
		for _, p := range t.Partitions {
			dst = le.AppendUint16(dst, p)
		}
	}
	return dst
}

func (r *body) partitions() []TopicPartitions {
	list := make([]TopicPartitions, r.count(2+2))
	for i := range list {
		list[i].Topic = r.str(MaxTopicName)
		list[i].Partitions = make([]uint16, r.count(2))
		for j := range list[i].Partitions {
			list[i].Partitions[j] = r.u16()
		}
	}
	return list
}

// JoinGroup makes the sender a member of an ordered group, or renews a membership on a new connection. The
// reply is Assigned. Later assignments arrive as OpAssigned with the correlation id of this request.
type JoinGroup struct {
	Group      string
	Member     string // unique id, chosen by the sender
	Instance   string // stays the same when the member is restarted; "" for none
	SessionMs  uint32 // how long the member may be silent; 0 for the broker's default
	HandoverMs uint32 // how long it may take to let a partition go; 0 for the broker's default
	Topics     []string
	Claims     []TopicPartitions // partitions that the member believes to hold
}

// Append appends the encoded body.
func (m *JoinGroup) Append(dst []byte) []byte {
	dst = appendStr(dst, m.Group)
	dst = appendStr(dst, m.Member)
	dst = appendStr(dst, m.Instance)
	dst = le.AppendUint32(dst, m.SessionMs)
	dst = le.AppendUint32(dst, m.HandoverMs)
	dst = le.AppendUint16(dst, uint16(len(m.Topics)))
	for _, t := range m.Topics {
		dst = appendStr(dst, t)
	}
	return appendPartitions(dst, m.Claims)
}

// Parse sets m from a body.
func (m *JoinGroup) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Member = r.str(MaxMemberName)
	m.Instance = r.str(MaxMemberName)
	m.SessionMs = r.u32()
	m.HandoverMs = r.u32()
	m.Topics = make([]string, r.count(2))
	for i := range m.Topics {
		m.Topics[i] = r.str(MaxTopicName)
	}
	m.Claims = r.partitions()
	return r.done()
}

// Heartbeat says that a member is alive and has seen the assignment Revision. It has let go the partitions that
// are neither in that assignment nor in Busy. The reply is Assigned.
type Heartbeat struct {
	Group    string
	Member   string
	Revision uint32
	Busy     []TopicPartitions
}

// Append appends the encoded body.
func (m *Heartbeat) Append(dst []byte) []byte {
	dst = appendStr(dst, m.Group)
	dst = appendStr(dst, m.Member)
	dst = le.AppendUint32(dst, m.Revision)
	return appendPartitions(dst, m.Busy)
}

// Parse sets m from a body.
func (m *Heartbeat) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Member = r.str(MaxMemberName)
	m.Revision = r.u32()
	m.Busy = r.partitions()
	return r.done()
}

// AssignedPartition is one partition of an assignment.
type AssignedPartition struct {
	Partition  uint16
	Generation uint32 // to be sent with commits; when it is new, the member starts at the committed offset
	Paused     bool   // the group is paused: the member should not read
}

// AssignedTopic is the partitions of one topic in an assignment.
type AssignedTopic struct {
	Topic      string
	Partitions []AssignedPartition
}

// Assigned is the assignment of a member. In a reply with FlagUnchanged, Topics is empty: the member has seen
// this revision.
type Assigned struct {
	Revision uint32 // grows with every assignment
	Topics   []AssignedTopic
}

// Append appends the encoded body.
func (m *Assigned) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, m.Revision)
	dst = le.AppendUint16(dst, uint16(len(m.Topics)))
	for _, t := range m.Topics {
		dst = appendStr(dst, t.Topic)
		dst = le.AppendUint16(dst, uint16(len(t.Partitions)))
		for _, p := range t.Partitions {
			dst = le.AppendUint16(dst, p.Partition)
			dst = le.AppendUint32(dst, p.Generation)
			dst = appendBool(dst, p.Paused)
		}
	}
	return dst
}

// Parse sets m from a body.
func (m *Assigned) Parse(b []byte) error {
	r := body{b: b}
	m.Revision = r.u32()
	m.Topics = make([]AssignedTopic, r.count(2+2))
	for i := range m.Topics {
		m.Topics[i].Topic = r.str(MaxTopicName)
		list := make([]AssignedPartition, r.count(2+4+1))
		for j := range list {
			list[j] = AssignedPartition{Partition: r.u16(), Generation: r.u32(), Paused: r.bool()}
		}
		m.Topics[i].Partitions = list
	}
	return r.done()
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// bool reads a byte that is 0 or 1.
func (r *body) bool() bool {
	v := r.u8()
	if v > 1 {
		r.bad = true
	}
	return v == 1
}

// LeaveGroup ends a membership. The reply is empty.
type LeaveGroup struct {
	Group  string
	Member string
}

// Append appends the encoded body.
func (m *LeaveGroup) Append(dst []byte) []byte {
	return appendStr(appendStr(dst, m.Group), m.Member)
}

// Parse sets m from a body.
func (m *LeaveGroup) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Member = r.str(MaxMemberName)
	return r.done()
}

// SeekGroup moves the committed offsets of an ordered group, whether it has members or not. Members start again
// there at once, and can no longer commit what they did before. The reply is empty, and sent when the seek is
// durable. An offset beyond the visible end is refused with CodeOffsetOutOfRange; then no offset is moved.
type SeekGroup struct {
	Group   string
	Topic   string
	Offsets []PartitionOffset
}

// Append appends the encoded body.
func (m *SeekGroup) Append(dst []byte) []byte {
	return appendOffsets(appendStr(appendStr(dst, m.Group), m.Topic), m.Offsets)
}

// Parse sets m from a body.
func (m *SeekGroup) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Topic = r.str(MaxTopicName)
	m.Offsets = r.offsets(m.Offsets[:0])
	return r.done()
}

// PauseGroup pauses or resumes a group or queue on one topic, or on all topics that it reads when Topic is
// empty. The reply is empty, and sent when the change is durable.
type PauseGroup struct {
	Group string
	Topic string
	Pause bool
}

// Append appends the encoded body.
func (m *PauseGroup) Append(dst []byte) []byte {
	return appendBool(appendStr(appendStr(dst, m.Group), m.Topic), m.Pause)
}

// Parse sets m from a body.
func (m *PauseGroup) Parse(b []byte) error {
	r := body{b: b}
	m.Group = r.str(MaxGroupName)
	m.Topic = r.str(MaxTopicName)
	m.Pause = r.bool()
	return r.done()
}

// GroupMembers is the membership of one group: an element of the JSON array that answers OpMembers.
type GroupMembers struct {
	Group      string        `json:"group"`
	Generation uint32        `json:"generation"` // of the last change
	Rebalances uint64        `json:"rebalances"` // since the group got its first member
	Members    []GroupMember `json:"members"`
}

// GroupMember is one member of a group.
type GroupMember struct {
	Member     string            `json:"member"`
	Instance   string            `json:"instance,omitempty"`
	Connection uint64            `json:"connection"`
	Topics     []string          `json:"topics"`
	Partitions []MemberPartition `json:"partitions"`
	Age        float64           `json:"age_seconds"`    // since it joined
	Silent     float64           `json:"silent_seconds"` // since its last request
}

// MemberPartition is a partition that a member holds.
type MemberPartition struct {
	Topic      string `json:"topic"`
	Partition  int    `json:"partition"`
	Generation uint32 `json:"generation"`
}
