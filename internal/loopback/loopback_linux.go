package loopback

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// plain is the congestion control that every process may choose, and that does least: it never delays a
// packet, and nothing is lost on loopback that would make it send less.
const plain = "reno"

func setUp(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, plain)
	})
}
