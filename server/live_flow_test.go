package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowTransport keeps output until somebody reads it.
type slowTransport struct{ memTransport }

func (s *slowTransport) Write(b []byte) (int, error) {
	s.unread += len(b)
	return len(b), nil
}

func (s *slowTransport) Writev(bs [][]byte) (int, error) {
	total := 0
	for _, b := range bs {
		total += len(b)
	}
	s.unread += total
	return total, nil
}

// read takes up to n bytes.
func (s *slowTransport) read(n int) { s.unread -= min(s.unread, n) }

// on opens a program's session over a transport.
func (b *textBroker) on(tr transport, lines string) *session {
	l := b.loops[0]
	s := newSession(l, 1000)
	b.srv.connections.Add(1)
	s.open(tr, b.now())
	s.receive([]byte(quietProgram+lines), b.now())
	l.endTurn(b.now())
	b.t.Cleanup(func() { l.sessionEnded(s, b.now()) })
	return s
}

// pausing lets the loops hold publishers back, and returns what reports whether one is held.
func (b *textBroker) pausing() (held func(p *textPeer) bool) {
	paused := map[*session]bool{}
	for _, l := range b.loops {
		l.pauseReading = func(s *session, pause bool) { paused[s] = pause }
	}
	return func(p *textPeer) bool { return paused[p.s] }
}

// after lets time pass and the loops see it.
func (b *textBroker) after(d time.Duration) {
	b.clock.Add(d.Milliseconds())
	for _, l := range b.loops {
		l.tick(b.now())
	}
	b.turn()
}

// hundred is a publish of 100 KiB to the subject a.
var hundred = "PUB a 102400\r\n" + strings.Repeat("x", 100<<10) + "\r\n"

// A subscriber that reads slower than others publish holds them back instead of being closed. Those
// who publish to somebody else do not notice.
func TestSlowReaderHoldsItsPublishersBack(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 4 << 20})
	held := b.pausing()
	tr := &slowTransport{}
	s := b.on(tr, "SUB a 1\r\n")
	near, far, other := b.program(), b.program(), b.program() // near is on the other loop
	require.NotEqual(t, near.s.loop, far.s.loop)
	holds := 0
	for range 400 {
		for _, p := range []*textPeer{near, far} {
			if !held(p) {
				p.feed(hundred)
				if b.turn(); held(p) {
					holds++
				}
			}
		}
		other.feed("PUB b 3\r\nabc\r\nPING\r\n")
		b.turn()
		require.Equal(t, "PONG\r\n", other.take())
		require.False(t, held(other))
		tr.read(150 << 10)
		b.after(5 * time.Millisecond)
		require.False(t, s.closed)
	}
	require.Greater(t, holds, 100)
	require.Less(t, tr.unread, 3<<20)
	tr.unread = 0
	b.after(5 * time.Millisecond)
	require.False(t, held(near))
	require.False(t, held(far))
}

// One that reads nothing is waited for a while, then no more, then closed. When it reads after all it
// is waited for again.
func TestDeadReaderIsNotWaitedForForLong(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 64 << 20})
	held := b.pausing()
	tr := &slowTransport{}
	s := b.on(tr, "SUB a 1\r\n")
	publisher := b.program()
	publish := func() {
		publisher.feed(hundred)
		b.turn()
	}
	for range 16<<20/(100<<10) + 1 {
		publish()
		require.False(t, held(publisher))
	}
	publish()
	require.True(t, held(publisher))
	b.after(5 * time.Millisecond)
	require.True(t, held(publisher), "for as long as its message is worth")
	b.after(5 * time.Millisecond)
	require.False(t, held(publisher), "and no longer")
	b.after(numbAfter)
	publish()
	require.False(t, held(publisher), "nobody waits any more")
	tr.read(1)
	publish()
	publish()
	require.True(t, held(publisher), "it reads")
	b.after(numbAfter + time.Second)
	require.False(t, held(publisher))
	for i := 0; i < 700 && !s.closed; i++ {
		publish()
		require.False(t, held(publisher))
	}
	require.True(t, s.closed)
	require.True(t, tr.closed)
}

// Few bytes are saved up: who publishes little is not held for each message.
func TestWhoPublishesLittleIsHardlyHeld(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 4 << 20})
	held := b.pausing()
	tr := &slowTransport{}
	b.on(tr, "SUB a 1\r\n")
	tr.unread = 2 << 20
	publisher := b.program()
	publisher.feed("PUB a 0\r\n\r\n") // the loop notices
	b.turn()
	sent := 0
	for !held(publisher) {
		publisher.feed("PUB a 1000\r\n" + strings.Repeat("x", 1000) + "\r\n")
		b.turn()
		sent += 1001
	}
	require.InDelta(t, pace*5/1000, sent, 2000)
}

