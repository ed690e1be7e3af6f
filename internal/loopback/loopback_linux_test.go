package loopback

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// congestionOf returns the congestion control of a connection.
func congestionOf(t *testing.T, conn net.Conn) string {
	c, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var name string
	require.NoError(t, c.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) }))
	require.NoError(t, err)
	return strings.TrimRight(name, "\x00")
}

// systemDefault returns what a connection has that nobody set up.
func systemDefault(t *testing.T) string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Skip("the system does not say which congestion control is its default: ", err)
	}
	return strings.TrimSpace(string(b))
}

// pair connects two sockets over loopback.
func pair(t *testing.T, listen net.ListenConfig, dial net.Dialer) (dialled, accepted net.Conn) {
	l, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dialled, err = dial.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialled.Close() })
	accepted, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = accepted.Close() })
	return dialled, accepted
}

func TestBothEndsOfALoopbackConnectionAreSetUp(t *testing.T) {
	dialled, accepted := pair(t, net.ListenConfig{Control: Control}, net.Dialer{Control: Control})
	require.Equal(t, plain, congestionOf(t, dialled))
	require.Equal(t, plain, congestionOf(t, accepted))
}

func TestAnAcceptedConnectionIsSetUp(t *testing.T) {
	dialled, accepted := pair(t, net.ListenConfig{}, net.Dialer{})
	Accepted(accepted)
	require.Equal(t, plain, congestionOf(t, accepted))
	require.Equal(t, systemDefault(t), congestionOf(t, dialled), "the other end is not touched")
}

func TestOtherAddressesKeepTheSystemsChoice(t *testing.T) {
	normal := systemDefault(t)
	for _, address := range []string{"0.0.0.0:0", "[::]:0", "nonsense", ""} {
		set := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error { return Control(network, address, c) }}
		_, accepted := pair(t, set, net.Dialer{})
		require.Equal(t, normal, congestionOf(t, accepted), address)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	Accepted(a)
}
