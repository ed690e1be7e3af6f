package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// listen subscribes and returns the subscription's id.
func (p *peer) listen(pattern, queue string) uint32 {
	p.t.Helper()
	id := p.send(wire.OpListen, 0, wire.Listen{Pattern: pattern, Queue: queue}.Append)
	f := p.read()
	require.Equal(p.t, wire.OpListen|wire.OpReply, f.Op)
	require.Zero(p.t, f.Flags)
	return id
}

func (p *peer) sendLive(flags wire.Flags, subject, reply, header, payload string) {
	p.t.Helper()
	m := wire.Live{Subject: []byte(subject), Reply: []byte(reply), Header: []byte(header), Payload: []byte(payload)}
	p.send(wire.OpSend, flags, m.Append)
}

// message returns the next message in words.
func (p *peer) message(subscription uint32) string {
	p.t.Helper()
	f := p.read()
	require.Equal(p.t, wire.OpMessage, f.Op)
	require.Equal(p.t, subscription, f.Correlation)
	var m wire.Live
	require.NoError(p.t, m.Parse(f.Body))
	s := fmt.Sprintf("%s %s %q %s", m.Subject, m.Reply, m.Header, m.Payload)
	if f.Flags&wire.FlagNoResponders != 0 {
		s += " nobody"
	}
	return s
}

// ping waits until the broker has done what was sent before.
func (p *peer) ping() {
	p.t.Helper()
	require.Equal(p.t, "?", string(p.call(wire.OpPing, 0, func(dst []byte) []byte { return append(dst, '?') }).Body))
}

const natsHeader = "NATS/1.0\r\nA: 1\r\n\r\n"

func TestBinaryAndTextShareSubjects(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	one, two, text := login(t, srv), login(t, srv), greetText(t, srv)
	text.write(quietProgram + "SUB a.* 7\r\nPING\r\n")
	text.expect("PONG")
	id := two.listen("a.>", "")
	one.sendLive(0, "a.b", "", natsHeader, "hi")
	require.Equal(t, `a.b  "NATS/1.0\r\nA: 1\r\n\r\n" hi`, two.message(id))
	text.expect("HMSG a.b 7 18 20")
	text.expect("NATS/1.0")
	text.expect("A: 1")
	text.expect("")
	text.expect("hi")
	text.write("PUB a.c r 3\r\nyes\r\n")
	require.Equal(t, `a.c r "" yes`, two.message(id))
	text.expect("MSG a.c 7 r 3")
	text.expect("yes")

	two.sendLive(wire.FlagNoEcho, "a.d", "", "", "not to me")
	text.expect("MSG a.d 7 9")
	two.ping()
	two.sendLive(0, "a.d", "", "", "to me")
	require.Equal(t, `a.d  "" to me`, two.message(id))

	require.Zero(t, two.call(wire.OpUnlisten, 0, wire.Unlisten{Subscription: id, Max: 5}.Append).Flags)
	one.sendLive(0, "a.d", "", "", "the fourth")
	one.sendLive(0, "a.d", "", "", "the fifth and last")
	one.sendLive(0, "a.d", "", "", "nobody")
	require.Equal(t, `a.d  "" the fourth`, two.message(id))
	require.Equal(t, `a.d  "" the fifth and last`, two.message(id))
	two.ping()
	two.refused(wire.CodeSubscriptionNotFound, wire.OpUnlisten, 0, wire.Unlisten{Subscription: id}.Append)
	require.Eventually(t, func() bool { return srv.live.Len() == 1 }, waitLimit, time.Millisecond)
}

func TestBinaryRequests(t *testing.T) {
	srv := startServer(t, Options{})
	asker, helper := login(t, srv), login(t, srv)
	inbox := asker.listen("_INBOX.x.*", "")
	asker.sendLive(wire.FlagNoResponders, "help", "_INBOX.x.1", "", "?")
	require.Equal(t, `_INBOX.x.1  ""  nobody`, asker.message(inbox))
	help := helper.listen("help", "crew")
	asker.sendLive(wire.FlagNoResponders, "help", "_INBOX.x.2", "", "?")
	require.Equal(t, `help _INBOX.x.2 "" ?`, helper.message(help))
	helper.sendLive(0, "_INBOX.x.2", "", "", "!")
	require.Equal(t, `_INBOX.x.2  "" !`, asker.message(inbox))

	_, err := srv.registry.Create("jobs", 1, []wire.Setting{{Key: "subjects", Value: "jobs.>"}})
	require.NoError(t, err)
	asker.sendLive(wire.FlagNoResponders, "jobs.eu", "_INBOX.x.3", "", "work")
	require.Equal(t, `_INBOX.x.3  "" {"topic":"jobs","partition":0,"offset":0,"level":"memory"}`, asker.message(inbox))
	values, _ := asker.fetch(wire.Fetch{Handle: asker.resolve("jobs").Handle, MaxBytes: 1000})
	require.Equal(t, []string{"work"}, values)
	srv.registry.Topic("jobs").Partition(0).Topic()
	_, err = srv.registry.Alter("jobs", 0, []wire.Setting{{Key: "max_record_bytes", Value: "20"}})
	require.NoError(t, err)
	asker.sendLive(0, "jobs.eu", "_INBOX.x.4", "", strings.Repeat("x", 100))
	require.Contains(t, asker.message(inbox), `"name":"TOO_LARGE"`)
	asker.refused(wire.CodeTooLarge, wire.OpSend, 0, (&wire.Live{Subject: []byte("jobs.eu"), Payload: make([]byte, 100)}).Append)
}

