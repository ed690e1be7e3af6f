package server

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// fullSink is a peer that has not read unread bytes.
type fullSink struct {
	sink
	unread int
}

func (s *fullSink) OutboundBuffered() int { return s.unread }

// stuffed makes the peer of a bench stop reading.
func stuffed(b *bench) *fullSink {
	t := &fullSink{unread: softPending}
	b.s.t = t
	return t
}

// A lease that waits takes no messages for a peer that does not read: there may be thousands of them.
func TestNothingIsLeasedToAPeerThatDoesNotRead(t *testing.T) {
	b, srv := newBench(t, Options{})
	p := srv.registry.Topic("orders").Partition(0)
	_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
	require.NoError(t, err)
	lease := wire.Lease{Group: []byte("workers"), MaxMessages: 1, MaxBytes: 1, MaxWaitMs: wire.MaxWaitMs}
	for id := range uint32(3) {
		b.feed(request1(wire.OpLease, 0, 10+id, lease.Append))
	}
	out := stuffed(b)
	_, _, _, err = p.Publish(batchPtr(t, "a", "b", "c"), b.now.UnixMilli())
	require.NoError(t, err)
	leased := func() (n int) {
		list, err := p.Pending(nil, "workers", 0, 10)
		require.NoError(t, err)
		for _, g := range list {
			if g.Attempts > 0 {
				n += int(g.Count)
			}
		}
		return n
	}
	b.l.drain(b.now)
	b.l.tick(b.now)
	require.Zero(t, leased())
	require.Zero(t, out.bytes)
	out.unread = 0
	b.l.tick(b.now)
	b.l.endTurn(b.now)
	require.Equal(t, 3, leased())
	require.Empty(t, b.l.stuck)
}

// What workers read for a session waits for nobody to read it, so that must not be much at once.
func TestTheReadsForOneConnectionAreBounded(t *testing.T) {
	f := func(o Options, most int, op wire.Op, body func([]byte) []byte) {
		t.Helper()
		b, srv := newBench(t, o)
		b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a"))))
		release := occupy(t, srv)
		for id := range uint32(3 * maxCold) {
			b.feed(request1(op, 0, 10+id, body))
		}
		own := b.s.proto.(*binary)
		require.Equal(t, most, own.working)
		out := b.s.t.(*sink)
		before := out.bytes
		release()
		require.Eventually(t, func() bool {
			b.l.drain(b.now)
			b.l.tick(b.now)
			return own.working == 0 && own.waits() == 0 && len(b.l.stuck) == 0
		}, waitLimit, time.Millisecond)
		require.Greater(t, out.bytes, before)
		for c := range srv.metrics.failures {
			require.Zero(t, srv.metrics.failures[c].Load(), wire.Code(c))
		}
	}
	filter := wire.Filter{{Op: wire.FilterMissing, Name: "kind"}}
	for pending, most := range map[int]int{0: maxCold, 28 << 20: 2, 1 << 20: 1} {
		o := Options{MaxPendingBytes: pending}
		f(o, most, wire.OpFetch, (&wire.Fetch{MaxBytes: 8 << 20, Filter: filter}).Append)
		f(o, most, wire.OpSubscribe, (&wire.Subscribe{MaxBytes: 8 << 20, Credit: 1 << 30, Filter: filter}).Append)
	}
}

// That a worker has finished, or the peer has sent something, costs no look at the thousands of subscriptions that still
// have to wait.
func TestSubscriptionsThatHaveToWaitAreLeftAlone(t *testing.T) {
	b, srv := newBench(t, Options{})
	b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a"))))
	occupy(t, srv)
	filter := wire.Filter{{Op: wire.FilterMissing, Name: "kind"}}
	subscribe := wire.Subscribe{Credit: 1 << 30, Filter: filter}
	for id := range uint32(100) {
		b.feed(request1(wire.OpSubscribe, 0, 10+id, subscribe.Append))
	}
	own := b.s.proto.(*binary)
	require.Equal(t, maxCold, own.working)
	if n := testing.AllocsPerRun(10, func() { require.True(t, own.unblock(b.now)) }); !raceEnabled {
		require.Zero(t, n, "to try one allocates")
	}
}

// narrowSink is a peer that is full after each delivery, and has read it at the next look.
type narrowSink struct {
	fullSink
	to []uint32
}

func (s *narrowSink) Writev(bs [][]byte) (int, error) {
	f, _, _, _, err := wire.NextFrame(slices.Concat(bs...), wire.MaxReplyBytes)
	s.to, s.unread = append(s.to, f.Correlation), softPending
	return len(f.Body), err
}

