package client

import "syscall"

// motion is what a connection had received and delivered when it was last looked at. It tells a slow network from a dead
// one: an answer may take long that waits behind megabytes of other data, in either direction.
type motion struct {
	reads   uint64 // how many reads returned something
	passed  uint64 // how many bytes the other side has confirmed; where that is not known, how many the kernel took
	backlog bool   // much was on its way then
}

// longBacklog is how much unconfirmed output excuses a late answer: 64 KiB take 10 s at 52 kbit/s. With less, what is
// confirmed proves nothing: a proxy confirms every small request, also one whose broker is gone.
const longBacklog = 64 << 10

// moves reports whether anything has arrived since seen, or a long backlog has become shorter. It updates seen. The zero
// motion has seen nothing.
func (cn *conn) moves(seen *motion) bool {
	now := motion{reads: cn.line.reads.Load()}
	written := cn.written.Load()
	confirmed, kept := cn.output()
	if now.passed = confirmed; confirmed == 0 {
		now.passed = written
	}
	cn.mu.Lock()
	now.backlog = written+longBacklog < cn.queued+uint64(kept)
	cn.mu.Unlock()
	before := *seen
	*seen = now
	return now.reads != before.reads || before.backlog && now.passed > before.passed
}

// output is outputOf for the connection. It returns nothing for one that is not a socket.
func (cn *conn) output() (confirmed uint64, kept int) {
	socket, ok := cn.line.Conn.(syscall.Conn)
	if !ok {
		return 0, 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, 0
	}
	err = raw.Control(func(fd uintptr) { confirmed, kept = outputOf(int(fd)) })
	if err != nil { // the socket is closed
		return 0, 0
	}
	return confirmed, kept
}
