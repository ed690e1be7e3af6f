package wire

// HeaderBytes is the size of a frame's header.
const HeaderBytes = 10

// Op says what a frame asks for. A reply carries the request's op with OpReply set.
type Op uint8

// OpReply marks a reply.
const OpReply Op = 0x80

// The operations. A number never changes its meaning. The broker answers an unknown one with CodeUnsupported.
const (
	OpHello  Op = 0x01 // log in; always the client's first frame
	OpPing   Op = 0x02 // from either side; answered with the same body
	OpNotice Op = 0x03 // from the broker, unsolicited; see Notice

	OpResolve       Op = 0x10 // topic name -> handle
	OpCreateTopic   Op = 0x11
	OpListTopics    Op = 0x12
	OpDescribeTopic Op = 0x13
	OpAlterTopic    Op = 0x14
	OpDeleteTopic   Op = 0x15
	OpPurgeTopic    Op = 0x16

	OpPublish Op = 0x20

	OpSchedule  Op = 0x21 // publish later
	OpSchedules Op = 0x22 // list the messages that will be published
	OpCancel    Op = 0x23

	OpFetch       Op = 0x30
	OpSubscribe   Op = 0x31
	OpCredit      Op = 0x32 // no reply
	OpUnsubscribe Op = 0x33
	OpDeliver     Op = 0x34 // from the broker, unsolicited: entries of a subscription
	OpOffsets     Op = 0x35
	OpGet         Op = 0x36 // the latest record of a key

	OpOpenQueue Op = 0x40
	OpLease     Op = 0x41
	OpAck       Op = 0x42
	OpNack      Op = 0x43
	OpReject    Op = 0x44
	OpExtend    Op = 0x45
	OpPending   Op = 0x46 // list the messages that are not done
	OpDiscard   Op = 0x47 // settle without a lease

	OpCommit      Op = 0x50
	OpCommitted   Op = 0x51
	OpGroups      Op = 0x52
	OpDeleteGroup Op = 0x53
	OpJoinGroup   Op = 0x54
	OpHeartbeat   Op = 0x55
	OpLeaveGroup  Op = 0x56
	OpAssigned    Op = 0x57 // from the broker, unsolicited: what a member should work on
	OpSeekGroup   Op = 0x58
	OpPauseGroup  Op = 0x59
	OpMembers     Op = 0x5a

	OpStats Op = 0x60

	OpSend     Op = 0x70 // a message on a subject; no reply
	OpListen   Op = 0x71
	OpUnlisten Op = 0x72
	OpMessage  Op = 0x73 // from the broker, unsolicited: a message of a subscription
)

var opNames = map[Op]string{
	OpHello: "hello", OpPing: "ping", OpNotice: "notice",
	OpResolve: "resolve", OpCreateTopic: "create_topic", OpListTopics: "list_topics",
	OpDescribeTopic: "describe_topic", OpAlterTopic: "alter_topic",
	OpDeleteTopic: "delete_topic", OpPurgeTopic: "purge_topic",
	OpPublish: "publish", OpSchedule: "schedule", OpSchedules: "schedules", OpCancel: "cancel",
	OpFetch: "fetch", OpSubscribe: "subscribe", OpCredit: "credit",
	OpUnsubscribe: "unsubscribe", OpDeliver: "deliver", OpOffsets: "offsets", OpGet: "get",
	OpOpenQueue: "open_queue", OpLease: "lease", OpAck: "ack", OpNack: "nack",
	OpReject: "reject", OpExtend: "extend", OpPending: "pending", OpDiscard: "discard", OpCommit: "commit", OpCommitted: "committed",
	OpGroups: "groups", OpDeleteGroup: "delete_group", OpStats: "stats",
	OpJoinGroup: "join_group", OpHeartbeat: "heartbeat", OpLeaveGroup: "leave_group", OpAssigned: "assigned",
	OpSeekGroup: "seek_group", OpPauseGroup: "pause_group", OpMembers: "members",
	OpSend: "send", OpListen: "listen", OpUnlisten: "unlisten", OpMessage: "message",
}

// String returns the operation's name without the reply bit, such as "publish".
func (o Op) String() string {
	if name, ok := opNames[o&^OpReply]; ok {
		return name
	}
	return "unknown"
}

// Flags are the flags of a frame. Their meaning depends on the operation. The broker answers a flag that the
// operation does not define with CodeUnsupported.
type Flags uint8

