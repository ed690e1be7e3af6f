package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

const quietProgram = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"

// program opens a session as a NATS client does.
func (b *textBroker) program(lines ...string) *textPeer {
	p := b.peer()
	p.feed(quietProgram)
	for _, line := range lines {
		p.feed(line + "\r\n")
	}
	require.Empty(b.t, p.take())
	return p
}

// topic makes a topic on the server.
func (b *textBroker) topic(name string, settings ...wire.Setting) {
	b.t.Helper()
	_, err := b.srv.registry.Create(name, 1, settings)
	require.NoError(b.t, err)
}

func TestBinaryPublishesReachLiveSubscribers(t *testing.T) {
	srv := startServer(t, Options{})
	p := login(t, srv)
	topic := p.resolve("orders")
	nc, plain := natsClient(t, srv), greetText(t, srv)
	plain.write("SUB orders 7\r\n")
	plain.expect("+OK")
	sub, err := nc.SubscribeSync("ord*")
	require.NoError(t, err)
	all, err := nc.SubscribeSync(">")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())

	records := []wire.Record{
		{Value: []byte("plain")},
		{Value: []byte("keyed"), Key: []byte("alice"), Headers: wire.Headers{}.Append("Trace", []byte("1")).Append("Bad", []byte("a\r\nb: c"))},
		{Value: []byte("binary key"), Key: []byte{0xff, '\n'}},
		{Value: nil},
	}
	var b wire.BatchBuilder
	for _, r := range records {
		b.Add(r)
	}
	publish := func(batch []byte) {
		f := p.call(wire.OpPublish, 0, publishBody(topic.Handle, 0, batch))
		require.Zero(t, f.Flags&wire.FlagError, "%q", f.Body)
	}
	publish(b.Bytes())
	for _, c := range []wire.Codec{wire.CodecS2, wire.CodecZstd, wire.CodecLZ4} {
		publish(b.AppendCompressed(nil, c, codec.Compress(nil, c, b.Records())))
	}
	for range 4 {
		for _, want := range records {
			plain.expect(fmt.Sprintf("MSG orders 7 %d", len(want.Value)))
			plain.expect(string(want.Value))
			m := natsMessage(t, all)
			require.Equal(t, "orders", m.Subject)
			require.Equal(t, string(want.Value), string(m.Data))
			switch string(want.Key) {
			case "alice":
				require.Equal(t, "alice", m.Header.Get("rafka-key"))
				require.Equal(t, "1", m.Header.Get("Trace"))
				require.Equal(t, "a  b: c", m.Header.Get("Bad"))
			case "":
				require.Empty(t, m.Header)
			default:
				require.Equal(t, "/wo=", m.Header.Get("rafka-key-base64"))
			}
		}
	}
	n, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, n, "ord* is a literal token")
	require.NoError(t, all.Unsubscribe())
	require.NoError(t, nc.Flush())
	plain.write("UNSUB 7\r\n")
	plain.expect("+OK")
	publish(b.Bytes())
	plain.write("PING\r\n")
	plain.expect("PONG")
}

// A batch whose records cannot be opened, or unfold to too much, is stored and routed to nobody.
func TestUnreadableBatchIsNotRouted(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("orders")
	sub := b.program("SUB orders 1")
	var builder wire.BatchBuilder
	builder.Add(wire.Record{Value: []byte("x")})
	for _, packed := range [][]byte{{1, 2, 3}, {}} {
		batch, err := wire.ParseBatch(builder.AppendCompressed(nil, wire.CodecZstd, packed))
		require.NoError(t, err)
		b.loops[0].routeBatch(b.srv.registry.Topic("orders"), &batch)
	}
	builder.Reset()
	for range 3 {
		builder.Add(wire.Record{Value: make([]byte, maxLiveBatch/3+1)})
	}
	batch, err := wire.ParseBatch(builder.AppendCompressed(nil, wire.CodecZstd, codec.Compress(nil, wire.CodecZstd, builder.Records())))
	require.NoError(t, err)
	b.loops[0].routeBatch(b.srv.registry.Topic("orders"), &batch)
	b.loops[0].routeFired(b.srv.registry.Topic("orders"), batch.Raw())
	b.turn()
	require.Empty(t, sub.take())
}

// A message is copied once for all subscriptions of another loop, and keeps its order.
func TestHandoffBetweenLoops(t *testing.T) {
	b := newTextBroker(t, Options{})
	far := b.program("SUB a 1", "SUB a 2", "SUB > 3") // on loop 0
	near := b.program()                               // on loop 1
	near.feed("PUB a 1\r\nx\r\nPUB b r 2\r\nyz\r\nPUB a 0\r\n\r\n")
	require.Empty(t, far.take(), "the other loop has not turned")
	b.turn()
	require.Equal(t, "MSG a 3 1\r\nx\r\nMSG a 1 1\r\nx\r\nMSG a 2 1\r\nx\r\n"+
		"MSG b 3 r 2\r\nyz\r\nMSG a 3 0\r\n\r\nMSG a 1 0\r\n\r\nMSG a 2 0\r\n\r\n", far.take())
	big := strings.Repeat("x", 700<<10)
	near.feed(strings.Repeat(fmt.Sprintf("PUB a %d\r\n%s\r\n", len(big), big), 4))
	b.turn()
	require.Equal(t, 3*4, strings.Count(far.take(), big))
}

