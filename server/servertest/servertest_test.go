package servertest_test

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
)

func greeting(t *testing.T, conn net.Conn, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return line
}

func TestABrokerNeedsNoSocket(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	conn, err := b.Dial(t.Context(), b.Addr)
	require.True(t, strings.HasPrefix(greeting(t, conn, err), "INFO {"))
	require.Nil(t, b.Server.Addr())
}

func TestABrokerComesBackOnItsAddress(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	addr := b.Addr
	b.Restart()
	require.Equal(t, addr, b.Addr)
	conn, err := net.Dial("tcp", addr)
	require.True(t, strings.HasPrefix(greeting(t, conn, err), "INFO {"))
}
