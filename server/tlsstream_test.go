package server

import (
	"bytes"
	"crypto/tls"
	encbinary "encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/wire"
)

// pieceConn writes in pieces of at most some bytes.
type pieceConn struct {
	net.Conn
	most int
}

func (c *pieceConn) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n, err := c.Conn.Write(rest[:min(c.most, len(rest))])
		if err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// tlsPair connects a TLS client, whose records arrive in pieces, with a tlsStream.
func tlsPair(t *testing.T, version uint16, piece int) (client *tls.Conn, server *tlsStream) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	dialed, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	accepted, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	config := a.client()
	config.ServerName, config.MaxVersion = "localhost", version
	client = tls.Client(&pieceConn{Conn: dialed, most: piece}, config)
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	server, err = tlsServer(accepted, a.server())
	require.NoError(t, err)
	require.NoError(t, <-shaken)
	return client, server
}

// readSome reads n bytes as readStream does.
func readSome(t *testing.T, s *tlsStream, n int) []byte {
	var got []byte
	for len(got) < n {
		require.NoError(t, s.await())
		b := make([]byte, streamChunk)
		m, err := s.Read(b)
		require.NoError(t, err)
		require.NotZero(t, m)
		got = append(got, b[:m]...)
	}
	return got
}

// Whatever the peer sends arrives, without anything behind it, however it is cut into records and reads.
func TestTLSInputArrives(t *testing.T) {
	for name, c := range map[string]struct {
		version uint16
		piece   int
	}{
		"1.3":          {tls.VersionTLS13, 1 << 20},
		"1.2":          {tls.VersionTLS12, 1 << 20},
		"small pieces": {tls.VersionTLS13, 7},
		"odd pieces":   {tls.VersionTLS13, 1023},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tlsPair(t, c.version, c.piece)
			for _, size := range []int{1, 5, maxTLSRecord - 1, maxTLSRecord, maxTLSRecord + 1, streamChunk, 300_000, 2} {
				data := randomBytes(size)
				sent := make(chan error, 1)
				go func() {
					_, err := client.Write(data)
					sent <- err
				}()
				require.True(t, bytes.Equal(data, readSome(t, server, size)), size)
				require.NoError(t, <-sent)
				require.Nil(t, server.socket.in, "an idle connection has no buffer")
			}
			require.NoError(t, client.Close())
			_, err := server.Read(make([]byte, streamChunk))
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// writing starts the writer of a transport. ended is closed at its end.
func writing(conn net.Conn) (tr *streamTransport, ended chan struct{}) {
	tr, ended = newStreamTransport(conn, waitLimit), make(chan struct{})
	go func() {
		tr.write()
		close(ended)
	}()
	return tr, ended
}

func TestTLSOutputArrives(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := tlsPair(t, version, 1<<20)
		tr, ended := writing(server)
		var want []byte
		for range 100 {
			parts := [][]byte{randomBytes(rand.IntN(100)), randomBytes(rand.IntN(1 << rand.IntN(19))), {'x'}}
			want = append(want, bytes.Join(parts, nil)...)
			_, err := tr.Writev(parts)
			require.NoError(t, err)
		}
		large := make([]byte, 16<<20) // more than the sockets take
		want = append(want, large...)
		_, err := tr.Write(large)
		require.NoError(t, err)
		require.Positive(t, tr.OutboundBuffered())
		require.NoError(t, tr.Close())
		_, err = tr.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		<-ended
		require.Zero(t, tr.OutboundBuffered())
	}
}

// Stored messages come in many slices when other entries stand between them.
func TestSmallSlicesShareATLSRecord(t *testing.T) {
	client, server := tlsPair(t, tls.VersionTLS13, 1<<20)
	tr, ended := writing(server)
	_, err := tr.Writev(slices.Repeat([][]byte{randomBytes(10)}, 50))
	require.NoError(t, err)
	require.NoError(t, tr.Close())
	<-ended
	record, err := io.ReadAll(client.NetConn())
	require.NoError(t, err)
	require.Equal(t, uint16(500+1+16), encbinary.BigEndian.Uint16(record[3:]), "with its type and tag")
}

// The peer is told of the end, so that it can tell it from output that somebody cut off.
func TestTLSPeerIsToldOfTheEnd(t *testing.T) {
	for version, alert := range map[uint16]byte{tls.VersionTLS12: 21, tls.VersionTLS13: 23} {
		client, server := tlsPair(t, version, 1<<20)
		tr, ended := writing(server)
		_, err := tr.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, tr.Close())
		<-ended
		record, err := io.ReadAll(client.NetConn()) // crypto/tls takes any end for one
		require.NoError(t, err)
		require.NotEmpty(t, record)
		require.Equal(t, alert, record[0])
	}
}

// What the session sees of its output is what it wrote, without what TLS adds: otherwise every further message would look as
// if the peer had read something.
func TestTLSOutputIsCountedAsWritten(t *testing.T) {
	_, server := tlsPair(t, tls.VersionTLS13, 1<<20)
	tr, ended := writing(server)
	_, err := tr.Write(make([]byte, 16<<20)) // more than the sockets take
	require.NoError(t, err)
	stuck := func() bool { // for a while
		before := tr.OutboundBuffered()
		time.Sleep(50 * time.Millisecond)
		return tr.OutboundBuffered() == before
	}
	require.Eventually(t, stuck, waitLimit, time.Millisecond)
	before := tr.OutboundBuffered()
	for range 1000 {
		_, err = tr.Write([]byte("x"))
		require.NoError(t, err)
	}
	require.Equal(t, before+1000, tr.OutboundBuffered())
	require.NoError(t, server.Close(), "does not wait for the peer")
	<-ended
}

// What is written to a stream arrives in order, whatever the sizes, and is counted until it was written.
func TestStreamOutputArrives(t *testing.T) {
	ours, theirs := net.Pipe()
	tr, ended := writing(ours)
	var want []byte
	for range 200 {
		b := randomBytes(rand.IntN(1 << rand.IntN(18)))
		want = append(want, b...)
		_, err := tr.Write(b)
		require.NoError(t, err)
	}
	require.Positive(t, tr.OutboundBuffered())
	got := make([]byte, len(want))
	_, err := io.ReadFull(theirs, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	require.NoError(t, tr.Close())
	<-ended
	require.Zero(t, tr.OutboundBuffered())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// Who reads less than a piece within SlowTimeout, but reads, is no peer that never reads. Who stops is cut off.
func TestASlowNetworkWithTLSIsNoPeerThatNeverReads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says what a socket keeps")
	}
	a := newAuthority(t)
	srv := startServer(t, Options{SlowTimeout: time.Second, TLS: TLSOptions{Config: a.server(), First: true}})
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	config := a.client()
	config.ServerName = "localhost"
	conn, err := tls.DialWithDialer(&small, "tcp", srv.Addr().String(), config)
	require.NoError(t, err)
	p := greet(t, conn)
	p.hello()
	h := p.resolve("orders").Handle
	for range 16 {
		p.publish(h, 0, strings.Repeat("v", 1<<20-100))
	}
	sub := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 31}
	p.send(wire.OpSubscribe, 0, sub.Append)
	for range 120 {
		_, err := io.ReadFull(p.conn, make([]byte, 1<<10))
		require.NoError(t, err)
		time.Sleep(30 * time.Millisecond) // so slow is the network
	}
	require.Zero(t, srv.metrics.slowConsumers.Load())
	require.EqualValues(t, 1, srv.connections.Load())
	require.Eventually(t, func() bool { return srv.metrics.slowConsumers.Load() == 1 && srv.connections.Load() == 0 }, waitLimit, time.Millisecond)
}
