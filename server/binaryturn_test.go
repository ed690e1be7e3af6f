package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// repliesOf takes what a session was sent, which must be replies, and returns their correlation ids.
func repliesOf(t *testing.T, s *session) (ids []uint32) {
	t.Helper()
	out := &s.t.(*memTransport).out
	for in := out.Bytes(); len(in) > 0; {
		f, rest, _, ok, err := wire.NextFrame(in, wire.MaxReplyBytes)
		require.NoError(t, err)
		require.True(t, ok)
		require.Zero(t, f.Flags&wire.FlagError)
		ids, in = append(ids, f.Correlation), rest
	}
	out.Reset()
	return ids
}

// Who sends many requests at once has its turn, then others have theirs, then it goes on. Nothing is lost or out of order,
// and nothing more is read from it meanwhile.
func TestManyRequestsAtOnceAreRunInTurns(t *testing.T) {
	b, srv := newBench(t, Options{})
	wide, err := srv.registry.Create("wide", 256, nil)
	require.NoError(t, err)
	for _, p := range wide.Partitions() {
		_, err := p.OpenQueue("q", 0, partition.QueuePolicy{}, b.now)
		require.NoError(t, err)
	}
	resolve := wire.Resolve{Topic: "wide"}
	b.feed(request1(wire.OpResolve, 0, 3, resolve.Append))
	other := newSession(b.l, 2)
	srv.connections.Add(1)
	other.open(&memTransport{}, b.now)
	other.receive(wire.AppendPreface(nil), b.now)
	other.receive(request1(wire.OpHello, 0, 1, (&wire.Hello{}).Append), b.now)
	b.l.endTurn(b.now)
	other.t.(*memTransport).out.Reset()
	b.s.t = &memTransport{}
	paused := map[*session]bool{}
	b.l.pauseReading = func(s *session, pause bool) { paused[s] = pause }

	const n = 1000
	var all []byte
	var want []uint32
	lease := wire.Lease{Handle: 1, Partition: wire.AnyPartition, Group: []byte("q"), MaxMessages: 1, MaxBytes: 1}
	for id := range uint32(n) {
		all, want = append(all, request1(wire.OpLease, 0, id, lease.Append)...), append(want, id)
	}
	half := len(all)/2 + 3
	b.feed(all[:half])
	require.True(t, paused[b.s])
	got := repliesOf(t, b.s)
	require.Less(t, len(got), n/4)
	other.receive(request1(wire.OpPing, 0, 7, nil), b.now)
	b.l.endTurn(b.now)
	require.Equal(t, []uint32{7}, repliesOf(t, other))
	b.feed(all[half:]) // the driver read all the same
	for turns := 0; len(got) < n; turns++ {
		require.Less(t, turns, n)
		b.l.drain(b.now)
		got = append(got, repliesOf(t, b.s)...)
	}
	require.Equal(t, want, got)
	require.False(t, paused[b.s])
	require.Nil(t, b.s.backlog.bytes)
}

// A session without a driver that can pause reading has a loop of its own: its requests run at once.
func TestRequestsRunAtOnceWhereReadingCannotBePaused(t *testing.T) {
	b, _ := newBench(t, Options{})
	b.s.t = &memTransport{}
	var all []byte
	for id := range uint32(20_000) {
		all = append(all, request1(wire.OpPing, 0, id, nil)...)
	}
	b.feed(all)
	require.Len(t, repliesOf(t, b.s), 20_000)
}

// What waits when the session is held back goes on when it is not any more.
func TestWaitingRequestsGoOnBehindAHold(t *testing.T) {
	b, _ := newBench(t, Options{})
	b.s.t = &memTransport{}
	b.l.pauseReading = func(*session, bool) {}
	var all []byte
	for id := range uint32(50_000) {
		all = append(all, request1(wire.OpPing, 0, id, nil)...)
	}
	b.feed(all)
	got := len(repliesOf(t, b.s))
	require.Less(t, got, 50_000)
	b.s.flow.held, b.s.flow.until = true, b.now
	b.l.held = append(b.l.held, b.s)
	b.l.drain(b.now)
	require.Empty(t, repliesOf(t, b.s))
	b.l.relieve(b.now)
	for turns := 0; got < 50_000; turns++ {
		require.Less(t, turns, 50_000)
		b.l.drain(b.now)
		got += len(repliesOf(t, b.s))
	}
}
