package server

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// sink is a transport that throws everything away.
type sink struct{ bytes int }

func (s *sink) Write(b []byte) (int, error) { s.bytes += len(b); return len(b), nil }
func (s *sink) Writev(bs [][]byte) (int, error) {
	n := 0
	for _, b := range bs {
		n += len(b)
	}
	s.bytes += n
	return n, nil
}
func (s *sink) OutboundBuffered() int { return 0 }
func (s *sink) Close() error          { return nil }
func (s *sink) RemoteAddr() net.Addr  { return &net.TCPAddr{} }

// bench is a session that is fed without a socket: the broker's own work and nothing else.
type bench struct {
	l   *loop
	s   *session
	now time.Time
}

// newBench logs a session in and resolves "orders" to handle 0.
func newBench(tb testing.TB, o Options) (*bench, *Server) {
	o.Listen = off
	srv := startServer(tb, o)
	l := newLoop(srv)
	l.ring = func() {}
	s := newSession(l, 1)
	b := &bench{l: l, s: s, now: time.Now()}
	srv.connections.Add(1)
	s.open(&sink{}, b.now)
	_, err := srv.registry.Create("orders", 1, nil)
	require.NoError(tb, err)
	b.feed(wire.AppendPreface(nil))
	hello := wire.Hello{}
	b.feed(request1(wire.OpHello, 0, 1, hello.Append))
	resolve := wire.Resolve{Topic: "orders"}
	b.feed(request1(wire.OpResolve, 0, 2, resolve.Append))
	return b, srv
}

func (b *bench) feed(in []byte) {
	b.s.receive(in, b.now)
	b.l.endTurn(b.now)
}

// allocations returns how many allocations f makes on average, in the best of three rounds. It counts those of
// the whole process, to which what an earlier test has left running may add.
func allocations(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for range 2 {
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}

func TestHotFramesCostNoAllocation(t *testing.T) {
	f := func(name string, frame []byte) {
		t.Helper()
		b, srv := newBench(t, Options{Topics: []wire.Setting{{Key: "retention_bytes", Value: "16MiB"}}})
		p := srv.registry.Topic("orders").Partition(0)
		b.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("0123456789"))))
		_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{}, b.now)
		require.NoError(t, err)
		b.feed(request1(wire.OpListen, 0, 9, wire.Listen{Pattern: "a.>"}.Append))
		for range 100 {
			b.feed(frame)
		}
		if n := allocations(1000, func() { b.feed(frame) }); !raceEnabled {
			require.Zero(t, n, name)
		}
		for c := range srv.metrics.failures {
			require.Zero(t, srv.metrics.failures[c].Load(), "%s: %s", name, wire.Code(c))
		}
	}
	f("publish", request1(wire.OpPublish, 0, 4, publishBody(0, 0, batchOf("0123456789"))))
	var run []byte
	for id := range uint32(20) {
		run = append(run, request1(wire.OpPublish, 0, id, publishBody(0, 0, batchOf("0123456789")))...)
	}
	f("publishes that come together", run)
	fetch := wire.Fetch{MaxBytes: 64 << 10}
	f("fetch", request1(wire.OpFetch, 0, 4, fetch.Append))
	ack := wire.Settle{Group: []byte("workers"), Ranges: []wire.LeaseRange{{First: 0, Count: 1, Attempt: 1}}}
	f("ack", request1(wire.OpAck, 0, 4, ack.Append))
	live := wire.Live{Subject: []byte("a.b.c"), Payload: []byte("0123456789")}
	f("send", request1(wire.OpSend, 0, 4, live.Append))
}

// Whether a limited user may publish to the subjects of records is found out without allocation.
func TestPublishesOfALimitedUserCostNoAllocation(t *testing.T) {
	b, srv := newBench(t, Options{Topics: []wire.Setting{{Key: "retention_bytes", Value: "16MiB"}}})
	ann := limited("ann", "orders")
	ann.Password = "ann"
	who, err := policy(t, auth.Config{Users: []auth.User{ann}}).Login(&auth.Credentials{User: "ann", Password: "ann"})
	require.NoError(t, err)
	b.s.who = who
	var records wire.BatchBuilder
	records.Add(wire.Record{
		Key: []byte("key"), Value: make([]byte, 500), Headers: wire.Headers(nil).Append("a", []byte("b")),
	})
	var run []byte
	for id := range uint32(20) {
		run = append(run, request1(wire.OpPublish, 0, id, publishBody(0, 0, records.Bytes()))...)
	}
	b.feed(run)
	if n := allocations(1000, func() { b.feed(run) }); !raceEnabled {
		require.Zero(t, n)
	}
	require.Zero(t, srv.metrics.failures[wire.CodeForbidden].Load())
}

