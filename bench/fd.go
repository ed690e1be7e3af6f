package bench

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/internal/loopback"
	"github.com/rafka-mq/rafka/wire"
)

// fdConn is a TCP connection with blocking system calls. It is not safe for concurrent use. It does as
// little work as possible, so that the server is what is measured. Reads time out after 20 seconds.
type fdConn struct {
	fd  int
	buf []byte // received bytes that frame has not returned yet; usually a part of mem
	mem []byte // buffer of fill
	in  []byte // buffer of read
}

// dialFD connects to addr.
func dialFD(addr string) (*fdConn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: loopback.Control}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return blocking(conn.(*net.TCPConn))
}

// blocking takes a connection out of the Go runtime's poller. It closes conn, also on error.
func blocking(conn *net.TCPConn) (*fdConn, error) {
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &fdConn{in: make([]byte, 256<<10)}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { c.fd, dupErr = unix.Dup(int(fd)) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	tv := unix.NsecToTimeval((20 * time.Second).Nanoseconds())
	return c, errors.Join(
		unix.SetNonblock(c.fd, false),
		unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
	)
}

func (c *fdConn) close() { _ = unix.Close(c.fd) }

func (c *fdConn) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(c.fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// read reads once from the socket and returns the bytes, which are valid until the next read. It ignores
// c.buf.
func (c *fdConn) read() ([]byte, error) {
	for {
		n, err := unix.Read(c.fd, c.in)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("read: %w", err)
		case n == 0:
			return nil, errors.New("the server closed the connection")
		default:
			return c.in[:n], nil
		}
	}
}

// fill reads until c.buf has at least n bytes. It overwrites frames that were returned before.
func (c *fdConn) fill(n int) error {
	if cap(c.mem) < n+len(c.in) {
		c.mem = make([]byte, 2*(n+len(c.in)))
	}
	if have := len(c.buf); have < n {
		copy(c.mem, c.buf)
		for have < n {
			k, err := unix.Read(c.fd, c.mem[have:cap(c.mem)])
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return fmt.Errorf("read: %w", err)
			case k == 0:
				return errors.New("the server closed the connection")
			default:
				have += k
			}
		}
		c.buf = c.mem[:have]
	}
	return nil
}

// frame returns the next frame; it is valid until the next call.
func (c *fdConn) frame() (wire.Frame, error) {
	for need := 4; ; {
		if err := c.fill(need); err != nil {
			return wire.Frame{}, err
		}
		f, rest, size, ok, err := wire.NextFrame(c.buf, wire.MaxFrameBytes)
		if err != nil {
			return wire.Frame{}, err
		}
		if ok {
			c.buf = rest
			return f, nil
		}
		need = max(size, 4)
	}
}

// buffered reports whether frame will return without reading.
func (c *fdConn) buffered() bool {
	_, _, _, ok, err := wire.NextFrame(c.buf, wire.MaxFrameBytes)
	return ok || err != nil
}

// session is a connection to a broker after the handshake, with one topic resolved.
type session struct {
	*fdConn
	handle uint16 // of the topic
}

// login connects to a broker without credentials, and resolves a topic, which it creates if necessary.
func login(addr, topic string) (*session, error) {
	c, err := dialFD(addr)
	if err != nil {
		return nil, err
	}
	s := &session{fdConn: c}
	if err := s.greet(topic); err != nil {
		c.close()
		return nil, err
	}
	return s, nil
}

// greet reads the greeting, says hello and resolves the topic.
func (s *session) greet(topic string) error {
	for { // the greeting is one line
		if err := s.fill(len(s.buf) + 1); err != nil {
			return err
		}
		if n := len(s.buf); s.buf[n-1] == '\n' {
			break
		}
	}
	s.buf = nil
	hello, resolve := wire.Hello{Name: "bench"}, wire.Resolve{Topic: topic}
	out := wire.AppendPreface(nil)
	out = append(out, request(wire.OpHello, 0, 1, hello.Append)...)
	out = append(out, request(wire.OpResolve, wire.FlagCreate, 2, resolve.Append)...)
	if err := s.write(out); err != nil {
		return err
	}
	for range 2 {
		f, err := s.frame()
		if err != nil {
			return err
		}
		if err := failure(f); err != nil {
			return err
		}
		if f.Op == wire.OpResolve|wire.OpReply {
			var m wire.ResolveReply
			if err := m.Parse(f.Body); err != nil {
				return err
			}
			s.handle = m.Handle
		}
	}
	return nil
}

// failure returns the error that a reply carries, or nil.
func failure(f wire.Frame) error {
	if f.Flags&wire.FlagError == 0 {
		return nil
	}
	var e wire.Error
	if err := e.Parse(f.Body); err != nil {
		return err
	}
	return &e
}

// request returns a frame with a body that body appends.
func request(op wire.Op, flags wire.Flags, id uint32, body func([]byte) []byte) []byte {
	b, at := wire.BeginFrame(nil, op, flags, id)
	return wire.EndFrame(body(b), at)
}

// publishFrame returns a publish frame with a batch of count records of size bytes each.
func publishFrame(handle, partition uint16, level wire.Level, size, count int) []byte {
	var b wire.BatchBuilder
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i)
	}
	for range count {
		b.Add(wire.Record{Value: value})
	}
	m := wire.Publish{Handle: handle, Partition: partition, Batch: b.Bytes()}
	return request(wire.OpPublish, wire.Flags(level), 0, m.Append)
}
