package server

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
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
	require.Nil(t, busy.s.backlog.bytes)
}

// A turn ends early when somebody else has sent something, and only then.
func TestATurnEndsWhenOthersWait(t *testing.T) {
	b := newTextBroker(t, Options{})
	held := b.pausing()
	busy := b.program()
	others := false
	busy.s.loop.awaited = func() bool {
		require.True(t, held(busy), "its own bytes would be taken for another's")
		return others
	}
	pings := func() int {
		busy.s.receive([]byte(strings.Repeat("PING\r\n", 20_000)), b.now())
		busy.s.loop.endTurn(b.now())
		n := strings.Count(busy.take(), "PONG\r\n")
		b.until(func() bool { return busy.s.backlog.bytes == nil }, "the rest is run")
		require.Equal(t, 20_000-n, strings.Count(busy.take(), "PONG\r\n"))
		require.False(t, held(busy))
		return n
	}
	alone := pings()
	others = true
	beside := pings()
	require.InDelta(t, turnWork/commandWork, alone, turnWork/commandWork/10)
	require.InDelta(t, sliceWork/commandWork, beside, sliceWork/commandWork/10)
}

// A command that takes longer than a slice, such as a message to many subscriptions, ends the turn when others wait, and
// only then.
func TestALongCommandEndsATurnWhenOthersWait(t *testing.T) {
	const subs = 2 * sliceWork / deliverWork
	b := newTextBroker(t, Options{})
	b.pausing()
	subscribe := make([]string, subs)
	for i := range subscribe {
		subscribe[i] = fmt.Sprintf("SUB a %d", i)
	}
	listener := b.program(subscribe...)
	b.program() // on the other loop
	busy := b.program()
	require.Same(t, listener.s.loop, busy.s.loop)
	others := false
	busy.s.loop.awaited = func() bool { return others }
	inOneTurn := func() int {
		busy.s.receive([]byte(strings.Repeat("PUB a 0\r\n\r\n", 20)), b.now())
		busy.s.loop.endTurn(b.now())
		n := strings.Count(listener.take(), "MSG")
		b.until(func() bool { return busy.s.backlog.bytes == nil }, "the rest is run")
		require.Equal(t, 20*subs-n, strings.Count(listener.take(), "MSG"))
		return n / subs
	}
	require.InDelta(t, turnWork/(subs*deliverWork), inOneTurn(), 1)
	others = true
	require.Equal(t, 1, inOneTurn())
}

// What is left of a read and takes no longer than a slice is not put off.
func TestTheRestOfAReadIsRunBesideOthers(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.pausing()
	p := b.program()
	p.s.loop.awaited = func() bool { return true }
	few := strings.Repeat("SUB a 1\r\nUNSUB 1\r\n", 14)
	require.Greater(t, 14*2*subscribeWork, sliceWork)
	require.Less(t, len(few), restBytes)
	p.feed(few)
	require.Nil(t, p.s.backlog.bytes)
	p.feed(strings.Repeat(few, 3))
	require.NotNil(t, p.s.backlog.bytes, "twice as long and more")
	b.until(func() bool { return p.s.backlog.bytes == nil }, "the rest is run")
}

// The memory of a large backlog is there for the next one, whatever small ones come between.
func TestBacklogsReuseMemory(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.pausing()
	busy := b.program()
	b.program() // on the other loop
	other := b.program()
	l := busy.s.loop
	require.Same(t, l, other.s.loop)
	l.awaited = func() bool { return true }
	putOff := func(p *textPeer, size int) {
		t.Helper()
		p.s.receive([]byte(strings.Repeat("PONG\r\n", size/6)), b.now())
		require.NotEmpty(t, p.s.backlog.bytes)
		l.endTurn(b.now())
		b.until(func() bool { return p.s.backlog.bytes == nil }, "the rest is run")
	}
	putOff(busy, 400_000)
	spare := cap(l.backlog)
	require.Greater(t, spare, 300_000)
	putOff(other, 8_000)
	require.Equal(t, spare, cap(l.backlog))
	at := &l.backlog[:1][0]
	putOff(busy, 300_000)
	require.Same(t, at, &l.backlog[:1][0])
}

// Whether another connection waits is asked of the kernel, which goes on telling gnet.
func TestAnotherConnectionIsSeenToWait(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	conn, err := net.Dial("tcp", srv.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	lines := bufio.NewReader(conn)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	l := srv.loops[0].loop
	if l.awaited == nil {
		t.Skip("not on this system")
	}
	busy, found := make(chan struct{}), make(chan bool)
	require.True(t, l.post(jobFunc(func(time.Time) {
		busy <- struct{}{}
		<-busy
		found <- l.awaited()
	})))
	<-busy
	_, err = fmt.Fprint(conn, "PING\r\n")
	require.NoError(t, err)
	woken := make(chan struct{})
	require.True(t, l.post(jobFunc(func(time.Time) { close(woken) })))
	busy <- struct{}{}
	require.True(t, <-found)
	<-woken
	pong, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "PONG\r\n", pong)
}

// A program that sends more than a waiting command lets through is not read from.
func TestBacklogOfAWaitingCommandPausesReading(t *testing.T) {
	b := newTextBroker(t, Options{Dir: t.TempDir()})
	held := b.pausing()
	p := b.peer()
	p.feed("TOPIC orders\r\n")
	p.s.pause()
	p.feed(strings.Repeat("PING\r\n", 1000))
	require.False(t, held(p))
	p.feed(strings.Repeat("PING\r\n", fullBacklog/6))
	require.True(t, held(p))
	p.s.proceed(b.now())
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

// So does one of the binary protocol.
func TestManyListensEndInSteps(t *testing.T) {
	b, srv := newBench(t, Options{})
	const n = 2*forgetAtOnce + 1
	for i := range uint32(n) {
		b.feed(request1(wire.OpListen, 0, i, wire.Listen{Pattern: "a"}.Append))
	}
	require.Equal(t, n, srv.live.Len())
	b.l.sessionEnded(b.s, b.now)
	require.Equal(t, n-forgetAtOnce, srv.live.Len())
	b.l.finish(b.now)
	require.Zero(t, srv.live.Len())
	require.Zero(t, srv.subBytes.Load())
	require.Zero(t, srv.metrics.subscriptions.Load())
}

// A second CONNECT ends all subscriptions, in steps. What was sent behind it waits, and no subscription gets a message
// meanwhile.
func TestManySubscriptionsStartAgainInSteps(t *testing.T) {
	b := newTextBroker(t, Options{})
	p := b.program()
	b.program() // on the other loop
	other := b.program()
	require.Same(t, p.s.loop, other.s.loop)
	const n = 5*forgetAtOnce + 1
	for i := range n {
		p.s.receive(fmt.Appendf(nil, "SUB a %d\r\n", i), b.now())
	}
	p.s.receive([]byte("CONNECT {\"verbose\":true}\r\nSUB b 1\r\n"), b.now())
	require.Equal(t, n-forgetAtOnce, b.srv.live.Len())
	require.Zero(t, b.srv.subBytes.Load())
	other.feed("PUB a 0\r\n\r\n")
	require.Empty(t, p.take())
	require.Greater(t, b.srv.live.Len(), forgetAtOnce)
	require.Equal(t, "+OK\r\n", p.line())
	require.Equal(t, "+OK\r\n", p.line())
	require.Equal(t, 1, b.srv.live.Len())
	require.EqualValues(t, 1, b.srv.metrics.subscriptions.Load())
	require.EqualValues(t, 1, p.s.listens)
}