// Of the turns of a busy broker most have a short reply and few have much output, like those that deliver live messages.
func TestLargeTurnsAmongShortOnesCostNoAllocation(t *testing.T) {
	b, _ := newBench(t, Options{})
	b.feed(request1(wire.OpListen, 0, 9, wire.Listen{Pattern: "a.>"}.Append))
	live := wire.Live{Subject: []byte("a.b.c"), Payload: make([]byte, 1000)}
	short := request1(wire.OpSend, 0, 4, live.Append)
	large := bytes.Repeat(short, 100)
	turns := func() {
		for range 30 {
			b.feed(short)
		}
		b.feed(large)
	}
	for range 3000 {
		turns()
	}
	if n := allocations(100, turns); !raceEnabled {
		require.Zero(t, n)
	}
}

// Sessions that suddenly have much output take the memory that others have used before. Growing with append allocates 27
// times for the messages of 500 bytes. A turn takes so long that what runs beside the test is counted, too.
func TestFirstLargeTurnReusesMemory(t *testing.T) {
	f := func(b *bench, count, size int) {
		t.Helper()
		message := newMessage([]byte("a.b.c"), make([]byte, size))
		before := b.s.sent
		turn := func() {
			b.s.outClass, b.s.outCalm = 0, 0 // as in a new session
			for range count {
				b.l.route(message)
			}
			b.l.endTurn(b.now)
		}
		turn()
		require.Greater(t, b.s.sent-before, uint64(count*size))
		if n := allocations(100, turn); !raceEnabled {
			require.Less(t, n, 9.0, "%d messages of %d bytes", count, size)
		}
	}
	b, _ := newBench(t, Options{})
	b.feed(request1(wire.OpListen, 0, 9, wire.Listen{Pattern: "a.>"}.Append))
	text := newTextBench(t, Options{})
	text.feed([]byte("SUB a.> 2\r\n"))
	for _, to := range []*bench{b, text} {
		f(to, 900, 500)
		f(to, 3, 1<<20)
	}
}

func BenchmarkPublishFrame(b *testing.B) {
	for _, shape := range []struct {
		name  string
		size  int
		count int
	}{{"16Bx1", 16, 1}, {"128Bx1", 128, 1}, {"128Bx100", 128, 100}, {"16Bx1000", 16, 1000}} {
		b.Run(shape.name, func(b *testing.B) {
			s, _ := newBench(b, Options{Topics: []wire.Setting{{Key: "retention_bytes", Value: "64MiB"}}})
			values := make([]string, shape.count)
			for i := range values {
				values[i] = string(make([]byte, shape.size))
			}
			batch := batchOf(values...)
			var turn []byte
			n := max(1, (64<<10)/(len(batch)+14))
			for i := range n {
				turn = append(turn, request1(wire.OpPublish, 0, uint32(i), publishBody(0, 0, batch))...)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(turn)))
			for b.Loop() {
				s.feed(turn)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
		})
	}
}

// BenchmarkFetchFrame answers with 64 KiB of a topic in memory.
func BenchmarkFetchFrame(b *testing.B) {
	s, _ := newBench(b, Options{})
	batch := batchOf(make([]string, 100)...)
	for range 100 {
		s.feed(request1(wire.OpPublish, 0, 3, publishBody(0, 0, batch)))
	}
	m := wire.Fetch{MaxBytes: 64 << 10}
	frame := request1(wire.OpFetch, 0, 4, m.Append)
	out := s.s.t.(*sink)
	before, n := out.bytes, 0
	b.ReportAllocs()
	for ; b.Loop(); n++ {
		s.feed(frame)
	}
	b.SetBytes(int64((out.bytes - before) / max(1, n)))
}

// BenchmarkAckFrame leases 100 messages of a queue and acknowledges them as one range.
func BenchmarkAckFrame(b *testing.B) {
	s, srv := newBench(b, Options{Topics: []wire.Setting{{Key: "retention_bytes", Value: "64MiB"}}})
	p := srv.registry.Topic("orders").Partition(0)
	publish := request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf(make([]string, 100)...)))
	_, err := p.OpenQueue("workers", 0, partition.QueuePolicy{}, s.now)
	require.NoError(b, err)
	ack := wire.Settle{Group: []byte("workers"), Ranges: []wire.LeaseRange{{Count: 100, Attempt: 1}}}
	var leases []group.Lease
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.feed(publish)
		leases, err = p.Lease(leases[:0], "workers", 100, time.Minute, s.s.id, s.now)
		require.NoError(b, err)
		ack.Ranges[0].First = leases[0].First
		frame := request1(wire.OpAck, 0, 4, ack.Append)
		b.StartTimer()
		s.feed(frame)
	}
	for c := range srv.metrics.failures {
		require.Zero(b, srv.metrics.failures[c].Load(), wire.Code(c))
	}
}
