package server

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

func TestTLSOutputArrives(t *testing.T) {
	client, server := tlsPair(t, tls.VersionTLS13, 1<<20)
	for range 50 {
		data := randomBytes(1 + rand.IntN(streamChunk))
		sent := make(chan error, 1)
		go func() {
			_, err := server.Write(data)
			sent <- err
		}()
		got := make([]byte, len(data))
		_, err := io.ReadFull(client, got)
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.True(t, bytes.Equal(data, got))
		require.Nil(t, server.socket.out)
	}
	require.NoError(t, server.Close())
	_, err := client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the peer was told")
}

// A peer that does not read does not hold up Close.
func TestTLSCloseDuringAWrite(t *testing.T) {
	_, server := tlsPair(t, tls.VersionTLS13, 1<<20)
	ended := make(chan error, 1)
	go func() {
		var err error
		for data := make([]byte, streamChunk); err == nil; {
			_, err = server.Write(data)
		}
		ended <- err
	}()
	waits := func() bool { // for a while
		for range 50 {
			if server.socket.mu.TryLock() {
				server.socket.mu.Unlock()
				return false
			}
			time.Sleep(time.Millisecond)
		}
		return true
	}
	require.Eventually(t, waits, waitLimit, time.Millisecond)
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}

// What is written to a stream arrives in order, whatever the sizes, and is counted until it was written.
func TestStreamOutputArrives(t *testing.T) {
	ours, theirs := net.Pipe()
	tr := newStreamTransport(ours, waitLimit)
	done := make(chan struct{})
	go func() {
		tr.write()
		close(done)
	}()
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
	<-done
	require.Zero(t, tr.OutboundBuffered())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
