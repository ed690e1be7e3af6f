// Package loopback sets up TCP connections whose both ends are on one machine.
//
// It takes congestion control away from them, because there is no network to share. That matters where
// BBR is the system's default: BBR sets a timer before each packet, also on loopback, which costs more
// than the packet does. Other connections keep what the system has chosen.
package loopback

import (
	"net"
	"net/netip"
	"syscall"
)

// Control is for the fields of that name in net.Dialer and net.ListenConfig. It sets up a socket whose
// address is a loopback address, before the socket is connected or listens. Accepted connections inherit
// that. It never returns an error: without it everything works, but slower.
func Control(_, address string, c syscall.RawConn) error {
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Unmap().IsLoopback() {
		setUp(c)
	}
	return nil
}

// Accepted sets up a connection that a listener on all addresses has accepted, if it comes from a
// loopback address. A connection that the system had begun to pace sets its timers still, so this gains
// less than Control.
func Accepted(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if from, ok := tcp.RemoteAddr().(*net.TCPAddr); !ok || !from.IP.IsLoopback() {
		return
	}
	if c, err := tcp.SyscallConn(); err == nil {
		setUp(c)
	}
}
