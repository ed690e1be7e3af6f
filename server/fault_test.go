package server

import (
	"bufio"
	"bytes"
	"context"
	encoding "encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/wire"
)

// closed reads until the server closes the connection and returns what it said.
func (p *peer) closed() string {
	p.t.Helper()
	rest, err := io.ReadAll(p.r)
	if err != nil {
		require.ErrorIs(p.t, err, unix.ECONNRESET)
	}
	return string(rest)
}

// alive checks that the server still serves somebody else.
func alive(t *testing.T, srv *Server) {
	t.Helper()
	p := login(t, srv)
	h := p.resolve("alive").Handle
	p.publish(h, 0, "x")
	require.Zero(t, srv.metrics.panics.Load())
}

func TestWrongProtocolsAreToldSo(t *testing.T) {
	srv := startServer(t, Options{})
	f := func(hello, answer string) {
		t.Helper()
		p := connect(t, srv)
		p.write([]byte(hello))
		require.Contains(t, p.closed(), answer)
	}
	f("\x16\x03\x01\x02\x00\x01\x00", "without TLS")
	f(strings.Repeat("\x00", 64), "unknown protocol")
	f("\xfbXXXXXXX", "preface")
	f("\xfbRFK\x07\x00\x00\x00", "protocol version 7")
	alive(t, srv)
}

func TestBadFramesEndOnlyTheirConnection(t *testing.T) {
	srv := startServer(t, Options{})
	f := func(code wire.Code, frame []byte) {
		t.Helper()
		p := login(t, srv)
		p.write(frame)
		errorOf(t, code, p.read())
		require.Empty(t, p.closed())
	}
	u32 := func(n uint32) []byte { return encoding.LittleEndian.AppendUint32(nil, n) }
	f(wire.CodeTooLarge, u32(0xFFFFFFFF))
	f(wire.CodeTooLarge, u32(0x80000000))
	f(wire.CodeTooLarge, u32(wire.MaxFrameBytes))
	f(wire.CodeMalformed, u32(0))
	f(wire.CodeMalformed, u32(5))
	for op := range 256 {
		if spec := operations[op]; spec.handle != nil && wire.Op(op) != wire.OpPing && wire.Op(op) != wire.OpHello && wire.Op(op) != wire.OpCredit {
			f(wire.CodeMalformed, request1(wire.Op(op), 0, 9, func(dst []byte) []byte { return append(dst, 1, 2, 3) }))
		}
	}
	alive(t, srv)
}

func TestRequestsThatCannotBeServedKeepTheConnection(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a")
	p.refused(wire.CodeUnsupported, 0x7E, 0, nil)
	p.refused(wire.CodeUnsupported, wire.OpPublish, 0x08, publishBody(h, 0, batchOf("x")))
	p.refused(wire.CodeUnsupported, wire.OpPublish, wire.Flags(wire.LevelDisk), publishBody(h, 0, batchOf("x")))
	p.refused(wire.CodeUnsupported, wire.OpPublish, 7, publishBody(h, 0, batchOf("x")))
	p.refused(wire.CodeTopicNotFound, wire.OpPublish, 0, publishBody(99, 0, batchOf("x")))
	p.refused(wire.CodePartitionNotFound, wire.OpPublish, 0, publishBody(h, 1, batchOf("x")))
	p.refused(wire.CodeTooLarge, wire.OpPublish, 0, publishBody(h, 0, batchOf(strings.Repeat("x", 1<<20+1))))
	damaged := batchOf("x")
	damaged[len(damaged)-1] ^= 1
	p.refused(wire.CodeCorruptBatch, wire.OpPublish, 0, publishBody(h, 0, damaged))
	far := wire.Fetch{Handle: h, From: wire.Position{Value: 2}, MaxBytes: 1 << 20}
	e := p.refused(wire.CodeOffsetOutOfRange, wire.OpFetch, 0, far.Append)
	require.Equal(t, uint64(1), e.Next)
	far.From.Value = 1<<64 - 1
	p.refused(wire.CodeOffsetOutOfRange, wire.OpFetch, 0, far.Append)
	missing := wire.Lease{Handle: h, Partition: 0, Group: []byte("nobody"), MaxMessages: 1, MaxBytes: 1}
	p.refused(wire.CodeGroupNotFound, wire.OpLease, 0, missing.Append)
	p.refused(wire.CodeSubscriptionNotFound, wire.OpUnsubscribe, 0, wire.Unsubscribe{Subscription: 7}.Append)
	hello := wire.Hello{}
	p.refused(wire.CodeInvalid, wire.OpHello, 0, hello.Append)
	require.Equal(t, uint64(1), p.publish(h, 0, "still here"))
}

