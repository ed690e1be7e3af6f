package server

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowTransport keeps output until Flush, which takes a part of it.
type slowTransport struct {
	memTransport
	takes int // bytes that one Flush gets rid of
	tries int
}

func (s *slowTransport) Write(b []byte) (int, error) {
	s.unread += len(b)
	return len(b), nil
}

func (s *slowTransport) Flush() error {
	s.tries++
	s.unread -= min(s.unread, s.takes)
	return nil
}

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

// A subscriber that reads slower than others publish holds them back instead of being closed.
func TestSlowReaderHoldsPublishersBack(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 1 << 20})
	tr := &slowTransport{takes: 110 << 10} // at least one Flush is tried
	s := b.on(tr, "SUB a 1\r\n")
	publisher := b.program()
	message := "PUB a 102400\r\n" + strings.Repeat("x", 100<<10) + "\r\n"
	for range 100 {
		publisher.feed(message)
		b.turn()
		require.False(t, s.closed)
	}
	require.Greater(t, tr.tries, 0)
	require.LessOrEqual(t, tr.unread, 1<<20)
}

// One that reads nothing is waited for once and then closed.
func TestDeadReaderIsWaitedForOnce(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 1 << 20})
	tr := &slowTransport{}
	s := b.on(tr, "SUB a 1\r\n")
	publisher := b.program()
	message := "PUB a 102400\r\n" + strings.Repeat("x", 100<<10) + "\r\n"
	for range 6 {
		publisher.feed(message)
		b.turn()
	}
	tries := tr.tries
	require.Greater(t, tries, 1)
	for range 4 {
		publisher.feed(message)
		b.turn()
	}
	require.Equal(t, tries, tr.tries)
	tr.unread = 100 << 10 // it has read after all
	for range 5 {
		publisher.feed(message)
		b.turn()
	}
	require.Greater(t, tr.tries, tries)
	for range 11 {
		publisher.feed(message)
		b.turn()
	}
	require.True(t, s.closed)
}

// While a loop waits for a subscriber, others hand it little.
func TestLoopThatWaitsTakesLittleMail(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 4 << 20})
	far := b.loops[0]
	tr := &slowTransport{takes: 100}
	b.on(tr, "SUB a 1\r\n")
	far.mail.Store(tightMail + 1)
	tr.unread = 3 << 20
	b.loops[1].route(&message{subject: []byte("a")})
	b.loops[1].endTurn(b.now())
	require.False(t, far.mailFull())
	far.drain(b.now())
	require.True(t, far.mailFull())
	tr.unread = 0
	far.route(&message{subject: []byte("a")})
	far.endTurn(b.now())
	require.False(t, far.mailFull())
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
func (b *brokenTransport) Flush() error                 { _, err := b.Write(nil); return err }

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
	f(10, 700<<10)   // while the loop waits for it
}
