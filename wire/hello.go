package wire

// Hello is the first frame of a client: it names the client and its credentials.
type Hello struct {
	Features    uint64 // feature bits that the client wants; none are defined yet, so 0
	Name        string // shown to people in the broker's lists; at most 255 bytes
	Version     string // of the client library; at most 255 bytes
	Mechanism   string // "", "token", "plain" or "nkey"; "" sends no credentials
	Credentials []byte // as the mechanism requires; at most 2 KiB
}

// Append appends the encoded body.
func (m *Hello) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, m.Features)
	dst = appendStr(dst, m.Name)
	dst = appendStr(dst, m.Version)
	dst = appendStr(dst, m.Mechanism)
	return appendStr(dst, m.Credentials)
}

// Parse sets m from a body. Credentials is a view.
func (m *Hello) Parse(b []byte) error {
	r := body{b: b}
	m.Features = r.u64()
	m.Name = r.str(255)
	m.Version = r.str(255)
	m.Mechanism = r.str(255)
	m.Credentials = r.view(2 << 10)
	return r.done()
}

// HelloReply names the broker and the limits of this connection.
type HelloReply struct {
	Version       uint8  // protocol version of the broker
	Features      uint64 // those of the requested ones that the broker supports
	ServerID      [16]byte
	ServerName    string
	ServerVersion string
	MaxFrame      uint32 // bytes of a whole frame
	MaxRecord     uint32 // bytes of a record on a topic that sets no other limit
	IdleMs        uint32 // a connection that is silent for longer is closed; 0 means never
	MaxInFlight   uint32 // bytes of unanswered publishes at which the broker refuses more
}

// Append appends the encoded body.
func (m *HelloReply) Append(dst []byte) []byte {
	dst = append(dst, m.Version)
	dst = le.AppendUint64(dst, m.Features)
	dst = append(dst, m.ServerID[:]...)
	dst = appendStr(dst, m.ServerName)
	dst = appendStr(dst, m.ServerVersion)
	dst = le.AppendUint32(dst, m.MaxFrame)
	dst = le.AppendUint32(dst, m.MaxRecord)
	dst = le.AppendUint32(dst, m.IdleMs)
	return le.AppendUint32(dst, m.MaxInFlight)
}

// Parse sets m from a body.
func (m *HelloReply) Parse(b []byte) error {
	r := body{b: b}
	m.Version = r.u8()
	m.Features = r.u64()
	m.ServerID = r.id()
	m.ServerName = r.str(255)
	m.ServerVersion = r.str(255)
	m.MaxFrame = r.u32()
	m.MaxRecord = r.u32()
	m.IdleMs = r.u32()
	m.MaxInFlight = r.u32()
	return r.done()
}

// Notice is sent by the broker unsolicited: with CodeShutdown before it closes the connection, and with the
// time that is left until then.
type Notice struct {
	Code    Code
	GraceMs uint32
	Detail  string
}

// Append appends the encoded body.
func (m *Notice) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, uint16(m.Code))
	dst = le.AppendUint32(dst, m.GraceMs)
	return appendStr(dst, m.Detail[:min(len(m.Detail), MaxDetailBytes)])
}

// Parse sets m from a body.
func (m *Notice) Parse(b []byte) error {
	r := body{b: b}
	m.Code = Code(r.u16())
	m.GraceMs = r.u32()
	m.Detail = r.str(MaxDetailBytes)
	return r.done()
}
