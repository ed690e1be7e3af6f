package server

import (
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// protocol is the protocol of a session, which its first byte determines.
type protocol interface {
	// run processes input until the session is paused or closed or the turn is over, and returns how much that was. It
	// copies what it needs later.
	run(in []byte, now time.Time) (used int)
	// flooded tells the peer that it has sent more than limit bytes that have to wait: the connection closes.
	flooded(limit int)
	// ended is called once when the connection is gone.
	ended(now time.Time)
	// drain tells the peer that the broker is going away within grace.
	drain(grace time.Duration)
	// lame tells the peer to reconnect elsewhere, because the broker goes away in grace.
	lame(grace time.Duration)
	// unblock continues requests that waited for the peer to read. It reports whether any still wait.
	unblock(now time.Time) bool
	// waiting reports whether the peer has sent only the start of something.
	waiting() bool
	// quiet is called about once a second with the time since the peer sent anything. It reports
	// whether that is too long: the connection closes.
	quiet(idle time.Duration) bool
	// reconsider applies changed permissions.
	reconsider()
	// describe fills in the fields that only the protocol knows.
	describe(c *connection)
}

// session is one connection. It belongs to its loop's goroutine. Its size matters for idle connections, so fields of one
// byte stand together.
type session struct {
	loop  *loop
	t     transport
	id    uint64
	proto protocol // nil until the first byte
	out   *buffer  // replies of this turn; nil between turns

	who     *auth.Principal // the user; nil may do everything
	nonce   string          // what it signs to log in with an nkey
	left    chan struct{}   // closed when the connection is gone; nil when its credentials were never checked
	tls     *secured        // nil without TLS
	replies *auth.Replies   // reply subjects that it has received and may publish to; nil before the first
	name    string          // chosen by the client
	backlog backlog

	admitted  bool // the peer has logged in, or need not
	judging   bool // its credentials are being checked
	greeted   bool // it got the greeting before it had a session
	inProcess bool // the client is in this process, so TLS is not needed
	full      bool // much of its input waits to be processed
	dirty     bool // in loop.dirty
	closed    bool // closing or gone: its input is ignored and nothing is written
	gone      bool // ended was called

	crowded  atomic.Bool // its peer is far behind; other loops look at it
	over     atomic.Bool // closed, for workers
	outClass uint8       // of the buffer for the next turn's replies
	outCalm  uint8       // how many turns in a row had so little output that a smaller class would do
	listens  int32       // live subscriptions
	subBytes int32       // memory of subscriptions, as counted in Server.subBytes
	pings    int32       // PINGs that it was sent since it last sent something
	flow     flow

	opened    time.Time
	received  uint64 // bytes
	sent      uint64 // bytes
	lastRead  time.Time
	stuckAt   time.Time // since when the peer reads nothing of its pending output
	stuckRead int64     // what it had read by then
	stuckKept int32     // what the kernel kept for it at the last look
	unread    int       // pending output at the last look, as counted in Server.unread

	unfinished *unfinished // nil before the first
}

// unfinished is a large frame or command whose rest is missing.
type unfinished struct {
	bytes int       // memory of it, as counted in Server.unfinished; 0 for none
	since time.Time // when it began
}

func newSession(l *loop, id uint64) *session {
	s := &session{loop: l, id: id}
	if l.srv.policy.Load().NKeys() {
		s.nonce = auth.NewNonce()
	}
	return s
}

// open greets the peer.
func (s *session) open(t transport, now time.Time) {
	s.t, s.opened, s.lastRead = t, now, now
	s.loop.sessions[s] = struct{}{}
	s.loop.srv.metrics.opened.Add(1)
	if !s.greeted {
		s.buffer().B = s.loop.srv.appendInfo(s.buffer().B, s, t)
	}
	if s.loop.draining {
		s.close()
	}
	if s.tls != nil {
		s.checkCertificate(s.loop.srv.tls.Load()) // it may have changed since the handshake
	}
}

// receive feeds input to the session. A panic closes only this connection.
func (s *session) receive(in []byte, now time.Time) {
	if s.closed || len(in) == 0 {
		return
	}
	defer s.contain()
	s.lastRead, s.pings = now, 0
	s.loop.reading = s
	s.loop.noteReader(s)
	s.received += uint64(len(in))
	s.loop.turn.received += uint64(len(in))
	if s.proto == nil {
		s.proto = s.sniff(in[0])
		if s.proto == nil {
			s.close()
			return
		}
	}
	s.feed(in, now)
	if len(s.loop.stuck) > 0 {
		s.resume(now)
	}
}

// resume continues requests that waited for the peer to read, at once instead of at the next tick: a peer that gives credit
// or asks for more has read.
func (s *session) resume(now time.Time) {
	if _, ok := s.loop.stuck[s]; ok && !s.blocked() {
		s.unblock(now)
	}
}

// contain must be deferred. It recovers a panic and closes only this connection.
func (s *session) contain() {
	if r := recover(); r != nil {
		s.loop.srv.panicked(r)
		s.close()
	}
}

// containElsewhere is contain for work for the session that runs on another goroutine: nobody would answer its request.
func (s *session) containElsewhere() {
	if r := recover(); r != nil {
		s.loop.srv.panicked(r)
		s.loop.post(jobFunc(func(time.Time) { s.close() }))
	}
}

// setFull pauses reading from the peer while much of its input waits to be processed, and resumes it.
func (s *session) setFull(full bool) {
	if full || s.full {
		s.full = full
		s.loop.readAgain(s)
	}
}

// sniff chooses the protocol by the first byte. For an unknown protocol it tells the peer so and returns nil.
func (s *session) sniff(first byte) protocol {
	switch {
	case wire.IsBinary(first):
		return newBinary(s)
	case first == tlsHandshake:
		s.loop.srv.metrics.rejected.Add(1)
		s.write("-ERR 'this broker has no certificate: connect without TLS'\r\n")
		return nil
	case isTextStart(first):
		return newText(s)
	}
	s.loop.srv.metrics.rejected.Add(1)
	s.write("-ERR 'unknown protocol: a Rafka client begins with its preface, a person or a NATS client with a letter'\r\n")
	return nil
}

// buffer returns the turn's output buffer and marks the session for writing.
func (s *session) buffer() *buffer {
	if s.out == nil {
		s.out = takeBuffer(s.outClass)
	}
	if !s.dirty {
		s.dirty = true
		s.loop.dirty = append(s.loop.dirty, s)
	}
	return s.out
}

// room is buffer for a caller that appends about size bytes, of which there may be many in a turn.
func (s *session) room(size int) *buffer {
	b := s.buffer()
	if cap(b.B)-len(b.B) < size {
		makeRoom(b, size)
	}
	return b
}

func (s *session) write(text string) {
	b := s.buffer()
	b.B = append(b.B, text...)
}

// flushOut hands the turn's output to the transport.
func (s *session) flushOut(now time.Time) {
	if s.out == nil {
		return
	}
	if len(s.out.B) > 0 && !s.gone {
		// An error means that the connection is gone; the transport ends the session.
		_, _ = s.t.Write(s.out.B)
		s.countSent(len(s.out.B))
	}
	s.dropOut()
	switch {
	case s.gone:
	case s.closed:
		_ = s.t.Close()
	default:
		s.checkPending(now)
	}
}

// spill hands the output so far to the transport before the turn ends, so that a turn with much output does not keep all of
// it in memory.
func (s *session) spill(now time.Time) {
	if !s.gone {
		_, _ = s.t.Write(s.out.B)
	}
	s.countSent(len(s.out.B))
	s.expect(len(s.out.B))
	s.out.B = s.out.B[:0]
	if !s.gone {
		s.checkPending(now)
	}
}

// spillWith is spill with a payload and its end behind the output so far, which are not copied into it.
func (s *session) spillWith(payload, end []byte, now time.Time) {
	size := len(s.out.B) + len(payload) + len(end)
	if !s.gone {
		_, _ = s.t.Writev(append(s.loop.iov[:0], s.out.B, payload, end))
	}
	s.countSent(size)
	s.out.B = s.out.B[:0]
	if !s.gone {
		s.checkPending(now)
	}
}

// dropOut ends the turn's output. The next turn is expected to have about as much.
func (s *session) dropOut() {
	s.expect(len(s.out.B))
	if cap(s.out.B) <= idleBuffer {
		putBuffer(s.out)
	}
	s.out = nil
}

// expect chooses the buffer of the next turn after one with size bytes of output. It is a smaller one only after 256 turns
// that had less in a row: large turns come among short ones.
func (s *session) expect(size int) {
	if class := bufferClass(min(size, idleBuffer)); class >= s.outClass {
		s.outClass, s.outCalm = class, 0
	} else if s.outCalm++; s.outCalm == 0 {
		s.outClass--
	}
}

// writeChunk writes the output buffer and then the chunk's slices. It does so at once, because the slices are valid only
// until the chunk is released.
func (s *session) writeChunk(c *log.Chunk) {
	b := s.buffer()
	iov := append(s.loop.iov[:0], b.B)
	size := len(b.B) + c.Bytes
	for _, slice := range c.Slices {
		if len(iov) == cap(iov) {
			_, _ = s.t.Writev(iov)
			iov = iov[:0]
		}
		iov = append(iov, slice)
	}
	if !s.gone {
		_, _ = s.t.Writev(iov)
	}
	b.B = b.B[:0]
	s.countSent(size)
}

func (s *session) countSent(n int) {
	s.sent += uint64(n)
	s.loop.srv.metrics.bytesOut.Add(uint64(n))
}

// blocked reports whether the peer has to read before it is sent more.
func (s *session) blocked() bool { return s.t.OutboundBuffered() >= softPending }

// deadAfter is how long a peer may read nothing when all peers together leave more unread than Options.MaxUnreadBytes, and
// how long it may take to send a frame when all unfinished ones take more than that.
const deadAfter = time.Second

// checkPending checks for output that the peer does not read.
func (s *session) checkPending(now time.Time) {
	pending, srv := s.t.OutboundBuffered(), s.loop.srv
	s.countUnread(pending)
	switch read := int64(s.sent) - int64(pending); { // see drained
	case pending == 0:
		s.stuckAt = time.Time{}
	case s.closed:
	case pending > srv.opts.MaxPendingBytes && pending > s.leastPending():
		s.slow()
	case s.stuckAt.IsZero() || read > s.stuckRead:
		s.stuckAt, s.stuckRead = now, read
	case now.Sub(s.stuckAt) > deadAfter && srv.unread.Load() > int64(srv.opts.MaxUnreadBytes):
		s.slow()
	}
}

// leastPending is what the peer may leave unread whatever Options.MaxPendingBytes is. With the binary protocol that is one
// reply, behind as much as may be unread when it is sent: who reads is not closed because of what it has asked for.
func (s *session) leastPending() int {
	if _, ok := s.proto.(*binary); ok {
		return softPending + wire.MaxReplyBytes
	}
	return 0
}

// checkKept notes that a peer reads when the kernel keeps less for it. The kernel takes more output only once a third of
// its buffer is free, and that is megabytes: over 1 Mbit/s it takes longer than Options.SlowTimeout.
func (s *session) checkKept(now time.Time) {
	if s.stuckAt.IsZero() {
		return
	}
	var kept int32
	switch t := s.t.(type) {
	case interface{ Fd() int }:
		kept = keptOutput(t.Fd())
	case *streamTransport:
		kept = t.kept()
	}
	if kept < s.stuckKept {
		s.stuckAt = now
	}
	s.stuckKept = kept
}

// countUnread notes the session's part of Server.unread.
func (s *session) countUnread(pending int) {
	if pending != s.unread {
		s.loop.srv.unread.Add(int64(pending - s.unread))
		s.unread = pending
	}
}

// leastRoom is the memory that a large frame or command gets for its start. It gets more as it arrives: who announces a
// size and sends nothing must not have memory reserved.
const leastRoom = 64 << 10

// roomFor returns the memory for the first size bytes of a frame or command of need bytes.
func roomFor(size, need int) int { return min(need, max(leastRoom, 4*size)) }

// countPart notes the session's part of Server.unfinished.
func (s *session) countPart(size int) {
	u := s.unfinished
	if u == nil {
		u = &unfinished{}
		s.unfinished = u
	}
	if u.bytes == 0 {
		u.since = s.lastRead
	}
	s.loop.srv.unfinished.Add(int64(size - u.bytes))
	u.bytes = size
}

// lags reports whether all unfinished frames and commands take too much memory, and that of this session is not new.
func (s *session) lags(now time.Time) bool {
	u := s.unfinished
	return u != nil && u.bytes > 0 && now.Sub(u.since) > deadAfter && s.loop.srv.unfinished.Load() > int64(s.loop.srv.opts.MaxUnreadBytes)
}

// slow closes the connection of a peer that does not read.
func (s *session) slow() {
	s.loop.srv.metrics.slowConsumers.Add(1)
	s.loop.srv.opts.Logger.Warn("slow connection closed", "conn", s.id, "bytes", s.t.OutboundBuffered())
	if t, ok := s.t.(*streamTransport); ok {
		t.giveUp()
	}
	s.close()
}

// checkTimeouts closes a session that has exceeded one of its timeouts.
func (s *session) checkTimeouts(now time.Time) {
	if s.closed {
		return
	}
	s.checkPending(now)
	s.checkKept(now)
	o := &s.loop.srv.opts
	quiet := now.Sub(s.lastRead)
	switch {
	case !s.stuckAt.IsZero() && now.Sub(s.stuckAt) > o.SlowTimeout:
		s.slow()
	case s.late(now):
		s.loop.srv.metrics.timeouts.Add(1)
		s.expel(errAuthTimeout, wire.Errorf(wire.CodeUnauthenticated, "no login within %s", o.AuthTimeout))
	case s.lags(now):
		s.loop.srv.metrics.timeouts.Add(1)
		s.expel("Stale Connection", wire.Errorf(wire.CodeLimit, "the rest of a request is missing, and too many others are unfinished"))
	case s.proto != nil && s.proto.waiting() && quiet > o.HandshakeTimeout:
		s.loop.srv.metrics.timeouts.Add(1)
		s.close()
	case s.proto == nil && quiet > o.IdleTimeout, s.proto != nil && s.proto.quiet(quiet):
		s.loop.srv.metrics.timeouts.Add(1)
		s.close()
	}
}

// block notes that a request waits for the peer to read.
func (s *session) block() { s.loop.stuck[s] = struct{}{} }

// unblock continues requests that waited for the peer to read.
func (s *session) unblock(now time.Time) {
	if s.closed || s.proto == nil || !s.blocked() && !s.proto.unblock(now) {
		delete(s.loop.stuck, s)
	}
}

// close ends the session after the turn's output.
func (s *session) close() {
	if s.closed {
		return
	}
	s.closed = true
	s.over.Store(true)
	s.buffer()
}

// ended releases what the session holds. The connection is gone.
func (s *session) ended(now time.Time) {
	if s.gone {
		return
	}
	s.closed, s.gone = true, true
	s.over.Store(true)
	s.backlog.bytes = nil
	if s.left != nil {
		close(s.left)
	}
	s.crowded.Store(false)
	s.countUnread(0)
	if s.unfinished != nil {
		s.countPart(0)
	}
	defer func() { s.countSub(-int(s.subBytes)) }() // what the protocol does not count one by one
	delete(s.loop.sessions, s)
	delete(s.loop.stuck, s)
	if s.loop.reader == s {
		s.loop.reader = nil
	}
	s.loop.srv.metrics.closed.Add(1)
	s.loop.srv.connections.Add(-1)
	if s.proto != nil {
		s.proto.ended(now)
	}
}