func TestNothingIsServedBeforeHello(t *testing.T) {
	srv := startServer(t, Options{})
	p := connect(t, srv)
	p.write(wire.AppendPreface(nil))
	resolve := wire.Resolve{Topic: "orders"}
	p.refused(wire.CodeUnauthenticated, wire.OpResolve, wire.FlagCreate, resolve.Append)
	require.Empty(t, p.closed())
	require.Nil(t, srv.registry.Topic("orders"))

	f := func(code wire.Code, op wire.Op, flags wire.Flags, body func([]byte) []byte) {
		t.Helper()
		p := connect(t, srv)
		p.write(wire.AppendPreface(nil))
		p.refused(code, op, flags, body)
		require.Empty(t, p.closed())
	}
	hello := wire.Hello{}
	f(wire.CodeUnsupported, wire.OpHello, 1, hello.Append)
	f(wire.CodeUnauthenticated, wire.OpPublish, 0, nil)
	f(wire.CodeUnauthenticated, wire.OpPing, 1, nil)
	f(wire.CodeUnauthenticated, 0x7E, 0, nil)

	p = connect(t, srv)
	p.write(append(wire.AppendPreface(nil), encoding.LittleEndian.AppendUint32(nil, wire.MaxHelloBytes)...))
	errorOf(t, wire.CodeTooLarge, p.read())
	require.Empty(t, p.closed())
}

func TestUnfinishedFramesTimeOut(t *testing.T) {
	srv := startServer(t, Options{HandshakeTimeout: 50 * time.Millisecond, IdleTimeout: time.Hour})
	preface := wire.AppendPreface(nil)
	p := connect(t, srv)
	p.write(preface[:3])
	require.Empty(t, p.closed())
	p = connect(t, srv)
	p.write(preface)
	require.Empty(t, p.closed(), "no hello")
	p = login(t, srv)
	p.write(request1(wire.OpPing, 0, 1, nil)[:7])
	require.Empty(t, p.closed(), "half a frame")
}

func TestSilentConnectionsTimeOut(t *testing.T) {
	srv := startServer(t, Options{IdleTimeout: 50 * time.Millisecond})
	require.Empty(t, connect(t, srv).closed())
	require.Empty(t, login(t, srv).closed())
}

// TestFramesSurviveEverySplit sends a conversation cut at every byte.
func TestFramesSurviveEverySplit(t *testing.T) {
	var talk []byte
	talk = wire.AppendPreface(talk)
	hello, resolve := wire.Hello{Name: "x"}, wire.Resolve{Topic: "orders"}
	talk = append(talk, request1(wire.OpHello, 0, 1, hello.Append)...)
	talk = append(talk, request1(wire.OpResolve, 0, 2, resolve.Append)...)
	talk = append(talk, request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("one", "two")))...)
	talk = append(talk, request1(wire.OpPublish, 0, 4, publishBody(0, 0, batchOf("three")))...)
	for cut := range talk {
		b, srv := newBench(t, Options{})
		s := newSession(b.l, 2)
		out := &sink{}
		srv.connections.Add(1)
		s.open(out, b.now)
		for _, part := range [][]byte{talk[:cut], talk[cut:]} {
			s.receive(part, b.now)
			b.l.endTurn(b.now)
		}
		require.False(t, s.closed, "cut at %d", cut)
		require.Equal(t, uint64(3), srv.registry.Topic("orders").Partition(0).Next(), "cut at %d", cut)
		shutdown(t, srv)
	}
}

func shutdown(t testing.TB, srv *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
}

