package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Only a stream of messages that need no answer makes the loop look away.
func TestStreams(t *testing.T) {
	b := newTextBroker(t, Options{Dir: t.TempDir()})
	now := b.now()
	small := strings.Repeat("PUB a 100\r\n"+strings.Repeat("x", 100)+"\r\n", 2*lullMessages)
	large := "PUB a 100000\r\n" + strings.Repeat("x", 100_000) + "\r\n"
	many := strings.Repeat(small, 1+lullBytes/len(small))
	slow := time.Duration(len(many)/lullRate) * time.Microsecond
	f := func(want bool, apart time.Duration, reads ...string) {
		t.Helper()
		p := b.program()
		p.s.loop.noteReader(p.s)
		p.s.loop.solo = soloTurns
		got := false
		for _, in := range reads {
			now = now.Add(apart)
			p.s.receive([]byte(in), now)
			got = p.s.streams(len(in), now)
			p.s.loop.endTurn(now)
		}
		require.Equal(t, want, got)
		p.end()
	}
	f(true, 0, many, many)
	f(true, slow/2, many, many, many)
	f(false, 0, many)
	f(false, 2*slow, many, many)
	f(false, 0, many, large)
	f(false, 0, many, small)
	f(false, 0, many, many+"PING\r\n")
	f(false, 0, "SUB a 1\r\n", many, many)
	f(true, 0, "SUB b 1\r\n", many, many)
	f(true, 0, many, many+"PUB a 1000\r\n")

	p, other := b.program(), b.program()
	read := func() bool {
		p.s.receive([]byte(many), now)
		defer p.s.loop.endTurn(now)
		return p.s.streams(len(many), now)
	}
	for range 2 * soloTurns {
		read()
	}
	require.True(t, read())
	p.s.loop.noteReader(other.s)
	require.False(t, read(), "not while others are active")
}

// A lull ends when somebody else sends something, and then the session is read from again.
func TestALullEndsWhenOthersSend(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	g := srv.loops[0]
	left, other := greetText(t, srv), greetText(t, srv)
	alone := make(chan *session, 1)
	require.True(t, g.loop.post(jobFunc(func(time.Time) {
		for s := range g.loop.sessions {
			if s.id == 1 {
				alone <- s
				g.lull(s, time.Hour)
			}
		}
	})))
	require.NotNil(t, <-alone)
	other.write("PING\r\n")
	other.expect("PONG")
	left.write("PING\r\n")
	left.expect("PONG")
}

// Whoever streams is served to the end, and so are those beside.
func TestAStreamIsServed(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	listener, stream := greetText(t, srv), greetText(t, srv)
	listener.write("CONNECT {\"verbose\":false}\r\nSUB last 1\r\nPING\r\n")
	listener.expect("PONG")
	stream.write("CONNECT {\"verbose\":false}\r\n")
	for range 200 {
		stream.write(strings.Repeat("PUB a 100\r\n"+strings.Repeat("x", 100)+"\r\n", 300))
	}
	listener.write("PING\r\n")
	listener.expect("PONG")
	stream.write("PUB last 1\r\nx\r\nPING\r\n")
	stream.expect("PONG")
	listener.expect("MSG last 1 1")
	require.EqualValues(t, 200*300+1, srv.metrics.sent.messages.Load())
}