const (
	// FlagError marks a reply whose body is an Error.
	FlagError Flags = 0x80
	// FlagLevel masks the durability level of a publish and of its reply.
	FlagLevel Flags = 0x07
	// FlagNumbered marks a Schedule with a producer.
	FlagNumbered Flags = 0x08
	// FlagRange marks a publish reply that answers several consecutive correlation ids.
	FlagRange Flags = 0x08
	// FlagDuplicate marks a publish reply whose batch was stored by an earlier request, and a ScheduleReply
	// whose items were scheduled by an earlier request.
	FlagDuplicate Flags = 0x10
	// FlagCreate lets OpResolve create the topic when the broker's settings allow it.
	FlagCreate Flags = 0x01
	// FlagIfNotExists lets OpCreateTopic succeed when the topic exists, whatever its configuration.
	FlagIfNotExists Flags = 0x01
	// FlagOrderByKey makes the queue of an OpOpenQueue keep the order of every key.
	FlagOrderByKey Flags = 0x01
	// FlagUnhandled on an OpNack says that nobody worked on the messages: they are deliverable at once, and this
	// delivery does not count as an attempt.
	FlagUnhandled Flags = 0x01
	// FlagNoResponders makes OpSend tell the sender when nobody got its request: by an OpMessage with the
	// same flag on the subscription that waits for the reply.
	FlagNoResponders Flags = 0x01
	// FlagUnchanged marks the reply to a heartbeat when the member has seen its latest assignment.
	FlagUnchanged Flags = 0x01
	// FlagNoEcho excludes the sender's own subscriptions from an OpSend.
	FlagNoEcho Flags = 0x02
)

// Frame is one message on a connection.
//
//	0        4    5       6                10
//	+--------+----+-------+----------------+------+
//	| length | op | flags | correlation id | body |
//	+--------+----+-------+----------------+------+
//
// length is the number of bytes behind it, at least 6.
type Frame struct {
	Op          Op
	Flags       Flags
	Correlation uint32 // chosen by the requester, copied into the reply
	Body        []byte // a view
}

// NextFrame splits the first frame off b. The frame is a view. ok is false when b does not hold a whole frame;
// then need is the size of the whole frame in bytes, or 0 when it is not known yet. The error is
// ErrFrameTooLarge for a frame over limit bytes, or ErrMalformed, as soon as b holds the length.
func NextFrame(b []byte, limit int) (f Frame, rest []byte, need int, ok bool, err error) {
	if len(b) < 4 {
		return Frame{}, b, 0, false, nil
	}
	n := le.Uint32(b)
	if n < HeaderBytes-4 {
		return Frame{}, b, 0, false, ErrMalformed
	}
	if uint64(n)+4 > uint64(limit) {
		return Frame{}, b, 0, false, ErrFrameTooLarge
	}
	size := int(n) + 4
	if len(b) < size {
		return Frame{}, b, size, false, nil
	}
	f = Frame{Op: Op(b[4]), Flags: Flags(b[5]), Correlation: le.Uint32(b[6:]), Body: b[HeaderBytes:size:size]}
	return f, b[size:], size, true, nil
}

// BeginFrame appends a frame header without its length, which EndFrame sets, and returns the extended slice and
// the position of the header.
func BeginFrame(dst []byte, op Op, flags Flags, correlation uint32) (out []byte, at int) {
	at = len(dst)
	dst = append(dst, 0, 0, 0, 0, byte(op), byte(flags))
	return le.AppendUint32(dst, correlation), at
}

// EndFrame sets the length of the frame that starts at position at and ends at the end of b.
func EndFrame(b []byte, at int) []byte { return EndFrameBefore(b, at, 0) }

// EndFrameBefore is EndFrame for a frame whose last bytes the caller sends behind b.
func EndFrameBefore(b []byte, at, bytes int) []byte {
	le.PutUint32(b[at:], uint32(len(b)-at-4+bytes))
	return b
}

// AppendHeader appends the header of a frame whose body of bodyBytes bytes the caller sends behind it.
func AppendHeader(dst []byte, op Op, flags Flags, correlation uint32, bodyBytes int) []byte {
	dst = le.AppendUint32(dst, uint32(bodyBytes+HeaderBytes-4))
	dst = append(dst, byte(op), byte(flags))
	return le.AppendUint32(dst, correlation)
}

// AppendError appends a whole error reply.
func AppendError(dst []byte, op Op, correlation uint32, e *Error) []byte {
	dst, at := BeginFrame(dst, op|OpReply, FlagError, correlation)
	return EndFrame(e.Append(dst), at)
}
