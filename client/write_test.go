package client

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// socketPair returns both ends of a TCP connection.
func socketPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	a, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	b, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

// A direct write takes what fits and never waits for the peer.
func TestDirectWriteNeverWaits(t *testing.T) {
	a, b := socketPair(t)
	d := newDirectWrite(&greeted{Conn: a})
	if d == nil {
		t.Skip("this system has no direct writes: see canWriteDirectly")
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	sent := 0
	for {
		n, err := d.write(data[sent:])
		require.NoError(t, err)
		if n == 0 {
			break
		}
		sent += n
	}
	require.Less(t, sent, len(data), "nobody reads")
	got := make([]byte, sent)
	_, err := io.ReadFull(b, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[:sent], got))
	require.NoError(t, a.Close())
	_, err = d.write(data)
	require.Error(t, err)
}

// Only plain sockets are written to past their net.Conn.
func TestDirectWriteIsForSockets(t *testing.T) {
	a, b := net.Pipe()
	require.Nil(t, newDirectWrite(a))
	require.Nil(t, newDirectWrite(&greeted{Conn: b}))
}

// Frames of many goroutines, of which some write themselves and some leave it to the writer, arrive whole
// and in the order of each goroutine, while the peer reads slowly.
func TestPushAndWriterTakeTurns(t *testing.T) {
	a, b := socketPair(t)
	c := &Client{opts: Options{}.withDefaults()}
	cn := newConn(c, &greeted{Conn: a, passed: true}, &greeted{})
	var writer sync.WaitGroup
	writer.Go(cn.writeLoop)
	const senders, each = 8, 300
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				cn.mu.Lock()
				cn.out.own = append(cn.out.own, byte(s), byte(i), byte(i>>8))
				if body := bytes.Repeat([]byte{byte(s)}, 997*i%40_000); i%3 == 0 && len(body) > 0 {
					cn.out.lend(body)
				} else {
					cn.out.own = append(cn.out.own, body...)
				}
				cn.queued += uint64(3 + 997*i%40_000)
				cn.mu.Unlock()
				if s%2 == 0 {
					cn.push()
				} else {
					cn.wakeWriter()
				}
			}
		})
	}
	var next [senders]int
	var head [3]byte
	body := make([]byte, 40_000)
	for range senders * each {
		_, err := io.ReadFull(b, head[:])
		require.NoError(t, err)
		s, i := int(head[0]), int(head[1])|int(head[2])<<8
		require.Equal(t, next[s], i)
		next[s]++
		n := 997 * i % 40_000
		_, err = io.ReadFull(b, body[:n])
		require.NoError(t, err)
		require.Equal(t, n, bytes.Count(body[:n], []byte{byte(s)}))
	}
	wg.Wait()
	cn.fail(ErrClosed)
	writer.Wait()
	require.Equal(t, cn.queued, cn.written.Load())
}