// A member of a queue group that left while its message was on the way is replaced by another one.
func TestQueueMemberLeavesWhileItsMessageTravels(t *testing.T) {
	b := newTextBroker(t, Options{})
	gone, publisher, stays := b.program("SUB work crew 1"), b.program(), b.program("SUB work crew 1")
	const n = 50
	for range n {
		publisher.feed("PUB work 1\r\nx\r\n")
	}
	gone.feed("UNSUB 1\r\nPING\r\n") // its loop has not looked into its inbox
	gone.s.loop.endTurn(b.now())
	b.turn()
	b.turn()
	got := strings.Count(gone.take(), "MSG") + strings.Count(stays.take(), "MSG")
	require.Equal(t, n, got)
}

func TestClosedQueueMemberIsSkipped(t *testing.T) {
	b := newTextBroker(t, Options{})
	closed, publisher, stays := b.program("SUB work crew 1"), b.program(), b.program("SUB work crew 1")
	closed.s.close()
	for range 20 {
		publisher.feed("PUB work 1\r\nx\r\n")
	}
	b.turn()
	b.turn()
	require.Equal(t, 20, strings.Count(stays.take(), "MSG"))
}

// A subscriber that does not read is closed without an error, as NATS does, and others are not hurt.
func TestSlowTextConsumerIsClosed(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 1 << 20})
	slow, publisher, other := b.program("SUB a 1"), b.program(), b.program("SUB a 1")
	slow.m.unread = 2 << 20
	publisher.feed("PUB a 1\r\nx\r\n")
	b.turn()
	require.True(t, slow.m.closed)
	require.Equal(t, "MSG a 1 1\r\nx\r\n", slow.take())
	require.Equal(t, "MSG a 1 1\r\nx\r\n", other.take())
	publisher.feed("PUB a 1\r\ny\r\n")
	b.turn()
	require.Empty(t, slow.take())
	require.Equal(t, "MSG a 1 1\r\ny\r\n", other.take())
	require.EqualValues(t, 1, b.srv.metrics.slowConsumers.Load())
}

// When all peers together leave too much unread, those that read nothing at all go. Those that read stay.
func TestTheUnreadOutputOfAllIsBounded(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 8 << 20, MaxUnreadBytes: 4 << 20})
	dead, slow := b.program("SUB a 1"), b.program("SUB a 1")
	sweep := func() {
		b.clock.Add(700)
		for _, l := range b.loops {
			l.sweep(b.now())
			l.endTurn(b.now())
		}
	}
	dead.m.unread, slow.m.unread = 1<<20, 3<<20-1
	for range 6 {
		sweep()
	}
	require.False(t, dead.m.closed, "there is room")
	require.False(t, slow.m.closed)
	dead.m.unread += 64 << 10
	for range 6 {
		slow.m.unread -= 100 // so it reads
		sweep()
	}
	require.True(t, dead.m.closed)
	require.False(t, slow.m.closed)
	dead.s.ended(b.now())
	require.EqualValues(t, slow.m.unread, b.srv.unread.Load())
	require.EqualValues(t, 1, b.srv.metrics.slowConsumers.Load())
}

// One message to very many subscriptions of one session does not pile up in memory.
func TestFanOutOnOneSessionIsBounded(t *testing.T) {
	b := newTextBroker(t, Options{MaxPendingBytes: 4 << 20})
	p := b.program()
	for i := range 200 {
		p.feed(fmt.Sprintf("SUB a %d\r\n", i))
	}
	p.m.unread = 5 << 20 // the transport keeps what it is given
	big := strings.Repeat("x", 1<<20)
	p.feed(fmt.Sprintf("PUB a %d\r\n%s\r\n", len(big), big))
	require.True(t, p.m.closed)
	require.Less(t, p.m.out.Len(), 4<<20)
}

func TestTextQuietPeerIsAskedAndClosed(t *testing.T) {
	b := newTextBroker(t, Options{PingInterval: 2 * time.Minute, PingMax: 2})
	p := b.program()
	sweep := func(after time.Duration) string {
		b.clock.Add(after.Milliseconds())
		for _, l := range b.loops {
			l.sweep(b.now())
			l.endTurn(b.now())
		}
		return p.take()
	}
	require.Empty(t, sweep(time.Minute))
	require.Equal(t, "PING\r\n", sweep(time.Minute+time.Second))
	require.Empty(t, sweep(time.Minute))
	require.Equal(t, "PING\r\n", sweep(time.Minute))
	p.feed("PONG\r\n")
	require.Empty(t, sweep(time.Minute))
	require.Equal(t, "PING\r\n", sweep(2*time.Minute))
	require.Equal(t, "PING\r\n", sweep(2*time.Minute-time.Second))
	require.Equal(t, "-ERR 'Stale Connection'\r\n", sweep(2*time.Minute))
	require.True(t, p.m.closed)
}

// A program that began a command must finish it; a person may think about it.
func TestTextUnfinishedCommand(t *testing.T) {
	b := newTextBroker(t, Options{HandshakeTimeout: 10 * time.Second})
	program, person := b.program(), b.peer()
	program.feed("PUB a 5\r\nhe")
	person.feed("PUB a 5\r\nhe")
	b.clock.Add(11_000)
	for _, l := range b.loops {
		l.sweep(b.now())
		l.endTurn(b.now())
	}
	require.True(t, program.m.closed)
	require.False(t, person.m.closed)
	person.feed("llo\r\n")
	require.Equal(t, "+OK\r\n", person.take())
}