// Subscriptions of a peer that reads slowly get their turns in order.
func TestASlowPeersSubscriptionsTakeTurns(t *testing.T) {
	b, _ := newBench(t, Options{})
	for range 4 {
		b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a"))))
	}
	out := &narrowSink{fullSink: fullSink{unread: softPending}}
	b.s.t = out
	for id := range uint32(3) {
		b.feed(request1(wire.OpSubscribe, 0, 1+id, (&wire.Subscribe{MaxBytes: 1, Credit: 1 << 30}).Append))
	}
	for range 12 {
		out.unread = 0
		b.l.tick(b.now)
		b.l.endTurn(b.now)
	}
	require.Equal(t, []uint32{1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3}, out.to)
	out.unread = 0
	b.l.tick(b.now)
	require.Empty(t, b.l.stuck)
}

// A peer that does not read may subscribe and unsubscribe as often as it likes.
func TestSubscriptionsThatEndWhileTheyWaitAreForgotten(t *testing.T) {
	b, _ := newBench(t, Options{})
	b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a"))))
	stuffed(b)
	for range 1000 {
		b.feed(request1(wire.OpSubscribe, 0, 10, (&wire.Subscribe{Credit: 1}).Append))
		b.feed(request1(wire.OpUnsubscribe, 0, 11, wire.Unsubscribe{Subscription: 10}.Append))
	}
	require.LessOrEqual(t, len(b.s.proto.(*binary).fullSubs), 4)
}

// Who loses the right to read while the peer does not gets nothing any more.
func TestRequestsOfAPeerThatDoesNotReadNeedTheRightWhenItDoes(t *testing.T) {
	b, srv := newBench(t, Options{})
	_, err := srv.registry.Topic("orders").Partition(0).OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
	require.NoError(t, err)
	b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("a"))))
	out := stuffed(b)
	b.feed(request1(wire.OpFetch, 0, 10, (&wire.Fetch{MaxBytes: 1}).Append))
	lease := wire.Lease{Group: []byte("workers"), MaxMessages: 1, MaxBytes: 1}
	b.feed(request1(wire.OpLease, 0, 11, lease.Append))
	c := annAndBob(t)
	c.Users[0].Permissions = &auth.Permissions{Subscribe: auth.Rule{Deny: []string{"orders"}}}
	b.s.who, err = policy(t, c).Login(&auth.Credentials{User: "ann", Password: "pw"})
	require.NoError(t, err)
	out.unread = 0
	b.l.tick(b.now)
	b.l.endTurn(b.now)
	require.EqualValues(t, 2, srv.metrics.failures[wire.CodeForbidden].Load())
	require.Empty(t, b.l.stuck)
}

// Leases that were asked for together bring no more than the peer may leave unread: the next one waits until it has read.
func TestLeasesWaitForThePeerToRead(t *testing.T) {
	b, srv := newBench(t, Options{MaxPendingBytes: 10_000_000})
	out := &slowTransport{}
	b.s.t = out
	topic := srv.registry.Topic("orders")
	_, err := topic.Partition(0).OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
	require.NoError(t, err)
	big := batchOf(string(make([]byte, 1<<20)))
	for range 20 {
		b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, big)))
	}
	lease := wire.Lease{Group: []byte("workers"), MaxMessages: 6, MaxBytes: 6 << 20}
	var frames []byte
	for id := range uint32(4) {
		frames = append(frames, request1(wire.OpLease, 0, 10+id, lease.Append)...)
	}
	b.feed(frames)
	require.False(t, b.s.closed)
	for range 4 {
		require.LessOrEqual(t, out.unread, wire.MaxReplyBytes)
		require.Greater(t, out.unread, 0)
		out.read(out.unread)
		b.l.tick(b.now)
		require.False(t, b.s.closed)
	}
	require.Zero(t, out.unread)
}

// A single reply to a client that reads does not close its connection, however little may be unread.
func TestAReplyOverTheLimitOfUnreadOutput(t *testing.T) {
	b, _ := newBench(t, Options{MaxPendingBytes: 64 << 10})
	out := &slowTransport{}
	b.s.t = out
	big := batchOf(string(make([]byte, 1<<20)))
	for range 9 {
		b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, big)))
	}
	out.unread = softPending - 1
	b.feed(request1(wire.OpFetch, 0, 10, (&wire.Fetch{MaxBytes: wire.MaxReplyBytes}).Append))
	require.Greater(t, out.unread, 7<<20)
	require.False(t, b.s.closed)
	out.unread = softPending + wire.MaxReplyBytes + 1
	b.s.checkPending(b.now)
	require.True(t, b.s.closed)
}