// Who hands a loop more than it delivers waits for it.
func TestFullInboxHoldsPublishersBack(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 4 << 20})
	held := b.pausing()
	b.on(&slowTransport{}, "SUB a 1\r\n")
	publisher := b.program()
	if publisher.s.loop == b.loops[0] {
		publisher = b.program()
	}
	for range 10 {
		publisher.feed(hundred)
		require.False(t, held(publisher))
	}
	publisher.feed(hundred)
	require.True(t, held(publisher))
	b.turn()
	b.after(5 * time.Millisecond)
	require.False(t, held(publisher))
}

// A reader on a socket that is slower than its publisher gets everything.
func TestHeldConnectionsOfSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("publishers are held back on Linux only")
	}
	srv := startServer(t, Options{Loops: 1, MaxPendingBytes: 8 << 20})
	dial := func(lines string) net.Conn {
		conn, err := net.Dial("tcp", srv.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(waitLimit)))
		_, err = conn.Write([]byte(quietProgram + lines))
		require.NoError(t, err)
		return conn
	}
	reader := dial("SUB a 1\r\n")
	require.Eventually(t, func() bool { return srv.live.Len() == 1 }, waitLimit, time.Millisecond)
	publisher := dial("")
	const n = 400 // 40 MB, five times of what the reader may leave unread
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range n {
			if _, err := publisher.Write([]byte(hundred)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	want := "MSG a 1 102400\r\n" + hundred[len("PUB a 102400\r\n"):]
	r := bufio.NewReader(reader)
	_, err := r.ReadString('\n') // INFO
	require.NoError(t, err)
	got := make([]byte, len(want))
	for i := range n {
		_, err := io.ReadFull(r, got)
		require.NoError(t, err, "message %d", i)
		require.True(t, string(got) == want, "message %d", i)
		if i%10 == 0 {
			time.Sleep(time.Millisecond) // it is slow
		}
	}
	require.Zero(t, srv.metrics.slowConsumers.Load())
}

// A loop that delivers nothing of what it is handed does not make others keep it all.
func TestOverwhelmedLoopLosesItsSubscribers(t *testing.T) {
	const hardMail = 16 << 20
	b := newTextBroker(t, Options{MaxPendingBytes: hardMail})
	far, publisher := b.program("SUB a 1"), b.program()
	message := "PUB a 1048000\r\n" + strings.Repeat("x", 1_048_000) + "\r\n"
	start := time.Now()
	for range 2*hardMail/1_048_000 + 1 {
		publisher.feed(message)
	}
	require.LessOrEqual(t, far.s.loop.mail.Load(), int64(hardMail+maxHandoff))
	require.Zero(t, b.srv.live.Len())
	require.Less(t, time.Since(start), waitLimit)
	b.turn()
	require.True(t, far.m.closed)
	require.Zero(t, far.s.loop.mail.Load())
}

// brokenTransport is a connection whose end shows in a write, in the middle of a turn.
type brokenTransport struct {
	memTransport
	broken bool
	end    func()
}

func (b *brokenTransport) Write(p []byte) (int, error) {
	if !b.broken {
		return len(p), nil
	}
	b.end()
	return 0, errors.New("broken pipe")
}

func (b *brokenTransport) Writev([][]byte) (int, error) { return b.Write(nil) }

func TestConnectionEndsInTheMiddleOfATurn(t *testing.T) {
	f := func(payload int, unread int) {
		t.Helper()
		b := newTextBroker(t, Options{MaxPendingBytes: 1 << 20})
		first := b.program("SUB a 1")
		tr := &brokenTransport{}
		s := b.on(tr, "SUB a 1\r\nSUB a 2\r\nUNSUB 2 1\r\n")
		tr.end = func() { b.loops[0].sessionEnded(s, b.now()) }
		tr.broken = unread == 0
		tr.unread = unread
		b.program() // takes the other loop
		publisher, last := b.program(), b.program()
		last.feed("SUB a 1\r\n")
		for range 2 {
			publisher.feed("PUB a " + strconv.Itoa(payload) + "\r\n" + strings.Repeat("x", payload) + "\r\n")
			b.turn()
			tr.broken = true
		}
		require.True(t, s.gone)
		require.Len(t, b.loops[0].sessions, 2)
		require.Equal(t, 2, b.srv.live.Len())
		require.Equal(t, 2, strings.Count(first.take(), "MSG"))
		require.Equal(t, 2, strings.Count(last.take(), "MSG"))
		require.Zero(t, b.srv.metrics.panics.Load())
	}
	f(10, 0)         // when the turn ends
	f(spillBytes, 0) // while a message is delivered
}