// A person is told last: between a command and its answer, the sentence would pass for the answer, and every answer after it
// for that of the next command. So a message would seem acknowledged that is not.
func TestTextDrain(t *testing.T) {
	b := newTextBroker(t, Options{})
	program, old, person := b.peer(), b.program(), b.peer()
	program.feed("CONNECT {\"verbose\":false,\"protocol\":1}\r\n")
	require.Equal(t, "+OK 0 topics", person.ask("TOPICS"))
	require.Equal(t, `+OK topic "orders" created with 1 partition`, person.ask("TOPIC orders partitions=1"))
	require.Equal(t, "+OK", person.ask("PUB orders 1\r\na"))
	require.Contains(t, person.ask("LEASE orders mailer"), "LEASED orders/0@0 1 ")
	require.Equal(t, "a\r\n+OK 1 message\r\n", person.take())
	for _, l := range b.loops {
		l.drainSessions(time.Second, b.now())
		l.endTurn(b.now())
	}
	require.Regexp(t, `^INFO \{.*"ldm":true.*\}\r\n$`, program.take())
	require.Empty(t, old.take())
	require.Empty(t, person.take())
	require.Equal(t, "+OK orders/0@0 settled", person.ask("ACK orders/0@0 mailer"))
	for range 2 { // a stop goes on until all sessions are gone
		for _, l := range b.loops {
			l.closeAll(b.now())
			l.endTurn(b.now())
		}
	}
	require.Equal(t, "-ERR 'the broker is shutting down'\r\n", person.take())
	require.True(t, person.m.closed)
	require.Empty(t, old.take())
}

// Too much memory of subscriptions is refused as NATS does, and the connection lives.
func TestTextSubscriptionLimit(t *testing.T) {
	b := newTextBroker(t, Options{})
	p := b.program()
	session := p.s
	session.countSub(maxSubBytes - 2*subBytes)
	p.feed("SUB a 1\r\nSUB a 2\r\nPING\r\n")
	require.Equal(t, "-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n", p.take())
	p.feed("UNSUB 1\r\nSUB a 3\r\nPING\r\n")
	require.Equal(t, "PONG\r\n", p.take())
	p.feed("UNSUB 3\r\n")
	require.EqualValues(t, maxSubBytes-2*subBytes, session.subBytes)

	another := b.program()
	b.srv.subBytes.Store(b.srv.subLimit - 2*subBytes)
	another.feed("SUB a 1\r\nSUB a 2\r\nPING\r\n")
	require.Equal(t, "-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n", another.take(), "too many of all connections")
	another.end()
	require.Equal(t, b.srv.subLimit-2*subBytes, b.srv.subBytes.Load())

	p = newTextBroker(t, Options{MaxSubscriptions: 1}).program()
	p.feed("SUB a 1\r\nSUB a 1\r\nPING\r\n")
	require.Equal(t, "-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n", p.take(), "one that exists, too")
}

// What is sent while a command waits runs behind it, up to a limit.
func TestTextPause(t *testing.T) {
	b := newTextBroker(t, Options{})
	p := b.peer()
	idle := b.busyWorkers()
	p.feed("TOPIC a\r\nPUB a 1\r\nx\r\nFETCH a/0@0\r\nPING\r\n")
	for range 1000 {
		p.s.receive([]byte("PING\r\n"), b.now()) // before the loop looks whether TOPIC is done
	}
	p.s.loop.endTurn(b.now())
	require.Empty(t, p.take(), "TOPIC waits for a worker")
	idle()
	require.Equal(t, "+OK topic \"a\" created with 1 partition\r\n", p.line())
	require.Equal(t, "+OK\r\n", p.line())
	require.Regexp(t, "^RECORD a/0@0 1 ", p.line())
	require.Equal(t, "x\r\n", p.line())
	require.Equal(t, "+OK 1 record, next 1\r\n", p.line())
	for range 1001 {
		require.Equal(t, "PONG\r\n", p.line())
	}
	session := p.s.proto.(*text)
	require.Empty(t, p.s.backlog.bytes)

	p.s.pause()
	chunk := strings.Repeat("PING\r\n", 100_000)
	for range maxBacklog/len(chunk) + 1 {
		p.feed(chunk)
	}
	require.True(t, p.m.closed)
	require.Equal(t, "-ERR 'too much was sent while a command waits'\r\n", p.take())
	require.LessOrEqual(t, len(p.s.backlog.bytes), maxBacklog)
	session.after(b.now(), nil, nil) // the command ends after the connection
	require.Empty(t, p.take())
}

// A publish that finds too much waiting for the disk waits, too: its message is not lost.
func TestTextPublishStalls(t *testing.T) {
	b := newTextBroker(t, Options{Dir: t.TempDir(), MaxInFlightBytes: 100})
	b.topic("orders")
	p := b.program("SUB in 1")
	session := p.s.proto.(*text)
	session.held = 101
	p.feed("PUB orders in 2\r\nhi\r\nPING\r\n")
	require.True(t, p.s.backlog.paused)
	b.clock.Add(6)
	p.s.loop.tick(b.now())
	require.True(t, p.s.backlog.paused, "still too much")
	session.held = 0
	b.clock.Add(6)
	p.s.loop.tick(b.now())
	p.s.loop.endTurn(b.now())
	require.Equal(t, "PONG\r\n", p.line())
	require.Regexp(t, `^MSG in 1 \d+\r\n$`, p.line())
	require.Equal(t, `{"topic":"orders","partition":0,"offset":0,"level":"disk"}`+"\r\n", p.line())
	require.Zero(t, session.held)
}

