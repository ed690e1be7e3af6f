package server

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// streamTransport is a transport over any net.Conn: an in-memory pipe, or TLS. What the socket of a TLS connection takes
// is written at once. Everything else collects here, where the session sees it, and a goroutine writes it, so that a
// peer that does not read blocks nobody.
type streamTransport struct {
	conn    net.Conn        // the pipe, or the socket
	tls     *tls.Conn       // what it encrypts goes to keep; nil for none
	raw     syscall.RawConn // of conn with TLS
	timeout time.Duration   // how long Close waits for the peer to read

	mu     sync.Mutex // guards the fields below
	wake   sync.Cond  // of mu: there is something to write, or Close was called
	out    []piece    // what is not being written yet
	busy   bool       // something is being written
	part   int        // bytes that are on their way to keep
	coming int        // bytes that follow at once
	unsent int        // those, the bytes in out, and those that are being written
	end    time.Time  // when the writer gives up; zero before it was called
}

// piece is at most streamChunk of what conn gets.
type piece struct {
	*buffer
	data int // bytes that the session wrote; TLS makes more of them
}

func newStreamTransport(conn net.Conn, timeout time.Duration) *streamTransport {
	t := &streamTransport{conn: conn, timeout: timeout}
	t.wake.L = &t.mu
	if s, ok := conn.(*tlsStream); ok {
		t.conn, t.tls, t.raw = s.socket.Conn, s.Conn, s.socket.raw
		s.socket.out = t
	}
	return t
}

// Write writes b, or keeps a copy for the writer.
func (t *streamTransport) Write(b []byte) (int, error) {
	if err := t.expect(len(b)); err != nil {
		return 0, err
	}
	return t.pass(b)
}

// Writev is Write for several slices. Small ones are joined, because TLS would make a record of each.
func (t *streamTransport) Writev(bs [][]byte) (total int, err error) {
	for _, b := range bs {
		total += len(b)
	}
	if t.tls != nil && total < len(bs)*maxTLSRecord {
		all := takeBuffer(bufferClass(total))
		defer putBuffer(all)
		for _, b := range bs {
			all.B = append(all.B, b...)
		}
		return t.Write(all.B)
	}
	if err := t.expect(total); err != nil {
		return 0, err
	}
	for _, b := range bs {
		if _, err := t.pass(b); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// expect begins a write of n bytes.
func (t *streamTransport) expect(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.end.IsZero() {
		return net.ErrClosed
	}
	t.coming = n
	t.unsent += n
	return nil
}

// pass passes a part of a write to keep.
func (t *streamTransport) pass(b []byte) (int, error) {
	t.mu.Lock()
	t.part = len(b)
	t.coming -= len(b)
	t.mu.Unlock()
	if t.tls != nil {
		return t.tls.Write(b)
	}
	return t.keep(b)
}

// keep gets what conn gets. It keeps a copy for the writer of what the socket does not take.
func (t *streamTransport) keep(b []byte) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data := min(len(b), t.part) // a record is longer than its data, so all data is counted with the last one
	t.part -= data
	n = t.send(b)
	t.unsent -= min(n, data)
	data -= min(n, data)
	for n < len(b) {
		p := t.piece(len(b) - n + t.part + t.coming)
		m := min(len(b)-n, streamChunk-len(p.B))
		p.B = append(p.B, b[n:n+m]...)
		p.data += min(m, data)
		data -= min(m, data)
		n += m
		t.wake.Signal()
	}
	return n, nil
}

// send writes to the socket what it takes at once, and returns how much that is. Errors are left to the writer.
func (t *streamTransport) send(b []byte) (n int) {
	if t.raw == nil || t.busy || len(t.out) > 0 {
		return 0
	}
	flags := 0
	if t.part+t.coming > 0 {
		flags = keepMore
	}
	_ = t.raw.Control(func(fd uintptr) {
		n, _ = unix.SendmsgN(int(fd), b, nil, nil, flags)
	})
	return max(n, 0)
}

// piece returns the piece that the next of about size bytes go to.
func (t *streamTransport) piece(size int) *piece {
	if n := len(t.out); n == 0 || len(t.out[n-1].B) == streamChunk {
		t.out = append(t.out, piece{buffer: takeBuffer(bufferClass(min(size, streamChunk)))})
	}
	return &t.out[len(t.out)-1]
}

// OutboundBuffered returns the bytes that are not written yet.
func (t *streamTransport) OutboundBuffered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unsent
}

