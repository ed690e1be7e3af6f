package wire

// Live is a message on a subject: the body of OpSend and of OpMessage. It is stored only when a topic
// is bound to the subject.
type Live struct {
	Subject []byte // a view after Parse, like the other fields
	Reply   []byte // subject for a reply; empty for none
	Header  []byte // a NATS header block: "NATS/1.0", lines, and an empty line; empty for none
	Payload []byte
}

// Append appends the encoded body.
func (m *Live) Append(dst []byte) []byte {
	return AppendLive(dst, m.Subject, m.Reply, m.Header, m.Payload)
}

// AppendLive appends the encoded body of a Live with these fields.
func AppendLive[T ~string | ~[]byte](dst []byte, subject, reply T, header, payload []byte) []byte {
	dst = appendStr(dst, subject)
	dst = appendStr(dst, reply)
	dst = le.AppendUint32(dst, uint32(len(header)))
	dst = append(dst, header...)
	return append(dst, payload...)
}

// Parse sets m from a body.
func (m *Live) Parse(b []byte) error {
	r := body{b: b}
	m.Subject = r.view(MaxSubjectBytes)
	m.Reply = r.view(MaxSubjectBytes)
	m.Header = r.take(int(r.u32()))
	m.Payload = r.take(len(r.b))
	if len(m.Subject) == 0 {
		return ErrMalformed
	}
	return r.done()
}

// Listen subscribes to the subjects that match a pattern. Its correlation id identifies the subscription. The
// reply is empty. Messages that are sent from then on arrive as OpMessage.
type Listen struct {
	Pattern string
	Queue   string // queue group, of which one member gets each message; "" for none
}

// Append appends the encoded body.
func (m Listen) Append(dst []byte) []byte { return appendStr(appendStr(dst, m.Pattern), m.Queue) }

// Parse sets m from a body.
func (m *Listen) Parse(b []byte) error {
	r := body{b: b}
	m.Pattern, m.Queue = r.str(MaxSubjectBytes), r.str(MaxSubjectBytes)
	return r.done()
}

// Unlisten ends a subscription. The reply is empty.
type Unlisten struct {
	Subscription uint32
	Max          uint64 // ends it after so many deliveries since its start; 0 ends it now
}

// Append appends the encoded body.
func (m Unlisten) Append(dst []byte) []byte {
	return le.AppendUint64(le.AppendUint32(dst, m.Subscription), m.Max)
}

// Parse sets m from a body.
func (m *Unlisten) Parse(b []byte) error {
	r := body{b: b}
	m.Subscription, m.Max = r.u32(), r.u64()
	return r.done()
}
