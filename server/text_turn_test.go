package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who sends much at once has its turn, then others have theirs, then it goes on. Nothing is lost or
// out of order, and nothing more is read from it meanwhile.
func TestMuchAtOnceIsRunInTurns(t *testing.T) {
	b := newTextBroker(t, Options{})
	held := b.pausing()
	listener := b.program("SUB a 1")
	b.program() // on the other loop
	busy := b.program()
	b.program()
	other := b.program()
	require.Same(t, listener.s.loop, busy.s.loop)
	require.Same(t, listener.s.loop, other.s.loop)
	const n = 10_000
	var all, want strings.Builder
	for i := range n {
		number := fmt.Sprintf("%05d", i)
		all.WriteString("PUB a 16\r\n" + number + "-0123456789\r\n")
		want.WriteString("MSG a 1 16\r\n" + number + "-0123456789\r\n")
	}
	half := all.Len() / 2
	busy.s.receive([]byte(all.String()[:half]), b.now())
	busy.s.loop.endTurn(b.now())
	require.True(t, held(busy))
	got := listener.take()
	require.NotEmpty(t, got)
	require.Less(t, len(got), want.Len()/4)
	other.feed("PUB a 5\r\nother\r\nPING\r\n")
	require.Equal(t, "PONG\r\n", other.take())
	busy.s.receive([]byte(all.String()[half:]), b.now()) // the driver read all the same
	for turns := 0; len(got) < want.Len(); turns++ {
		require.Less(t, turns, 100)
		b.turn()
		got += listener.take()
	}
	got = strings.Replace(got, "MSG a 1 5\r\nother\r\n", "", 1)
	require.Equal(t, want.String(), got)
	b.turn()
	require.False(t, held(busy))
	require.Nil(t, busy.s.proto.(*text).backlog)
}

// A program that sends more than a waiting command lets through is not read from.
func TestBacklogOfAWaitingCommandPausesReading(t *testing.T) {
	b := newTextBroker(t, Options{Dir: t.TempDir()})
	held := b.pausing()
	p := b.peer()
	p.feed("TOPIC orders\r\n")
	p.s.proto.(*text).pause()
	p.feed(strings.Repeat("PING\r\n", 1000))
	require.False(t, held(p))
	p.feed(strings.Repeat("PING\r\n", fullBacklog/6))
	require.True(t, held(p))
	p.s.proto.(*text).resume(b.now())
	b.until(func() bool { return !held(p) }, "read again")
	require.Equal(t, 1000+fullBacklog/6, strings.Count(p.take(), "PONG"))
}

// A connection with many subscriptions ends in steps.
func TestManySubscriptionsEndInSteps(t *testing.T) {
	b := newTextBroker(t, Options{})
	p := b.program()
	const n = 5*forgetAtOnce + 1
	for i := range n {
		p.s.receive(fmt.Appendf(nil, "SUB a.%d %d\r\n", i, i), b.now())
	}
	require.Equal(t, n, b.srv.live.Len())
	l := p.s.loop
	l.sessionEnded(p.s, b.now())
	require.Equal(t, n-forgetAtOnce, b.srv.live.Len())
	l.drain(b.now())
	require.Equal(t, n-2*forgetAtOnce, b.srv.live.Len())
	l.finish(b.now())
	require.Zero(t, b.srv.live.Len())
	require.Zero(t, b.srv.metrics.subscriptions.Load())
}