// Close closes the connection when everything is written, or after timeout.
func (t *streamTransport) Close() error {
	if t.tls != nil {
		_ = t.tls.CloseWrite() // tells the peer, behind the output; it fails when that cannot be
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end.IsZero() {
		t.end = time.Now().Add(t.timeout)
		_ = t.conn.SetWriteDeadline(t.end) // before, the session judges the peer
	}
	t.wake.Signal()
	return nil
}

// RemoteAddr is the peer's address.
func (t *streamTransport) RemoteAddr() net.Addr { return t.conn.RemoteAddr() }

// streamChunk is how much is read and written at once. The session sees progress in steps of it.
const streamChunk = 64 << 10

// write runs until the connection ends, or Close was called and nothing is left. It closes the
// connection; the reader sees that.
func (t *streamTransport) write() {
	defer func() {
		_ = t.conn.Close()
		_ = t.Close()
	}()
	var pieces []piece
	for {
		if pieces = t.take(pieces); len(pieces) == 0 {
			return
		}
		for i, p := range pieces {
			if t.put(&p) != nil {
				return
			}
			pieces[i] = piece{}
			putBuffer(p.buffer)
		}
	}
}

// take waits for output and returns it, or nothing when Close was called and all is written. written is what the last call
// returned; take reuses its memory.
func (t *streamTransport) take(written []piece) []piece {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = false
	for len(t.out) == 0 && t.end.IsZero() {
		t.wake.Wait()
	}
	pieces := t.out
	t.out, t.busy = written[:0], true
	return pieces
}

// put writes a piece, and counts what the socket takes as it takes it: a slow network may need long for all of it.
func (t *streamTransport) put(p *piece) error {
	for b := p.B; len(b) > 0; {
		n, err := t.putSome(b)
		if err != nil {
			return err
		}
		b = b[n:]
		data := min(n, p.data)
		p.data -= data
		t.mu.Lock()
		t.unsent -= data
		t.mu.Unlock()
	}
	return nil
}

// putSome waits until conn takes something of b, or all for a pipe.
func (t *streamTransport) putSome(b []byte) (n int, err error) {
	if t.raw == nil {
		return t.conn.Write(b)
	}
	var put error
	err = t.raw.Write(func(fd uintptr) bool {
		for n, put = unix.SendmsgN(int(fd), b, nil, nil, 0); put == unix.EINTR; {
			n, put = unix.SendmsgN(int(fd), b, nil, nil, 0)
		}
		return put != unix.EAGAIN
	})
	return max(n, 0), errors.Join(err, put)
}

// kept returns how many bytes of output the kernel keeps because the peer has not confirmed them.
func (t *streamTransport) kept() (n int32) {
	if t.raw != nil {
		_ = t.raw.Control(func(fd uintptr) { n = keptOutput(int(fd)) })
	}
	return n
}

// giveUp makes Close drop what the peer did not read.
func (t *streamTransport) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timeout = 0
}

// serveStream runs a session on conn with a loop of its own until it ends.
func (srv *Server) serveStream(conn net.Conn, s *session) {
	wake := make(chan struct{}, 1)
	l := newLoop(srv)
	s.loop = l
	l.ring = func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	if !srv.addStreamLoop(l, conn) {
		_ = conn.Close()
		return
	}
	defer srv.removeStreamLoop(l)
	now := srv.opts.Now
	t := newStreamTransport(conn, srv.opts.SlowTimeout)
	srv.wg.Go(t.write)
	s.open(t, now())
	l.endTurn(now())

	chunks, taken := make(chan []byte), make(chan struct{})
	srv.wg.Go(func() { readStream(conn, chunks, taken) })
	paused, owed := false, false // owed: the reader waits for its buffer
	l.pauseReading = func(_ *session, pause bool) { paused = pause }
	for open := true; open; {
		select {
		case in, ok := <-chunks:
			if open = ok; ok {
				l.runInbox(now())
				s.receive(in, now())
				owed = true
				l.endTurn(now())
			}
		case <-wake:
			l.drain(now())
		}
		if owed && (!paused || s.closed) {
			owed = false
			taken <- struct{}{}
		}
	}
	_ = t.Close()
	_ = conn.Close()
	l.sessionEnded(s, now())
	l.outlive(wake)
	l.finish(now())
}

// outlive drives a loop whose connection is gone until what that published has reached its level: others may wait for the
// acknowledgement on the reply subject. It does not wait longer than for a peer that does not read.
func (l *loop) outlive(wake <-chan struct{}) {
	patience := time.NewTimer(l.srv.opts.SlowTimeout)
	defer patience.Stop()
	for l.pending > 0 {
		select {
		case <-wake:
			l.drain(l.srv.opts.Now())
		case <-patience.C:
			return
		case <-l.srv.stop:
			return
		}
	}
}

// readStream sends the input of conn to chunks, one buffer at a time, and closes chunks at its end.
func readStream(conn net.Conn, chunks chan<- []byte, taken <-chan struct{}) {
	defer close(chunks)
	for {
		if s, ok := conn.(*tlsStream); ok && s.await() != nil {
			return
		}
		buf := takeBuffer(bufferClass(streamChunk))
		n, err := conn.Read(buf.B[:streamChunk])
		if n > 0 {
			chunks <- buf.B[:n]
			<-taken
		}
		putBuffer(buf)
		if err != nil {
			return
		}
	}
}

// goStream serves conn on a goroutine unless the server is stopping.
func (srv *Server) goStream(conn net.Conn, serve func()) bool {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	if srv.stopping {
		srv.connections.Add(-1)
		_ = conn.Close()
		return false
	}
	srv.strangers[conn] = struct{}{}
	srv.wg.Go(serve)
	return true
}

// forgetStranger notes that a loop serves conn now, so that Shutdown need not close it itself.
func (srv *Server) forgetStranger(conn net.Conn) {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.strangers, conn)
}

// addStreamLoop notes that l serves conn. It returns false when the server is stopping.
func (srv *Server) addStreamLoop(l *loop, conn net.Conn) bool {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.strangers, conn)
	if srv.stopping {
		srv.connections.Add(-1)
		return false
	}
	srv.streams[l] = conn
	return true
}

func (srv *Server) removeStreamLoop(l *loop) {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.streams, l)
}