func FuzzSession(f *testing.F) {
	b, srv := newBench(f, Options{Topics: []wire.Setting{{Key: "retention_bytes", Value: "1MiB"}}})
	hello, resolve := wire.Hello{Name: "x"}, wire.Resolve{Topic: "orders"}
	login := append(wire.AppendPreface(nil), request1(wire.OpHello, 0, 1, hello.Append)...)
	login = append(login, request1(wire.OpResolve, 0, 2, resolve.Append)...)
	fetch, sub := wire.Fetch{MaxBytes: 100}, wire.Subscribe{Credit: 100}
	lease, open := wire.Lease{Group: []byte("g"), MaxMessages: 1}, wire.OpenQueue{Group: "g"}
	f.Add(uint16(3), []byte("hello"))
	f.Add(uint16(3), login)
	for _, frame := range [][]byte{
		request1(wire.OpPublish, 0, 3, publishBody(0, 0, batchOf("one"))),
		request1(wire.OpFetch, 0, 4, fetch.Append),
		request1(wire.OpSubscribe, 0, 5, sub.Append),
		request1(wire.OpOpenQueue, 0, 6, open.Append),
		request1(wire.OpLease, 0, 7, lease.Append),
	} {
		f.Add(uint16(11), append(bytes.Clone(login), frame...))
	}
	f.Fuzz(func(t *testing.T, cut uint16, in []byte) {
		s := newSession(b.l, 2)
		srv.connections.Add(1)
		s.open(&sink{}, b.now)
		at := min(int(cut), len(in))
		for _, part := range [][]byte{in[:at], in[at:]} {
			s.receive(part, b.now)
			b.l.drain(b.now)
		}
		s.ended(b.now)
		b.l.endTurn(b.now)
		require.Zero(t, srv.metrics.panics.Load())
	})
}

// TestAPeerThatNeverReadsIsCutOff floods a connection with requests whose replies nobody reads.
func TestAPeerThatNeverReadsIsCutOff(t *testing.T) {
	srv := startServer(t, Options{SlowTimeout: 300 * time.Millisecond, MaxPendingBytes: 8 << 20})
	writer := login(t, srv)
	h := writer.resolve("orders").Handle
	value := strings.Repeat("v", 1<<20-100)
	for range 16 {
		writer.publish(h, 0, value)
	}
	f := func(name string, op wire.Op, body func([]byte) []byte, times int) {
		t.Helper()
		p := login(t, srv)
		require.Equal(t, h, p.resolve("orders").Handle)
		before := heapInUse()
		var flood []byte
		for i := range times {
			flood = append(flood, request1(op, 0, uint32(i), body)...)
		}
		// The write itself may fail once the server gave up.
		_, _ = p.conn.Write(flood)
		cut := srv.metrics.slowConsumers.Load()
		require.Eventually(t, func() bool { return srv.metrics.slowConsumers.Load() > cut }, waitLimit, 10*time.Millisecond, name)
		require.Less(t, heapInUse()-before, int64(128<<20), name)
	}
	fetch := wire.Fetch{Handle: h, MaxBytes: 8 << 20}
	f("fetch", wire.OpFetch, fetch.Append, 1000)
	sub := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 31}
	f("subscribe", wire.OpSubscribe, sub.Append, 1)
	alive(t, srv)
}

// TestASlowNetworkIsNoPeerThatNeverReads reads so little at a time that the kernel takes no more output for several times
// the timeout.
func TestASlowNetworkIsNoPeerThatNeverReads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says what a socket keeps")
	}
	srv := startServer(t, Options{SlowTimeout: time.Second})
	writer := login(t, srv)
	h := writer.resolve("orders").Handle
	value := strings.Repeat("v", 1<<20-100)
	for range 16 {
		writer.publish(h, 0, value)
	}
	p := login(t, srv)
	require.NoError(t, p.conn.(*net.TCPConn).SetReadBuffer(64<<10))
	p.resolve("orders")
	sub := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 31}
	_, err := p.conn.Write(request1(wire.OpSubscribe, 0, 3, sub.Append))
	require.NoError(t, err)
	buf := make([]byte, 16<<10)
	for range 100 {
		_, err := io.ReadFull(p.conn, buf)
		require.NoError(t, err)
		time.Sleep(30 * time.Millisecond) // so slow is the network
	}
	require.Zero(t, srv.metrics.slowConsumers.Load())
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// TestASlowPeerGetsEverything reads in drips what does not fit the socket.
func TestASlowPeerGetsEverything(t *testing.T) {
	srv := startServer(t, Options{})
	writer := login(t, srv)
	h := writer.resolve("orders").Handle
	var want []string
	for i := range 200 {
		v := fmt.Sprintf("%d-%s", i, strings.Repeat("v", 50_000))
		want = append(want, v)
		writer.publish(h, 0, v)
	}
	p := login(t, srv)
	p.resolve("orders")
	sub := wire.Subscribe{Handle: h, From: wire.Position{Kind: wire.PositionFirst}, Credit: 1 << 31}
	p.send(wire.OpSubscribe, 0, sub.Append)
	p.read()
	var got []string
	for len(got) < len(want) {
		var e wire.Entries
		require.NoError(t, e.Parse(p.read().Body))
		got = append(got, valuesOf(t, e.Bytes)...)
		runtime.Gosched()
	}
	require.Equal(t, want, got)
}

