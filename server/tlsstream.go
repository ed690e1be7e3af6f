package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxTLSRecord is the most data in a TLS record.
const maxTLSRecord = 16 << 10

// tlsStream is a TLS connection that costs few system calls. crypto/tls alone reads a record with two and writes each with
// one, which wakes the peer for 16 KiB. Nothing of it blocks after the handshake but await and Read.
type tlsStream struct {
	*tls.Conn
	socket  *tlsSocket
	drained bool // all input of the socket was read
}

// tlsServer is tls.Server for a socket, with the handshake.
func tlsServer(conn net.Conn, config *tls.Config) (*tlsStream, error) {
	raw, err := rawSocket(conn)
	if err != nil {
		return nil, err
	}
	s := &tlsStream{socket: &tlsSocket{Conn: conn, raw: raw, waits: true}}
	s.Conn = tls.Server(s.socket, config)
	err = s.Handshake()
	s.socket.waits = false
	return s, err
}

// rawSocket returns the way to a connection's file descriptor.
func rawSocket(conn net.Conn) (syscall.RawConn, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	return c.SyscallConn()
}

// await waits for input. Unlike Read it needs no buffer for that, so an idle connection has none.
func (s *tlsStream) await() error {
	if !s.drained {
		return nil
	}
	s.drained = false
	return s.socket.fill()
}

// Read waits for input and returns all that there is and has room. b has room for a record.
func (s *tlsStream) Read(b []byte) (n int, err error) {
	for len(b)-n >= maxTLSRecord { // less could leave data behind that await does not see
		var m int
		m, err = s.Conn.Read(b[n:])
		n += m
		switch {
		case err == nil:
		case n > 0:
			s.drained = errors.Is(err, os.ErrDeadlineExceeded)
			return n, nil // crypto/tls returns other errors again
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		default:
			if err = s.socket.fill(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// tlsSocket is the socket below a TLS connection.
type tlsSocket struct {
	net.Conn
	raw   syscall.RawConn
	waits bool    // Read waits for input, as it must during the handshake
	in    *buffer // input that was read; nil for none
	taken int     // bytes of in that were passed on

	out *streamTransport // gets the records; nil during the handshake, when they are written at once
}

// Read passes on input that was read. Without any it fails as if a deadline had passed, after which crypto/tls can go on.
func (s *tlsSocket) Read(b []byte) (int, error) {
	if s.in == nil {
		if !s.waits {
			return 0, os.ErrDeadlineExceeded
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.in.B[s.taken:])
	s.taken += n
	if s.taken == len(s.in.B) {
		putBuffer(s.in)
		s.in = nil
	}
	return n, nil
}

// fill waits for input and reads what there is. It is called when there is none, and takes memory only once there is some.
func (s *tlsSocket) fill() error {
	if s.in != nil {
		return nil
	}
	var n int
	var got error
	err := s.raw.Read(func(fd uintptr) bool {
		in := takeBuffer(bufferClass(streamChunk))
		for n, got = unix.Read(int(fd), in.B[:streamChunk]); got == unix.EINTR; {
			n, got = unix.Read(int(fd), in.B[:streamChunk])
		}
		if n <= 0 {
			putBuffer(in)
			return got != unix.EAGAIN
		}
		in.B = in.B[:n]
		s.in, s.taken = in, 0
		return true
	})
	switch {
	case err != nil:
		return err
	case got != nil:
		return got
	case n == 0:
		return io.EOF
	}
	return nil
}

// Write passes a record on.
func (s *tlsSocket) Write(b []byte) (int, error) {
	if s.out != nil {
		return s.out.keep(b)
	}
	return s.Conn.Write(b)
}

// SetWriteDeadline does nothing: crypto/tls sets one when it tells the peer of the end, but does not write that itself.
func (s *tlsSocket) SetWriteDeadline(time.Time) error { return nil }
