package wire

// AnyPartition stands for all partitions of a topic, or for any one, where an operation allows that.
const AnyPartition uint16 = 0xFFFF

// Setting is a key and a value of a topic's configuration, spelled as in the configuration file: "retention" and
// "168h". The broker refuses an unknown key.
type Setting struct {
	Key, Value string
}

func appendSettings(dst []byte, s []Setting) []byte {
	dst = le.AppendUint16(dst, uint16(len(s)))
	for _, kv := range s {
		dst = appendStr(dst, kv.Key)
		dst = appendStr(dst, kv.Value)
	}
	return dst
}

func (r *body) settings() []Setting {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	s := make([]Setting, n)
	for i := range s {
		s[i] = Setting{Key: r.str(255), Value: r.str(4 << 10)}
	}
	return s
}

// Resolve asks for a topic's handle on this connection. FlagCreate creates a missing topic.
type Resolve struct {
	Topic string
}

// Append appends the encoded body.
func (m *Resolve) Append(dst []byte) []byte { return appendStr(dst, m.Topic) }

// Parse sets m from a body.
func (m *Resolve) Parse(b []byte) error {
	r := body{b: b}
	m.Topic = r.str(MaxTopicName)
	return r.done()
}

// Hash names how a key chooses a partition.
type Hash uint8

// The key hashes. The partition is the hash modulo the number of partitions.
const (
	HashXXH64   Hash = 0 // xxhash64 with seed 0
	HashMurmur2 Hash = 1 // murmur2 as Apache Kafka's Java client uses it, without the sign bit
	HashSum     Hash = 2 // the sum of the key's bytes, modulo 2^32; for demonstrations only
)

// ResolveReply describes a topic to a publisher or consumer.
type ResolveReply struct {
	Handle     uint16   // identifies the topic in other frames of this connection
	ID         [16]byte // of the topic; part of every entry's checksum
	Partitions uint16
	Level      Level // the topic's own durability level
	Hash       Hash
	MaxRecord  uint32 // bytes
}

// Append appends the encoded body.
func (m *ResolveReply) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, m.Handle)
	dst = append(dst, m.ID[:]...)
	dst = le.AppendUint16(dst, m.Partitions)
	dst = append(dst, byte(m.Level), byte(m.Hash))
	return le.AppendUint32(dst, m.MaxRecord)
}

// Parse sets m from a body.
func (m *ResolveReply) Parse(b []byte) error {
	r := body{b: b}
	m.Handle = r.u16()
	m.ID = r.id()
	m.Partitions = r.u16()
	m.Level = Level(r.u8())
	m.Hash = Hash(r.u8())
	m.MaxRecord = r.u32()
	return r.done()
}

// CreateTopic creates a topic. The reply is a TopicInfo. When the topic exists, the reply is that topic with
// FlagIfNotExists, and CodeTopicExists without.
type CreateTopic struct {
	Topic      string
	Partitions uint16 // 0 for the broker's default
	Settings   []Setting
}

// Append appends the encoded body.
func (m *CreateTopic) Append(dst []byte) []byte {
	dst = appendStr(dst, m.Topic)
	dst = le.AppendUint16(dst, m.Partitions)
	return appendSettings(dst, m.Settings)
}

// Parse sets m from a body.
func (m *CreateTopic) Parse(b []byte) error {
	r := body{b: b}
	m.Topic = r.str(MaxTopicName)
	m.Partitions = r.u16()
	m.Settings = r.settings()
	return r.done()
}

// AlterTopic changes a topic. It has the encoding of CreateTopic. Partitions may only grow; 0 keeps their number.
// The reply is a TopicInfo.
type AlterTopic = CreateTopic

// TopicName is the body of OpDescribeTopic and OpDeleteTopic.
type TopicName = Resolve

// TopicInfo describes a topic.
type TopicInfo struct {
	Topic      string
	ID         [16]byte
	Partitions []PartitionInfo
	Settings   []Setting // all settings, defaults included
}