// A publish that waits for the disk is not checked again: the one answer that was allowed is used up.
func TestTextAnAllowedAnswerStalls(t *testing.T) {
	rights := &auth.Permissions{Responses: &auth.Responses{}}
	b := newTextBroker(t, Options{Dir: t.TempDir(), Auth: policy(t, auth.Config{Users: []auth.User{{Name: "u", Permissions: rights}}, NoAuthUser: "u"})})
	b.topic("orders")
	p := b.program()
	session := p.s.proto.(*text)
	p.s.replies = &auth.Replies{}
	p.s.replies.Note([]byte("orders"), p.s.who.Responses(), b.now())
	session.held = b.srv.opts.MaxInFlightBytes + 1
	p.feed("PUB orders 2\r\nhi\r\nPING\r\n")
	require.True(t, p.s.backlog.paused)
	for range 3 {
		b.clock.Add(6)
		p.s.loop.tick(b.now())
	}
	session.held = 0
	b.clock.Add(6)
	p.s.loop.tick(b.now())
	p.s.loop.endTurn(b.now())
	require.Equal(t, "PONG\r\n", p.line())
	require.EqualValues(t, 1, b.srv.registry.Topic("orders").Partition(0).Next())
	p.feed("PUB orders 2\r\nhi\r\n")
	require.Equal(t, "-ERR 'Permissions Violation for Publish to \"orders\"'\r\n", p.line())
}

// Answers that wait take memory also when the messages are empty.
func TestEmptyMessagesThatWaitAreCounted(t *testing.T) {
	b := newTextBroker(t, Options{Dir: t.TempDir(), MaxInFlightBytes: 10 * storedBytes})
	b.topic("orders")
	p := b.program()
	session := p.s.proto.(*text)
	p.s.loop.turning = true // so that nothing is flushed meanwhile
	p.s.receive([]byte(strings.Repeat("PUB orders in 0\r\n\r\n", 100)), b.now())
	require.True(t, p.s.backlog.paused)
	require.EqualValues(t, 10, b.srv.registry.Topic("orders").Partition(0).Next())
	p.s.loop.endTurn(b.now())
	b.until(func() bool {
		b.clock.Add(6)
		for _, l := range b.loops {
			l.tick(b.now())
		}
		return !p.s.backlog.paused && session.held == 0
	}, "the rest")
	require.EqualValues(t, 100, b.srv.registry.Topic("orders").Partition(0).Next())
}

// The errors of a topic go to the reply subject or to a person, never to a program as -ERR.
func TestTextPublishThatATopicRefuses(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("small", wire.Setting{Key: "max_record_bytes", Value: "10"})
	program, person := b.program("SUB in 1"), b.peer()
	const big = "20\r\n01234567890123456789\r\n"
	program.feed("PUB small " + big + "PING\r\n")
	require.Equal(t, "PONG\r\n", program.take())
	program.feed("PUB small in " + big)
	require.Regexp(t, `^MSG in 1 \d+\r\n\{"topic":"small","error":\{"code":3,"name":"TOO_LARGE","message":".*"\}\}\r\n$`, program.take())
	person.feed("PUB small " + big)
	require.Equal(t, "-ERR 'TOO_LARGE: a record of this topic has at most 10 bytes'\r\n", person.take())
	person.feed("PUB small in " + big)
	require.Equal(t, "+OK\r\n", person.take())
	header := "NATS/1.0\r\nA: " + strings.Repeat("x", wire.MaxHeaderBytes) + "\r\n\r\n"
	person.feed(fmt.Sprintf("HPUB small %d %d\r\n%s\r\n", len(header), len(header), header))
	require.Regexp(t, "^-ERR 'TOO_LARGE: the headers", person.take())
	header = "NATS/1.0\r\nrafka-key: " + strings.Repeat("x", wire.MaxKeyBytes+1) + "\r\n\r\n"
	person.feed(fmt.Sprintf("HPUB small %d %d\r\n%s\r\n", len(header), len(header), header))
	require.Regexp(t, "^-ERR 'TOO_LARGE: a key", person.take())
	require.Zero(t, b.srv.registry.Topic("small").Partition(0).Next())
}

func TestTextKeysAndPartitions(t *testing.T) {
	b := newTextBroker(t, Options{})
	_, err := b.srv.registry.Create("orders", 4, nil)
	require.NoError(t, err)
	topic := b.srv.registry.Topic("orders")
	p := b.program()
	const header = "NATS/1.0\r\nRAFKA-Key:  alice \r\nA: 1\r\nnonsense\r\n: x\r\n\r\n"
	for range 5 {
		p.feed(fmt.Sprintf("HPUB orders %d %d\r\n%sx\r\n", len(header), len(header)+1, header))
	}
	require.EqualValues(t, 5, topic.Place([]byte("alice")).Next())
	require.Regexp(t, `RECORD orders/\d@0 1 time=\S+ key="alice" header="A: 1"$`,
		b.peer().ask(fmt.Sprintf("FETCH %s@0 1", topic.Place([]byte("alice")))))
	before := topic.Place([]byte("orders")).Next()
	for range 8 {
		p.feed("PUB orders 1\r\nx\r\n")
	}
	require.Equal(t, before+8, topic.Place([]byte("orders")).Next(), "without a key the subject is the key")
}

