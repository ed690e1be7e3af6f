package servertest_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
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

func dial(t *testing.T, b *servertest.Broker, o client.Options) *client.Client {
	t.Helper()
	o.Dialer, o.ReconnectMin = b.Dial, time.Millisecond
	c, err := client.Dial(t.Context(), b.Addr, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestDroppedConnectionsComeBack(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	lost := make(chan error, 1)
	c := dial(t, b, client.Options{OnDisconnect: func(err error) { lost <- err }})
	b.DropConnections()
	require.Error(t, <-lost)
	_, err := c.Publish(t.Context(), &client.Message{Topic: "t", Value: []byte("x")})
	require.NoError(t, err)
}

func TestADiskBreaksAndRecovers(t *testing.T) {
	var disk servertest.Disk
	b := servertest.Start(t, servertest.Options{Server: server.Options{Dir: t.TempDir(), FS: disk.FS()}})
	c := dial(t, b, client.Options{RequestTimeout: 20 * time.Second})
	publish := func() error {
		_, err := c.Publish(t.Context(), &client.Message{Topic: "t", Value: []byte("x")})
		return err
	}
	require.NoError(t, publish())
	disk.Slow(20 * time.Millisecond)
	start := time.Now()
	require.NoError(t, publish())
	require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
	disk.Slow(0)

	other := dial(t, b, client.Options{NoIdempotence: true, MaxInFlight: 100})
	waited := func() error {
		disk.FailWrites(syscall.ENOSPC)
		defer disk.FailWrites(nil)
		waits := make(chan error, 1)
		go func() { waits <- publish() }()
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := other.Publish(ctx, &client.Message{Topic: "u", Value: []byte("x")})
			return errors.Is(err, wire.CodeStorageFull) || errors.Is(err, wire.CodeStorage)
		}, 20*time.Second, time.Millisecond)
		disk.FailWrites(nil)
		return <-waits
	}
	// It waits for space if it is appended before anybody knows, and is refused otherwise.
	err := waited()
	for errors.Is(err, wire.CodeStorageFull) {
		require.Eventually(t, func() bool { return publish() == nil }, 20*time.Second, 10*time.Millisecond)
		err = waited()
	}
	require.NoError(t, err)
	require.Eventually(t, func() bool { return publish() == nil }, 20*time.Second, 10*time.Millisecond)

	disk.FailSyncs(syscall.EIO)
	require.Error(t, publish())
	disk.FailSyncs(nil)
	require.ErrorIs(t, publish(), wire.CodeReadOnly)
	b.Restart()
	require.NoError(t, publish())
}

func TestAClockMovesWhenItIsTold(t *testing.T) {
	clock := servertest.NewClock()
	b := servertest.Start(t, servertest.Options{Server: server.Options{Now: clock.Now}})
	c := dial(t, b, client.Options{})
	_, err := c.Publish(t.Context(), &client.Message{Topic: "t", Value: []byte("x"), TTL: time.Hour})
	require.NoError(t, err)
	seen := func() int {
		f, err := c.Fetch(t.Context(), client.FetchRequest{Topic: "t"})
		require.NoError(t, err)
		return len(f.Messages)
	}
	require.Equal(t, 1, seen())
	clock.Advance(time.Hour)
	require.Zero(t, seen())
	clock.Advance(-time.Minute)
	require.Equal(t, 1, seen())
}
