package client

import (
	"fmt"
	"net"
	"syscall"

	"github.com/rafka-mq/rafka/wire"
)

// writeLoop writes what callers do not write themselves, until the connection ends.
func (cn *conn) writeLoop() {
	for {
		cn.mu.Lock()
		buf := cn.startLocked()
		unread := !cn.turn.taken && !cn.isQuietLocked()
		cn.mu.Unlock()
		if unread { // a caller that leaves writing to the writer does not read its answer either
			cn.recallReader()
		}
		if len(buf) == 0 {
			select {
			case <-cn.wake:
				cn.finishFired()
				continue
			case <-cn.down:
				return
			}
		}
		n, err := cn.nc.Write(buf)
		cn.wrote(n)
		cn.finishFired()
		if err != nil {
			cn.fail(fmt.Errorf("write: %w", err))
			return
		}
	}
}

// wakeWriter makes the writer write what is queued.
func (cn *conn) wakeWriter() {
	signal(cn.wake)
}

// push writes what is queued on the caller's goroutine, as far as the kernel takes it at once, and
// leaves the rest and all callbacks to the writer. It is for callers that wait for the answer: to
// hand over to the writer would cost two switches of goroutines, as much as the write itself. The
// caller holds no lock.
func (cn *conn) push() {
	if cn.direct == nil {
		cn.wakeWriter()
		return
	}
	cn.mu.Lock()
	var buf []byte
	if cn.err == nil {
		buf = cn.startLocked()
	}
	cn.mu.Unlock()
	if len(buf) == 0 {
		return // nothing is queued, or whoever is writing will see it
	}
	n, err := cn.direct.write(buf)
	if cn.wrote(n) {
		cn.wakeWriter()
	}
	if err != nil {
		cn.fail(fmt.Errorf("write: %w", err))
	}
}

// startLocked returns what the caller must write and then report to wrote. It returns nothing when
// there is nothing to write, or somebody else is writing.
func (cn *conn) startLocked() []byte {
	if cn.writing {
		return nil
	}
	if cn.part == len(cn.sending.parts) {
		cn.sending.reset()
		cn.sending, cn.out, cn.part = cn.out, cn.sending, 0
		cn.sending.cutOwn()
		cn.room.Broadcast()
	}
	if cn.writing = cn.part < len(cn.sending.parts); !cn.writing {
		return nil
	}
	return cn.sending.parts[cn.part]
}

// wrote notes that n bytes were written. It returns true when there is more for the writer to do.
func (cn *conn) wrote(n int) (more bool) {
	cn.written.Add(uint64(n))
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.writing = false
	if part := &cn.sending.parts[cn.part]; n < len(*part) {
		*part = (*part)[n:]
	} else {
		*part = nil
		cn.part++
	}
	cn.room.Broadcast()
	return cn.part < len(cn.sending.parts) || cn.out.size() > 0 || len(cn.fired) > 0
}

// finishFired completes the batches at wire.LevelNone that were written. Only the writer calls it,
// because it runs callbacks, which must not run within a user's call.
func (cn *conn) finishFired() {
	written := cn.written.Load()
	for {
		cn.mu.Lock()
		if len(cn.fired) == 0 || cn.fired[0].end > written {
			cn.mu.Unlock()
			return
		}
		b := cn.fired[0].batch
		cn.fired = cn.fired[1:]
		cn.mu.Unlock()
		b.lane.answered(b, answer{level: wire.LevelNone})
	}
}

// directWrite writes to a socket without ever blocking. It is not safe for concurrent use.
type directWrite struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // calls writeOnce with buf; made once, to allocate nothing for each write
	buf []byte
	n   int
	err error
}

// newDirectWrite returns nil for a connection that is not a plain socket, such as TLS.
func newDirectWrite(nc net.Conn) *directWrite {
	if line, ok := nc.(*greeted); ok {
		nc = line.Conn
	}
	var raw syscall.RawConn
	var err error
	switch c := nc.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if raw == nil || err != nil || !canWriteDirectly {
		return nil
	}
	d := &directWrite{raw: raw}
	d.try = func(fd uintptr) bool {
		d.n, d.err = writeOnce(fd, d.buf)
		return true
	}
	return d
}

// write returns how many bytes of b the kernel took.
func (d *directWrite) write(b []byte) (int, error) {
	d.buf, d.n, d.err = b, 0, nil
	err := d.raw.Write(d.try)
	d.buf = nil
	if err == nil {
		err = d.err
	}
	return d.n, err
}