// A connection that ends gives back what it leased, and a delayed message waits for its time.
func TestTextLeasesReturn(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("jobs")
	first, second := b.peer(), b.peer()
	first.feed("PUB jobs 1\r\nx\r\n")
	require.Equal(t, "+OK\r\n", first.line())
	require.Regexp(t, "^LEASED jobs/0@0 1 .* attempt=1$", first.ask("LEASE jobs crew"))
	require.Equal(t, "x\r\n", first.line())
	require.Equal(t, "+OK 1 message\r\n", first.line())
	require.EqualValues(t, 1, b.srv.metrics.workers.Load())
	require.Equal(t, "+OK nothing to do", second.ask("LEASE jobs crew"))
	require.Regexp(t, "LEASE_LOST", second.ask("ACK jobs/0@0 crew"))
	first.end()
	require.Zero(t, b.srv.metrics.workers.Load())
	require.Regexp(t, "^LEASED jobs/0@0 1 .* attempt=2$", second.ask("LEASE jobs crew 5"))
	second.line()
	second.line()
	require.Equal(t, "+OK jobs/0@0 settled", second.ask("NACK jobs/0@0 crew 10s"))
	require.Equal(t, "+OK nothing to do", second.ask("LEASE jobs crew"))
	b.clock.Add(11_000)
	require.Regexp(t, "^LEASED jobs/0@0 1 .* attempt=3$", second.ask("LEASE jobs crew"))
}

// Leases that have expired do not count against what a connection may lease.
func TestTextForgetsLeasesThatEnded(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("jobs")
	peer := b.peer()
	for range maxTextLease {
		peer.feed("PUB jobs 1\r\nx\r\n")
		require.Equal(t, "+OK\r\n", peer.line())
	}
	peer.feed("LEASE jobs crew 100\r\n")
	for line := ""; line != "+OK 100 messages\r\n"; line = peer.line() {
	}
	leases := peer.s.proto.(*text).leases
	require.Len(t, leases, maxTextLease)
	for key := range maps.Clone(leases) {
		for i := range uint64(maxTextLeases/maxTextLease - 1) {
			leases[textLease{key.p, key.queue, key.offset + (i+1)*maxTextLease}] = 1 // of messages that are gone
		}
	}
	require.Len(t, leases, maxTextLeases)
	require.Equal(t, "+OK nothing to do", peer.ask("LEASE jobs crew"))
	require.Equal(t, "+OK jobs/0@7 settled", peer.ask("ACK jobs/0@7 crew"))
	for i := 0; len(leases) > maxTextLease-1; i++ {
		require.Less(t, i, 10*maxTextLeases)
		peer.s.proto.(*text).forgetEnded()
	}
	for i := range uint64(maxTextLease) {
		require.Equal(t, i != 7, leases[textLease{b.srv.registry.Topic("jobs").Partition(0), "crew", i}] == 1)
	}
}

// A lease shows its own messages and no others. One whose time to live is over is done.
func TestTextLeaseShowsWhatIsLeased(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("jobs")
	p := b.srv.registry.Topic("jobs").Partition(0)
	for _, ttl := range []int64{10, 0, 0} {
		var builder wire.BatchBuilder
		builder.SetTTL(ttl)
		builder.Add(wire.Record{Value: []byte("x")})
		batch, err := wire.ParseBatch(builder.Bytes())
		require.NoError(t, err)
		_, _, _, err = p.Publish(&batch, b.clock.Load())
		require.NoError(t, err)
	}
	b.clock.Add(20)
	peer := b.peer()
	require.Regexp(t, "^LEASED jobs/0@1 1 .* attempt=1$", peer.ask("LEASE jobs crew 2"))
	require.Equal(t, "x\r\n", peer.line())
	require.Equal(t, "+OK 1 message\r\n", peer.line())
	require.Equal(t, "+OK jobs/0@1 settled", peer.ask("ACK jobs/0@1 crew"))
	list, err := p.Pending(nil, "crew", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []group.Pending{{First: 2, Count: 1}}, list)
}

