package server

import (
	"net"
	"sync"
	"time"
)

// streamTransport is a transport over any net.Conn: an in-memory pipe, or TLS. Its own goroutine writes, so that a peer that
// does not read blocks nobody. The unread output collects here, where the session sees it.
type streamTransport struct {
	conn    net.Conn
	timeout time.Duration // a write that takes longer ends the connection

	mu     sync.Mutex // guards the fields below
	wake   sync.Cond  // of mu: there is something to write, or Close was called
	out    []*buffer  // what is not being written yet, in pieces of at most streamChunk
	unsent int        // bytes of out, and those that are being written
	end    time.Time  // when Close gives up; zero before it was called
}

func newStreamTransport(conn net.Conn, timeout time.Duration) *streamTransport {
	t := &streamTransport{conn: conn, timeout: timeout}
	t.wake.L = &t.mu
	return t
}

// Write keeps a copy of b for the writer.
func (t *streamTransport) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.end.IsZero() {
		return 0, net.ErrClosed
	}
	for rest := b; len(rest) > 0; {
		piece := t.piece(len(rest))
		n := min(len(rest), streamChunk-len(piece.B))
		piece.B = append(piece.B, rest[:n]...)
		rest = rest[n:]
	}
	t.unsent += len(b)
	t.wake.Signal()
	return len(b), nil
}

// piece returns the piece that the next of size bytes go to.
func (t *streamTransport) piece(size int) *buffer {
	if n := len(t.out); n > 0 && len(t.out[n-1].B) < streamChunk {
		return t.out[n-1]
	}
	p := takeBuffer(bufferClass(min(size, streamChunk)))
	t.out = append(t.out, p)
	return p
}

// Writev is Write for several slices.
func (t *streamTransport) Writev(bs [][]byte) (int, error) {
	total := 0
	for _, b := range bs {
		n, err := t.Write(b)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// OutboundBuffered returns the bytes that are not written yet.
func (t *streamTransport) OutboundBuffered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unsent
}

// Close closes the connection when everything is written, or after timeout.
func (t *streamTransport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end.IsZero() {
		t.end = time.Now().Add(t.timeout)
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
	var pieces []*buffer
	for {
		if pieces = t.take(pieces); len(pieces) == 0 {
			return
		}
		for i, p := range pieces {
			if err := t.conn.SetWriteDeadline(t.deadline()); err != nil {
				return
			}
			if _, err := t.conn.Write(p.B); err != nil {
				return
			}
			t.mu.Lock()
			t.unsent -= len(p.B)
			t.mu.Unlock()
			pieces[i] = nil
			putBuffer(p)
		}
	}
}

// take waits for output and returns it, or nothing when Close was called and all is written. written is what the last call
// returned; take reuses its memory.
func (t *streamTransport) take(written []*buffer) []*buffer {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.out) == 0 && t.end.IsZero() {
		t.wake.Wait()
	}
	pieces := t.out
	t.out = written[:0]
	return pieces
}

// deadline is when the next write fails.
func (t *streamTransport) deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now().Add(t.timeout)
	if !t.end.IsZero() && t.end.Before(at) {
		return t.end
	}
	return at
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
	l.runJob(jobFunc(s.ended), now())
	l.finish(now())
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
