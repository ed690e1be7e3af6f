package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// mayRead returns a policy with a user who may read some subjects.
func mayRead(t *testing.T, allow ...string) *auth.Policy {
	t.Helper()
	may := &auth.Permissions{Subscribe: auth.Rule{Allow: allow}}
	return policy(t, auth.Config{Users: []auth.User{{Name: "ann", Password: "pw", Permissions: may}}})
}

// loggedIn returns the session of a program that has logged in as ann.
func (b *textBroker) loggedIn() *textPeer {
	p := b.peer()
	p.feed(`CONNECT {"verbose":false,"user":"ann","pass":"pw"}` + "\r\n")
	b.until(func() bool { return p.s.admitted && !p.s.judging }, "the login")
	p.take()
	return p
}

// A reload ends subscriptions in steps, because a connection can have very many. A message that comes meanwhile is not
// delivered to those that are to end.
func TestAReloadEndsManySubscriptionsInSteps(t *testing.T) {
	b := newTextBroker(t, Options{Auth: mayRead(t), RefusalDelay: -1})
	p := b.loggedIn()
	b.loggedIn() // on the other loop
	other := b.loggedIn()
	l := p.s.loop
	require.Same(t, l, other.s.loop)
	const n = 3*forgetAtOnce + 1
	for i := range n {
		p.s.receive(fmt.Appendf(nil, "SUB a.%d %d\r\n", i, i), b.now())
	}
	p.s.receive([]byte("SUB b b\r\nSUB a.last last\r\n"), b.now())
	p.s.receive([]byte("UNSUB 0\r\n"), b.now())
	require.Equal(t, n+1, b.srv.live.Len())
	p.s.reconsider(mayRead(t, "b"))
	steps := 0
	for left := n + 1; left > 1; left = b.srv.live.Len() {
		steps++
		other.s.receive(fmt.Appendf(nil, "PUB a.%d 1\r\nx\r\nPUB a.last 1\r\nx\r\nPUB b 1\r\nx\r\n", n-1), b.now())
		l.drain(b.now())
		require.GreaterOrEqual(t, b.srv.live.Len(), left-forgetAtOnce)
	}
	out := p.take()
	require.NotContains(t, out, "MSG a.")
	require.Equal(t, steps, strings.Count(out, "MSG b b 1\r\nx\r\n"))
	require.Nil(t, l.reviews)
	require.EqualValues(t, 1, p.s.listens)
	require.False(t, p.s.closed)
}

// A CONNECT ends all subscriptions. Those that a reload would end, too, end once.
func TestAReloadLeavesAConnectAlone(t *testing.T) {
	b := newTextBroker(t, Options{Auth: mayRead(t), RefusalDelay: -1})
	p := b.loggedIn()
	for i := range 5 * forgetAtOnce {
		p.s.receive(fmt.Appendf(nil, "SUB %c.%d %d\r\n", 'a'+i%2, i, i), b.now())
	}
	p.s.reconsider(mayRead(t, "b.>"))
	for range 2 { // the first turn only begins
		p.s.loop.drain(b.now())
	}
	require.Less(t, b.srv.live.Len(), 5*forgetAtOnce)
	p.s.receive([]byte(`CONNECT {"verbose":false,"user":"ann","pass":"pw"}`+"\r\nPING\r\n"), b.now())
	b.until(func() bool { return strings.Contains(p.take(), "PONG") }, "the answer")
	b.until(func() bool { return p.s.loop.reviews == nil }, "the review")
	require.Zero(t, p.s.listens)
	require.Zero(t, b.srv.live.Len())
	require.Zero(t, b.srv.subBytes.Load())
	require.Zero(t, b.srv.metrics.subscriptions.Load())
}

// So it is in the binary protocol.
func TestAReloadEndsManyListensInSteps(t *testing.T) {
	b, srv := newBench(t, Options{})
	const n = 2*forgetAtOnce + 1
	for i := range uint32(n) {
		b.feed(request1(wire.OpListen, 0, i, wire.Listen{Pattern: "a"}.Append))
	}
	who, err := mayRead(t, "b").Login(&auth.Credentials{User: "ann", Password: "pw"})
	require.NoError(t, err)
	b.s.who = who
	b.s.proto.reconsider()
	require.Equal(t, n, srv.live.Len())
	for left := n; left > 0; left = srv.live.Len() {
		b.l.drain(b.now)
		require.GreaterOrEqual(t, srv.live.Len(), left-forgetAtOnce)
	}
	require.Nil(t, b.l.reviews)
	require.Zero(t, srv.subBytes.Load())
}