// PartitionInfo describes one partition. Consumers may read the offsets [First, Visible).
type PartitionInfo struct {
	First   uint64 // lowest offset that is stored
	Visible uint64 // end of what consumers may read
	Next    uint64 // offset of the next record
	Bytes   uint64 // size of what is stored
	Status  Status
}

// Status is the state of a partition.
type Status uint8

// The states of a partition.
const (
	StatusOK       Status = 0
	StatusReadOnly Status = 1 // a write or flush failed; reads go on
	StatusFull     Status = 2 // the disk is full; writing resumes by itself
	StatusForeign  Status = 3 // owned by another broker
)

const partitionInfoBytes = 4*8 + 1

// Append appends the encoded body.
func (m *TopicInfo) Append(dst []byte) []byte {
	dst = appendStr(dst, m.Topic)
	dst = append(dst, m.ID[:]...)
	dst = le.AppendUint16(dst, uint16(len(m.Partitions)))
	for _, p := range m.Partitions {
		dst = le.AppendUint64(dst, p.First)
		dst = le.AppendUint64(dst, p.Visible)
		dst = le.AppendUint64(dst, p.Next)
		dst = le.AppendUint64(dst, p.Bytes)
		dst = append(dst, byte(p.Status))
	}
	return appendSettings(dst, m.Settings)
}

func (m *TopicInfo) parse(r *body) {
	m.Topic = r.str(MaxTopicName)
	m.ID = r.id()
	m.Partitions = make([]PartitionInfo, r.count(partitionInfoBytes))
	for i := range m.Partitions {
		m.Partitions[i] = PartitionInfo{
			First: r.u64(), Visible: r.u64(), Next: r.u64(), Bytes: r.u64(), Status: Status(r.u8()),
		}
	}
	m.Settings = r.settings()
}

// Parse sets m from a body.
func (m *TopicInfo) Parse(b []byte) error {
	r := body{b: b}
	m.parse(&r)
	return r.done()
}

// ListTopics asks for topics in name order.
type ListTopics struct {
	After string // only names after this one; "" for all
	Limit uint16 // of topics; the broker may send fewer and set More
}

// Append appends the encoded body.
func (m *ListTopics) Append(dst []byte) []byte {
	return le.AppendUint16(appendStr(dst, m.After), m.Limit)
}

// Parse sets m from a body.
func (m *ListTopics) Parse(b []byte) error {
	r := body{b: b}
	m.After = r.str(MaxTopicName)
	m.Limit = r.u16()
	return r.done()
}

// TopicList is the reply to ListTopics.
type TopicList struct {
	Topics []TopicInfo
	More   bool // ask again with After set to the last name
}

// Append appends the encoded body.
func (m *TopicList) Append(dst []byte) []byte {
	dst = appendBool(dst, m.More)
	dst = le.AppendUint16(dst, uint16(len(m.Topics)))
	for i := range m.Topics {
		dst = m.Topics[i].Append(dst)
	}
	return dst
}

// Parse sets m from a body.
func (m *TopicList) Parse(b []byte) error {
	r := body{b: b}
	m.More = r.bool()
	m.Topics = make([]TopicInfo, r.count(2+16+2+2))
	for i := range m.Topics {
		m.Topics[i].parse(&r)
	}
	return r.done()
}

// PurgeTopic removes records before an offset. The reply is empty.
type PurgeTopic struct {
	Topic     string
	Partition uint16 // or AnyPartition
	Before    uint64 // records below are removed; the largest value removes all that are visible
}

// Append appends the encoded body.
func (m *PurgeTopic) Append(dst []byte) []byte {
	dst = appendStr(dst, m.Topic)
	dst = le.AppendUint16(dst, m.Partition)
	return le.AppendUint64(dst, m.Before)
}

// Parse sets m from a body.
func (m *PurgeTopic) Parse(b []byte) error {
	r := body{b: b}
	m.Topic = r.str(MaxTopicName)
	m.Partition = r.u16()
	m.Before = r.u64()
	return r.done()
}