// TestTenThousandHalfOpenConnectionsDoNotDisturb opens connections that say nothing, or begin to say
// something and stop. The former may stay; the latter are closed.
func TestTenThousandHalfOpenConnectionsDoNotDisturb(t *testing.T) {
	const count = 10_000
	files := unix.Rlimit{Cur: 32_000, Max: 32_000}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &files) != nil { // only some may raise it
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	}
	sockets := min(count, (int(files.Max)-2000)/2) // both ends are in this process; the rest has no socket
	srv := startServer(t, Options{
		HandshakeTimeout: time.Second, IdleTimeout: time.Hour, MaxConnections: count + 10,
	})
	preface := wire.AppendPreface(nil)
	begun := append(wire.AppendPreface(nil), request1(wire.OpHello, 0, 1, (&wire.Hello{Name: "half"}).Append)[:9]...)
	says := [][]byte{nil, preface[:1], preface, begun}
	for i := range count {
		conn, err := dialEither(t, srv, i < sockets)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = bufio.NewReader(conn).ReadString('\n') // without a socket nobody else keeps the greeting
		require.NoError(t, err)
		_, err = conn.Write(says[i%len(says)])
		require.NoError(t, err)
	}
	alive(t, srv)
	silent := int64(count / len(says))
	require.Eventually(t, func() bool { return srv.connections.Load() == silent+1 }, waitLimit, 10*time.Millisecond,
		"of the half-open ones none may stay, of the silent ones all")
	alive(t, srv)
}

// dialEither opens a connection with a socket, or one in memory.
func dialEither(t *testing.T, srv *Server, socket bool) (net.Conn, error) {
	if !socket {
		return srv.Dial(t.Context())
	}
	return net.Dial("tcp", srv.Addr().String())
}

func TestConnectionsOverTheLimitAreRefusedWithAReason(t *testing.T) {
	srv := startServer(t, Options{MaxConnections: 2})
	first := login(t, srv)
	login(t, srv)
	require.Contains(t, connect(t, srv).closed(), "maximum connections exceeded")
	require.NoError(t, first.conn.Close())
	require.Eventually(t, func() bool { return srv.connections.Load() == 1 }, waitLimit, time.Millisecond)
	alive(t, srv)
}

// TestTheBrokerOutlivesItsFileLimit runs a broker in a process with 64 files.
func TestTheBrokerOutlivesItsFileLimit(t *testing.T) {
	const marker = "RAFKA_TEST_FEW_FILES"
	if os.Getenv(marker) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), marker+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	few := unix.Rlimit{Cur: 64, Max: 64}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	srv := startServer(t, Options{MaxConnections: 10_000})
	first := login(t, srv)
	h := first.resolve("orders").Handle
	var conns []net.Conn
	for {
		conn, err := net.Dial("tcp", srv.Addr().String())
		if err != nil {
			break // this process has no files left, and the broker lives in it
		}
		conns = append(conns, conn)
	}
	require.Greater(t, len(conns), 10)
	first.publish(h, 0, "still served")
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return srv.connections.Load() == 1 }, waitLimit, time.Millisecond)
	alive(t, srv)
}

func TestShutdownAnswersWhatIsOnItsWayAndSaysGoodbye(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	poll := wire.Fetch{Handle: h, MinBytes: 1, MaxBytes: 1, MaxWaitMs: 100_000}
	fetchID := p.send(wire.OpFetch, 0, poll.Append)
	p.call(wire.OpPing, 0, nil)
	shutdown(t, srv)
	f := p.read()
	require.Equal(t, wire.OpNotice, f.Op)
	var n wire.Notice
	require.NoError(t, n.Parse(f.Body))
	require.Equal(t, wire.CodeShutdown, n.Code)
	f = p.read()
	require.Equal(t, fetchID, f.Correlation)
	require.Zero(t, f.Flags)
	require.Empty(t, p.closed())
}