// Records on the disk are read like those in memory, and a compressed batch like a plain one.
func TestTextFetchOpensBatches(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("orders")
	p := b.srv.registry.Topic("orders").Partition(0)
	var builder wire.BatchBuilder
	for i := range 5 {
		builder.Add(wire.Record{Value: fmt.Appendf(nil, "r%d", i), Subject: []byte("s"), Time: int64(1000 + i)})
	}
	builder.Add(wire.Record{Value: nil, Key: []byte{0xff}, Time: 2000})
	for _, c := range []wire.Codec{wire.CodecNone, wire.CodecZstd} {
		batch, err := wire.ParseBatch(builder.AppendCompressed(nil, c, codec.Compress(nil, c, builder.Records())))
		require.NoError(t, err)
		_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	peer := b.peer()
	require.Equal(t, `RECORD orders/0@3 2 time=1970-01-01T00:00:01.003Z subject="s"`, peer.ask("FETCH orders/0@3 5"))
	expect := func(lines ...string) {
		for _, want := range lines {
			require.Equal(t, want+"\r\n", peer.line())
		}
	}
	expect("r3",
		`RECORD orders/0@4 2 time=1970-01-01T00:00:01.004Z subject="s"`, "r4",
		`RECORD orders/0@5 0 time=1970-01-01T00:00:02.000Z key="\xff" tombstone`, "",
		`RECORD orders/0@6 2 time=1970-01-01T00:00:01.000Z subject="s"`, "r0",
		`RECORD orders/0@7 2 time=1970-01-01T00:00:01.001Z subject="s"`, "r1",
		"+OK 5 records, next 8")
}

// FETCH says where to go on behind a batch that nobody can open, and LEASE goes on behind it by itself.
func TestTextPassesWhatCannotBeDecoded(t *testing.T) {
	var said bytes.Buffer
	b := newTextBroker(t, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	b.topic("jobs")
	p := b.srv.registry.Topic("jobs").Partition(0)
	var builder wire.BatchBuilder
	builder.Add(wire.Record{Value: []byte("x")})
	builder.Add(wire.Record{Value: []byte("y")})
	for _, raw := range [][]byte{builder.AppendCompressed(nil, wire.CodecS2, []byte("garbage")), builder.Bytes()} {
		batch, err := wire.ParseBatch(raw)
		require.NoError(t, err)
		_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	peer := b.peer()
	require.Regexp(t, `CORRUPT_RANGE: .*records \[0, 2\) cannot be decoded`, peer.ask("FETCH jobs/0@1"))
	require.Regexp(t, "CORRUPT_RANGE", peer.ask("LEASE jobs crew 1"))
	require.Regexp(t, "CORRUPT_RANGE", peer.ask("LEASE jobs crew 1"))
	require.Regexp(t, "^LEASED jobs/0@2 1 .* attempt=1$", peer.ask("LEASE jobs crew 1"))
	list, err := p.Pending(nil, "crew", 0, 10)
	require.NoError(t, err)
	require.Equal(t, uint64(2), list[0].First, "what is lost is done")
	require.Regexp(t, `level=WARN msg="messages of a queue are lost to damage" partition=jobs/0 queue=crew err=.*\[0, 2\)`, said.String())
}

// picky lets everybody do one action to one name. A rule that denies everything else must name it.
func picky(t testing.TB, action action, name string) *auth.Policy {
	rights := &auth.Permissions{Publish: auth.Rule{Deny: []string{">"}}, Subscribe: auth.Rule{Deny: []string{">"}}}
	switch {
	case name == "":
	case action == actionPublish:
		rights.Publish = auth.Rule{Allow: []string{name}}
	case action == actionConsume, action == actionDescribe:
		rights.Subscribe = auth.Rule{Allow: []string{name}}
	case action == actionAdmin:
		rights.Admin = []string{name}
	}
	return policy(t, auth.Config{Users: []auth.User{{Name: "u", Permissions: rights}}, NoAuthUser: "u"})
}

// Every verb asks for its action on what it names.
func TestTextVerbsAskWhetherTheyMay(t *testing.T) {
	verbs := []struct {
		action action
		name   string
		send   string
		denied string
	}{
		{actionPublish, "jobs", "PUB jobs 0\r\n", `Permissions Violation for Publish to "jobs"`},
		{actionPublish, "live", "PUB live 0\r\n", `Permissions Violation for Publish to "live"`},
		{actionPublish, "live", "HPUB live 12 12\r\nNATS/1.0\r\n\r\n", `Permissions Violation for Publish to "live"`},
		{actionConsume, "live.*", "SUB live.* 1", `Permissions Violation for Subscription to "live.*"`},
		{actionConsume, "live.*", "SUB live.* crew 1", `Permissions Violation for Subscription to "live.*" using queue "crew"`},
		{actionAdmin, "new", "TOPIC new", `FORBIDDEN: .*"new"`},
		{actionDescribe, "jobs", "TOPIC jobs", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "FETCH jobs/0@0", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "LEASE jobs crew", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "ACK jobs/0@0 crew", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "NACK jobs/0@0 crew", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "REJECT jobs/0@0 crew", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "COMMIT jobs/0 0 crew", `FORBIDDEN: .*"jobs"`},
		{actionConsume, "jobs", "COMMITTED crew jobs", `FORBIDDEN: .*"jobs"`},
	}
	tested := []string{"TOPICS", "GROUPS", "STATS", "HELP", "QUIT"} // see TestTextListsShowOnlyWhatMayBeSeen; anybody may use the others
	for _, v := range verbs {
		tested = append(tested, strings.Fields(v.send)[0])
	}
	for _, v := range humanVerbs() {
		require.Contains(t, tested, v.name)
	}
	for _, v := range verbs {
		t.Run(v.send, func(t *testing.T) {
			allowed := newTextBroker(t, Options{Auth: picky(t, v.action, v.name)})
			allowed.topic("jobs")
			require.NotRegexp(t, v.denied, allowed.peer().ask(v.send))
			denied := newTextBroker(t, Options{Auth: picky(t, v.action, "other")})
			denied.topic("jobs")
			p := denied.peer()
			require.Regexp(t, "^-ERR '"+v.denied+".*'$", p.ask(v.send))
			require.False(t, p.m.closed)
		})
	}
}

// Names in an error are quoted as nats-server quotes them.
func TestTextQuotesNamesThatAreForbidden(t *testing.T) {
	p := newTextBroker(t, Options{Auth: picky(t, actionPublish, "jobs")}).peer()
	require.Equal(t, `-ERR 'Permissions Violation for Publish to "a\"b\\\xffé"'`, p.ask("PUB a\"b\\\xffé 0\r\n"))
	require.Equal(t, `-ERR 'Permissions Violation for Subscription to "a\"b" using queue "q\xff"'`, p.ask("SUB a\"b q\xff 1"))
}

// As in nats-server, a pedantic client learns both what is wrong with a subject and that it may not publish to it.
func TestTextSaysThatAForbiddenSubjectIsInvalid(t *testing.T) {
	b := newTextBroker(t, Options{Auth: picky(t, actionPublish, "jobs")})
	out, _ := b.play("CONNECT {\"verbose\":false,\"pedantic\":true}\r\nPUB a.* 0\r\n\r\nPUB b 0\r\n\r\n")
	require.Equal(t, "-ERR 'Invalid Publish Subject'\r\n-ERR 'Permissions Violation for Publish to \"a.*\"'\r\n"+
		"-ERR 'Permissions Violation for Publish to \"b\"'\r\n", out)
}

// A topic's acknowledgement goes only where the publisher could have written himself.
func TestTextAckNeedsTheRightToItsSubject(t *testing.T) {
	b := newTextBroker(t, Options{Auth: picky(t, actionPublish, "jobs")})
	b.topic("jobs")
	p := b.peer()
	require.Equal(t, `-ERR 'Permissions Violation for Publish to "secret"'`, p.ask("PUB jobs secret 0\r\n"))
	require.Zero(t, b.srv.registry.Topic("jobs").Partition(0).Next())
}

func TestTextListsShowOnlyWhatMayBeSeen(t *testing.T) {
	b := newTextBroker(t, Options{Auth: picky(t, actionDescribe, "seen")})
	b.topic("seen")
	b.topic("hidden")
	p := b.peer()
	require.Regexp(t, "^seen ", p.ask("TOPICS"))
	require.Equal(t, "+OK 1 topic\r\n", p.line())
	require.Equal(t, "+OK 0 lines", p.ask("GROUPS"))
}

// An in-memory connection has a loop of its own; messages cross to and from it.
func TestTextOverAnInMemoryConnection(t *testing.T) {
	srv := startServer(t, Options{})
	conn, err := srv.Dial(context.Background())
	require.NoError(t, err)
	inside := newTextClient(t, conn)
	inside.write("SUB a 1\r\n")
	inside.expect("+OK")
	outside := greetText(t, srv)
	outside.write("SUB b 1\r\nPUB a 2\r\nhi\r\n")
	outside.expect("+OK")
	outside.expect("+OK")
	inside.expect("MSG a 1 2")
	inside.expect("hi")
	inside.write("PUB b 2\r\nho\r\n")
	inside.expect("+OK")
	outside.expect("MSG b 1 2")
	outside.expect("ho")
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return srv.live.Len() == 1 }, waitLimit, time.Millisecond)
	outside.write("PUB a 2\r\nhi\r\n")
	outside.expect("+OK")
}

// The acknowledgement of a publish goes to its reply subject, whatever became of the publisher.
func TestAnAcknowledgementOutlivesItsPublisher(t *testing.T) {
	f := func(dial func(srv *Server) *textClient) {
		t.Helper()
		disk := &gateFS{FS: log.OS}
		srv := startServer(t, Options{Dir: t.TempDir(), FS: disk, Topics: []wire.Setting{{Key: "durability", Value: "disk"}}})
		_, err := srv.registry.Create("orders", 1, nil)
		require.NoError(t, err)
		other := greetText(t, srv)
		other.write("SUB acks 1\r\n")
		other.expect("+OK")
		open := sync.OnceFunc(disk.shut())
		t.Cleanup(open)
		publisher := dial(srv)
		publisher.write("PUB orders acks 2\r\nhi\r\n")
		publisher.expect("+OK")
		require.NoError(t, publisher.conn.Close())
		require.Eventually(t, func() bool { return srv.connections.Load() == 1 }, waitLimit, time.Millisecond)
		open()
		require.Regexp(t, "^MSG acks 1 ", other.line())
	}
	f(func(srv *Server) *textClient { return greetText(t, srv) })
	f(func(srv *Server) *textClient {
		conn, err := srv.Dial(t.Context())
		require.NoError(t, err)
		return newTextClient(t, conn)
	})
}

// A topic takes what is published to the subjects it is bound to, and nothing else.
func TestTopicsAreBoundToSubjects(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("orders", wire.Setting{Key: "subjects", Value: "orders.> sales.*.paid"})
	b.topic("rest", wire.Setting{Key: "subjects", Value: "rests.*"})
	orders, rest := b.srv.registry.Topic("orders").Partition(0), b.srv.registry.Topic("rest").Partition(0)
	live := b.program("SUB > 1")
	p := b.program("SUB in 1")
	publish := func(subject string) { p.feed("PUB " + subject + " in 1\r\nx\r\n") }
	acked := func(topic string, offset int) {
		t.Helper()
		want := fmt.Sprintf(`{"topic":"%s","partition":0,"offset":%d,"level":"memory"}`, topic, offset)
		b.until(func() bool { return strings.HasSuffix(p.m.out.String(), "\r\n"+want+"\r\n") }, want)
		p.take()
	}
	publish("orders.eu.new")
	acked("orders", 0)
	publish("sales.eu.paid")
	acked("orders", 1)
	publish("rests.x")
	acked("rest", 0)
	for _, unbound := range []string{"orders", "sales.eu.open", "rest", "rests", "rests.x.y"} {
		p.feed("PUB " + unbound + " 1\r\nx\r\n")
	}
	require.EqualValues(t, 2, orders.Next())
	require.EqualValues(t, 1, rest.Next())
	b.turn()
	require.Equal(t, 8, strings.Count(live.take(), "x\r\n"), "live subscribers get all of them")
	require.Regexp(t, `^RECORD orders/0@0 1 time=\S+ subject="orders.eu.new"$`, b.peer().ask("FETCH orders/0@0 1"))

	for _, taken := range []string{"orders.eu", "sales.x.paid", "rests.any"} {
		_, err := b.srv.registry.Create(taken, 1, nil)
		require.ErrorIs(t, err, wire.CodeInvalid, taken)
		require.ErrorContains(t, err, "overlaps")
	}
	_, err := b.srv.registry.Create("orders.eu", 1, []wire.Setting{{Key: "subjects", Value: "none"}})
	require.NoError(t, err)
	_, err = b.srv.registry.Create("late", 1, []wire.Setting{{Key: "subjects", Value: "rest,orders"}})
	require.NoError(t, err)
	_, err = b.srv.registry.Alter("late", 0, []wire.Setting{{Key: "subjects", Value: "rests.a"}})
	require.ErrorIs(t, err, wire.CodeInvalid)
	_, err = b.srv.registry.Alter("orders", 0, []wire.Setting{{Key: "subjects", Value: "orders.*"}})
	require.NoError(t, err)
	p.feed("PUB orders.eu.new 1\r\nx\r\nPUB orders.eu 1\r\nx\r\n")
	require.EqualValues(t, 3, orders.Next())
	require.NoError(t, b.srv.registry.Delete("orders"))
	p.feed("PUB orders.eu 1\r\nx\r\n")
	_, err = b.srv.registry.Create("bad", 1, []wire.Setting{{Key: "subjects", Value: "a..b"}})
	require.ErrorIs(t, err, wire.CodeInvalid)
}

// A topic that takes everything takes no answers to requests.
func TestATopicOfAllSubjects(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("all", wire.Setting{Key: "subjects", Value: ">"})
	p := b.program()
	for _, s := range []string{"a", "all", "a.b.c", "_INBOX.x.1", "_INBOX_other.x", "$SYS.x", "x._INBOX"} {
		p.feed("PUB " + s + " 1\r\nx\r\n")
	}
	require.EqualValues(t, 4, b.srv.registry.Topic("all").Partition(0).Next())
}

// The order of what a connection sends to one subject is kept in a topic of several partitions.
func TestASubjectIsAKey(t *testing.T) {
	b := newTextBroker(t, Options{})
	topic, err := b.srv.registry.Create("orders", 4, []wire.Setting{{Key: "subjects", Value: "orders.>"}})
	require.NoError(t, err)
	p := b.program()
	for i := range 40 {
		p.feed(fmt.Sprintf("PUB orders.%d 1\r\nx\r\n", i%20))
	}
	used, sum := 0, uint64(0)
	for _, part := range topic.Partitions() {
		sum += part.Next()
		if part.Next() > 0 {
			used++
		}
	}
	require.EqualValues(t, 40, sum)
	require.Equal(t, 4, used)
}

// Behind its first PONG, and no other, a program that takes INFO at any time learns what its login
// led to.
func TestFirstPongIsFollowedByConnectInfo(t *testing.T) {
	b := newTextBroker(t, Options{})
	f := func(protocol string, follows bool) {
		t.Helper()
		p := b.peer()
		p.feed("CONNECT {\"verbose\":false" + protocol + "}\r\nPING\r\n")
		first, rest, _ := strings.Cut(p.take(), "\r\n")
		require.Equal(t, "PONG", first)
		if follows {
			require.Regexp(t, `^INFO \{.*,"connect_info":true,"remote_account":"\$G"\}\r\n$`, rest)
		} else {
			require.Empty(t, rest)
		}
		p.feed("CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n")
		require.Equal(t, "PONG\r\n", p.take())
	}
	f(`,"protocol":1`, true)
	f(`,"protocol":0`, false)
	f("", false)
}

// A topic stores every payload that INFO allows, with headers, and on a subject that is stored with the record.
func TestTextPublishOfTheLargestPayload(t *testing.T) {
	b := newTextBroker(t, Options{})
	b.topic("orders", wire.Setting{Key: "subjects", Value: "orders.>"})
	p := b.program("SUB in 1")
	most := b.srv.maxPayload
	header := "NATS/1.0\r\nrafka-key: alice\r\nA: b\r\nA: c\r\n\r\n"
	f := func(offset int, publish string) {
		t.Helper()
		p.feed(publish)
		want := fmt.Sprintf(`{"topic":"orders","partition":0,"offset":%d,"level":"memory"}`, offset)
		require.Equal(t, fmt.Sprintf("MSG in 1 %d\r\n%s\r\n", len(want), want), p.take())
	}
	f(0, fmt.Sprintf("PUB orders.eu.paid in %d\r\n%s\r\n", most, strings.Repeat("x", most)))
	f(1, fmt.Sprintf("HPUB orders.eu.paid in %d %d\r\n%s%s\r\n", len(header), most, header, strings.Repeat("x", most-len(header))))
}