func TestBadLiveRequests(t *testing.T) {
	srv := startServer(t, Options{MaxSubscriptions: 2})
	p := login(t, srv)
	f := func(code wire.Code, op wire.Op, body func([]byte) []byte) {
		t.Helper()
		p.refused(code, op, 0, body)
	}
	live := func(subject, reply, header string, size int) func([]byte) []byte {
		return (&wire.Live{Subject: []byte(subject), Reply: []byte(reply), Header: []byte(header), Payload: make([]byte, size)}).Append
	}
	f(wire.CodeInvalid, wire.OpSend, live("a.*", "", "", 0))
	f(wire.CodeInvalid, wire.OpSend, live("a b", "", "", 0))
	f(wire.CodeInvalid, wire.OpSend, live("a\r\nPUB b 0", "", "", 0))
	f(wire.CodeInvalid, wire.OpSend, live("a", "b..c", "", 0))
	f(wire.CodeInvalid, wire.OpSend, live("a", "b\r\n", "", 0))
	f(wire.CodeInvalid, wire.OpSend, live("a", "", "no header", 0))
	f(wire.CodeTooLarge, wire.OpSend, live("a", "", "", wire.DefaultMaxRecordBytes+1))
	f(wire.CodeInvalid, wire.OpListen, wire.Listen{Pattern: "a.>.b"}.Append)
	f(wire.CodeInvalid, wire.OpListen, wire.Listen{Pattern: "a", Queue: "b c"}.Append)
	p.listen("a", "")
	p.listen("b", "")
	f(wire.CodeLimit, wire.OpListen, wire.Listen{Pattern: "c"}.Append)
	p.send(wire.OpSend, 0, func(dst []byte) []byte { return append(dst, 1, 0) })
	require.Equal(t, wire.OpSend|wire.OpReply, p.read().Op)
	p.closed()
	alive(t, srv)
	require.Eventually(t, func() bool { return srv.live.Len() == 0 }, waitLimit, time.Millisecond)
}

// Of a queue group of both protocols one gets each message.
func TestQueueGroupsAcrossProtocols(t *testing.T) {
	srv := startServer(t, Options{})
	from, binary, text := login(t, srv), login(t, srv), greetText(t, srv)
	text.write(quietProgram + "SUB jobs crew 1\r\nPING\r\n")
	text.expect("PONG")
	binary.listen("jobs", "crew")
	const n = 400
	for range n {
		from.sendLive(0, "jobs", "", "", "x")
	}
	from.ping()
	got := 0
	for id := binary.send(wire.OpPing, 0, nil); ; got++ {
		if f := binary.read(); f.Correlation == id && f.Op == wire.OpPing|wire.OpReply {
			break
		}
	}
	text.write("PING\r\n")
	other := 0
	for line := text.line(); line != "PONG"; line = text.line() {
		if strings.HasPrefix(line, "MSG") {
			other++
		}
	}
	require.Equal(t, n, got+other)
	require.Greater(t, got, n/4)
	require.Greater(t, other, n/4)
}

// The largest payload on the longest subjects reaches a binary subscriber. As a record it is too large, which the sender
// is told on the reply subject.
func TestTheLargestLiveMessage(t *testing.T) {
	const size = 8387584
	srv := startServer(t, Options{Topics: []wire.Setting{{Key: "max_record_bytes", Value: fmt.Sprint(size)}}})
	require.Equal(t, size, srv.maxPayload)
	p, text := login(t, srv), greetText(t, srv)
	long := strings.Repeat("s", 1900)
	create := wire.CreateTopic{Topic: "orders", Partitions: 1, Settings: []wire.Setting{{Key: "subjects", Value: "orders.>"}}}
	require.Zero(t, p.call(wire.OpCreateTopic, 0, create.Append).Flags)
	id, inbox := p.listen("live.>", ""), p.listen("inbox.>", "")
	payload := strings.Repeat("x", size)
	text.write(quietProgram + fmt.Sprintf("PUB live.%s inbox.%s %d\r\n%s\r\n", long, long, size, payload))
	got := p.message(id)
	require.Greater(t, len(got), wire.MaxFrameBytes)
	require.Equal(t, fmt.Sprintf("live.%s inbox.%s \"\" ", long, long), got[:len(got)-size])
	text.write(fmt.Sprintf("PUB orders.%s inbox.%s %d\r\n%s\r\n", long, long, size, payload))
	require.Contains(t, p.message(inbox), wire.CodeTooLarge.String())
}