func TestAcknowledgedMeansStoredAcrossAShutdown(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, Options{Dir: dir})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	var burst []byte
	for i := range uint32(1000) {
		burst = append(burst, request1(wire.OpPublish, 0, 100+i, publishBody(h, 0, batchOf(fmt.Sprint(i))))...)
	}
	p.write(burst)
	done := make(chan int)
	go func() { // until the connection ends
		acked := 0
		for {
			f, err := p.tryRead()
			if err != nil {
				done <- acked
				return
			}
			var reply wire.PublishReply
			if f.Op == wire.OpPublish|wire.OpReply && f.Flags&wire.FlagError == 0 && reply.Parse(f.Body, f.Flags) == nil {
				acked += 1 + int(reply.Extra)
			}
		}
	}()
	shutdown(t, srv)
	acked := <-done
	srv = startServer(t, Options{Dir: dir})
	p = login(t, srv)
	values, _ := p.fetch(wire.Fetch{Handle: p.resolve("orders").Handle, MaxBytes: 1 << 20})
	require.GreaterOrEqual(t, len(values), acked)
	for i, v := range values {
		require.Equal(t, fmt.Sprint(i), v)
	}
}

func TestDeletingATopicEndsWhatWaitsForIt(t *testing.T) {
	srv := startServer(t, Options{})
	p, admin := login(t, srv), login(t, srv)
	h := p.resolve("orders").Handle
	poll := wire.Fetch{Handle: h, MinBytes: 1, MaxBytes: 1, MaxWaitMs: 100_000}
	fetchID := p.send(wire.OpFetch, 0, poll.Append)
	sub := wire.Subscribe{Handle: h, Credit: 1000}
	subID := p.send(wire.OpSubscribe, 0, sub.Append)
	require.Equal(t, subID, p.read().Correlation)
	name := wire.TopicName{Topic: "orders"}
	require.Zero(t, admin.call(wire.OpDeleteTopic, 0, name.Append).Flags)
	ended := map[uint32]wire.Frame{}
	for range 2 {
		f := p.read()
		ended[f.Correlation] = f
	}
	errorOf(t, wire.CodeTopicDeleted, ended[fetchID])
	errorOf(t, wire.CodeTopicDeleted, ended[subID])
	p.refused(wire.CodeTopicDeleted, wire.OpPublish, 0, publishBody(h, 0, batchOf("x")))
}

// A client that ends its sending direction is at its end. What it has sent counts, whether it is answered or not.
func TestWhatAClientSentBeforeItsEndCounts(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	other := login(t, srv)
	other.resolve("orders")
	var sent []byte
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		sent = append(sent, request1(wire.OpPublish, 0, uint32(i), publishBody(h, 0, batchOf(want[i])))...)
	}
	other.write(sent)
	require.NoError(t, other.conn.(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, other.r) // until the broker closes
	require.Eventually(t, func() bool { return len(p.fetchAll(h)) == len(want) }, waitLimit, time.Millisecond)
	require.Equal(t, want, p.fetchAll(h))
}

// A panic of a worker or of the coordinator closes the connection whose request it was, which would wait for an answer for
// ever.
func TestAPanicElsewhereClosesTheConnection(t *testing.T) {
	f := func(request func(b *binary) error) {
		t.Helper()
		srv := startServer(t, Options{Loops: 1})
		p, other := login(t, srv), login(t, srv)
		srv.onLoops(t.Context(), func(l *loop, _ time.Time) int {
			for s := range l.sessions {
				if b, ok := s.proto.(*binary); ok && s.id == 1 {
					require.NoError(t, request(b))
				}
			}
			return 0
		})
		require.Empty(t, p.closed())
		require.EqualValues(t, 1, srv.metrics.panics.Load())
		other.ping()
	}
	f(func(b *binary) error {
		return b.work(wire.OpGroups, 1, func() (func(time.Time) error, error) { panic("a test") })
	})
	f(func(b *binary) error {
		return b.coordinate(wire.Frame{Op: wire.OpMembers}, func(time.Time) { panic("a test") })
	})
}
