package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// readers lets everybody publish and subscribe, and do nothing to topics: no input changes what the
// next one finds.
func readers(t testing.TB) *auth.Policy {
	return policy(t, auth.Config{
		Users: []auth.User{{Name: "reader", Permissions: &auth.Permissions{}}}, NoAuthUser: "reader",
	})
}

func policy(t testing.TB, c auth.Config) *auth.Policy {
	p, err := auth.New(c)
	require.NoError(t, err)
	return p
}

// play feeds pieces to a new session, and returns what it wrote and whether it is closed.
func (b *textBroker) play(pieces ...string) (out string, closed bool) {
	b.t.Helper()
	p := b.peer()
	for _, piece := range pieces {
		p.feed(piece)
		t, ok := p.s.proto.(*text)
		if !ok {
			continue
		}
		b.until(func() bool { return !p.s.backlog.paused || p.m.closed }, "the end of a pause")
		require.LessOrEqual(b.t, len(t.part), p.s.loop.srv.opts.MaxControlLine+maxVerb+2+wire.DefaultMaxRecordBytes)
		require.LessOrEqual(b.t, len(p.s.backlog.bytes), maxBacklog)
	}
	out, closed = p.take(), p.m.closed
	p.end()
	b.until(func() bool { return b.srv.live.Len() == 0 }, "no subscription is left")
	return out, closed
}

// Every rule of the parser, whole and cut at every byte.
func TestTextParserRules(t *testing.T) {
	b := newTextBroker(t, Options{Auth: readers(t)})
	const program = `CONNECT {"verbose":false,"headers":true,"no_responders":true}` + "\r\n"
	f := func(in, want string, closed bool) {
		t.Helper()
		out, isClosed := b.play(in)
		require.Equal(t, want, out, "%q", in)
		require.Equal(t, closed, isClosed, "%q", in)
		if len(in) > 300 {
			return
		}
		for i := 1; i < len(in); i++ {
			out, isClosed := b.play(in[:i], in[i:])
			require.Equal(t, want, out, "%q cut at %d", in, i)
			require.Equal(t, closed, isClosed, "%q cut at %d", in, i)
		}
		out, isClosed = b.play(strings.Split(in, "")...)
		require.Equal(t, want, out, "%q byte by byte", in)
		require.Equal(t, closed, isClosed, "%q byte by byte", in)
	}
	lives := func(in, want string) { t.Helper(); f(in, want, false) }
	closes := func(in, reason string) { t.Helper(); f(in, "-ERR '"+reason+"'\r\n", true) }

	// Verbs in any case, blanks anywhere, the carriage return is optional.
	lives("PING\r\n", "PONG\r\n")
	lives("ping\n", "PONG\r\n")
	lives("pInG\t \r  \n", "PONG\r\n")
	lives("PING\r\nPING\r\n\r\n\nPING\r\n", "PONG\r\nPONG\r\nPONG\r\n")
	lives("PONG\r\nPING\r\n", "PONG\r\n")
	lives("PONG  \r  \nPING x\r\nPONG x\r\nPING\r\n", "PONG\r\nPONG\r\n")
	lives("PING\r\n+OK\r\n+ok x\r\nINFO {}\r\nINFO {\"x\":1}\r\nPING\r\n", "PONG\r\nPONG\r\n")
	lives("+OK\r\nPING\r\n", "PONG\r\n")
	lives("\r\n\nPING\r\n", "PONG\r\n") // a person presses return first
	lives(" \tPING\r\n", "PONG\r\n")

	// What telnet makes of a file whose lines end with CR LF.
	lives("PING\r\x00\r\n\r\x00\r\nping \r\x00\r\x00\n", "PONG\r\nPONG\r\n")
	lives("SUB foo 1\r\x00\r\nPUB foo 2\r\x00\r\nhi\r\x00\r\nPUB foo 2\r\x00\nho\r\x00\n",
		"+OK\r\n+OK\r\nMSG foo 1 2\r\nhi\r\n+OK\r\nMSG foo 1 2\r\nho\r\n")
	lives("SUB foo 1\r\nPUB foo 4\r\nhi\r\x00\r\n", "+OK\r\n+OK\r\nMSG foo 1 4\r\nhi\r\x00\r\n")
	lives("CONNECT {}\r\x00\r\n", "+OK\r\n")
	lives(program+"HELP me\r\nPING\r\x00\r\n", "-ERR 'usage: HELP'\r\nPONG\r\n")
	closes("PUB foo 2\r\nhi\r\x00x\r\n", errUnknown)
	closes("PUB foo 2\r\nhi\r\x00\r\x00\r\n", errUnknown)
	closes("PING\x00\r\n", errUnknown)
	closes(program+"PUB foo 2\r\nhi\r\x00\r\n", errUnknown)

	// Before CONNECT the session is verbose and pedantic.
	lives("SUB foo 1\r\nPUB foo 2\r\nhi\r\n", "+OK\r\n+OK\r\nMSG foo 1 2\r\nhi\r\n")
	lives("sub foo bar 1\r\npub foo inbox 2\nhi\n", "+OK\r\n+OK\r\nMSG foo 1 inbox 2\r\nhi\r\n")
	lives("PUB foo..bar 0\r\n\r\n", "-ERR 'Invalid Publish Subject'\r\n+OK\r\n")
	lives("PUB foo.* 0\r\n\r\nPING\r\n", "-ERR 'Invalid Publish Subject'\r\n+OK\r\nPONG\r\n")
	lives("CONNECT {}\r\n", "+OK\r\n")
	lives("CONNECT{\"verbose\":false}\r\nINFO{}\r\nSUB foo{ {\r\nPUB foo{ 0\r\n\r\nPING\r\n", "MSG foo{ { 0\r\n\r\nPONG\r\n")
	lives(program+"SUB foo.* 1\r\nPUB foo.* 1\r\nx\r\nPING\r\n", "-ERR 'Invalid Publish Subject'\r\nMSG foo.* 1 1\r\nx\r\nPONG\r\n")
	lives(`CONNECT {"verbose":false,"pedantic":false}`+"\r\nSUB foo.x 1\r\nPUB foo.* 1\r\nx\r\nPUB foo..x 1\r\nx\r\nPING\r\n", "PONG\r\n")
	lives(`connect {"verbose":false,"echo":false}`+"\r\nSUB foo 1\r\nPUB foo 0\r\n\r\nPING\r\n", "PONG\r\n")
	lives(program+program+"PING\r\n", "PONG\r\n")
	lives(`CONNECT {"VERBOSE":false}`+"\r\nCONNECT   {\"lang\":7,\"other\":[{}]} \r\nPING\r\n", "PONG\r\n")

	// CONNECT again changes what it says and nothing else, and begins without subscriptions.
	lives(program+"CONNECT {\"verbose\":true}\r\nCONNECT {}\r\n", "+OK\r\n+OK\r\n")
	lives(program+"CONNECT {}\r\nSUB in 1\r\nPUB a in 0\r\n\r\n", "HMSG in 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n")
	lives(program+"CONNECT {\"echo\":false}\r\nCONNECT {\"verbose\":null}\r\nSUB a 1\r\nPUB a 0\r\n\r\n", "")
	lives(program+"SUB a 1\r\nCONNECT {}\r\nPUB a 0\r\n\r\nSUB a 1\r\nPUB a 1\r\nx\r\n", "MSG a 1 1\r\nx\r\n")
	lives("SUB a 1\r\n"+program+"PUB a 1\r\nx\r\n", "+OK\r\nMSG a 1 1\r\nx\r\n")
	closes(program+"CONNECT {\"headers\":false}\r\n", "no responders requires headers support")

	// Subscriptions.
	lives("SUB foo 1\r\nSUB bar 1\r\nPUB bar 0\r\n\r\n", "+OK\r\n+OK\r\n+OK\r\n") // a sid that exists is ignored
	lives("SUB foo 1\r\nSUB foo. 1\r\nPUB foo 0\r\n\r\n", "+OK\r\n+OK\r\n+OK\r\nMSG foo 1 0\r\n\r\n")
	lives("SUB foo. 1\r\nPING\r\n", "-ERR 'Invalid Subject'\r\nPONG\r\n")
	lives("SUB foo.>.x 1\r\nPING\r\n", "-ERR 'Invalid Subject'\r\nPONG\r\n")
	lives("UNSUB 1\r\n", "+OK\r\n")
	lives(program+"SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n", "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n")
	lives(program+"SUB a 1\r\nPUB a 1\r\n1\r\nUNSUB 1 1\r\nPUB a 1\r\n2\r\n", "MSG a 1 1\r\n1\r\n")
	lives(program+"SUB a 1\r\nUNSUB 1\r\nPUB a 1\r\n1\r\n", "")
	for _, limit := range []string{"0", "x", "-1", "99999999999999"} { // at once
		lives(program+"SUB a 1\r\nUNSUB 1 "+limit+"\r\nPUB a 1\r\n1\r\nPING\r\n", "PONG\r\n")
	}
	lives(program+"SUB a 1\r\nUNSUB 1 5\r\nPUB a 1\r\n1\r\nUNSUB 1\r\nPUB a 1\r\n2\r\n", "MSG a 1 1\r\n1\r\n")
	lives(program+"SUB a 1\r\nUNSUB 1 5\r\nPUB a 1\r\n1\r\nUNSUB 1 1\r\nPUB a 1\r\n2\r\n", "MSG a 1 1\r\n1\r\n")
	lives(program+"SUB a 1\r\nUNSUB 1 1\r\nPUB a 1\r\n1\r\nSUB a 1\r\nPUB a 1\r\n2\r\n", "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n")
	lives(program+"SUB a*.>b 1\r\nPUB a*.>b 1\r\nx\r\nPUB aa.b 1\r\nx\r\n", "MSG a*.>b 1 1\r\nx\r\n")
	lives(program+"SUB a q 1\r\nPUB a 1\r\n1\r\n", "MSG a 1 1\r\n1\r\n")

	// Headers.
	lives(program+"SUB a 1\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
	lives(program+"SUB a 1\r\nHPUB a r 0 2\r\nhi\r\n", "MSG a 1 r 2\r\nhi\r\n")
	lives("SUB a 1\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "+OK\r\n+OK\r\nHMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
	closes("HPUB a 3 2\r\n", "usage: HPUB subject [reply] header-bytes all-bytes")
	closes(`CONNECT {"verbose":false}`+"\r\nHPUB a 0 0\r\n\r\n", "message headers not supported")

	// Requests that nobody gets.
	lives(program+"SUB in 1\r\nPUB a in 0\r\n\r\n", "HMSG in 1 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n")
	lives(program+"PUB a in 0\r\n\r\nPING\r\n", "PONG\r\n")
	lives(`CONNECT {"verbose":false}`+"\r\nSUB in 1\r\nPUB a in 0\r\n\r\nPING\r\n", "PONG\r\n")

	// What ends the connection.
	closes("Px\r\n", errUnknown)
	closes("PUBS foo 2\r\nok\r\n", errUnknown)
	closes("PUBLISH foo 2\r\n", errUnknown)
	closes("SUBSCRIBE foo\r\n", errUnknown)
	closes("COMMIT_ a\r\n", errUnknown)
	closes("PINGPINGPINGPINGPINGPING\r\n", errUnknown)
	closes("UNSUB\r\n", "usage: UNSUB sid [max]")
	closes("UNSUB 1 2 3\r\n", "usage: UNSUB sid [max]")
	closes("UNSUB 1 x\r\n", "usage: UNSUB sid [max]")
	closes("SUB foo\r\n", "usage: SUB subject [queue] sid")
	closes("SUB a b c d\r\n", "usage: SUB subject [queue] sid")
	for _, verb := range []string{"SUB", "UNSUB", "PUB", "HPUB", "INFO", "-ERR"} {
		closes(program+verb+"\r\nPING\r\n", errUnknown)
	}
	for _, line := range []string{"SUB foo", "SUB a b c d", "UNSUB 1 2 3", "PUB foo", "HPUB foo 5", "HPUB a b c 1 2", "HPUB a -1 5", "INFO x", "-ERR 'x'"} {
		f(program+line+"\r\nPING\r\n", "", true) // a program is not told
	}
	for _, options := range []string{`"account":"x"`, `"new_account":true`} { // there are no accounts
		closes("CONNECT {"+options+"}\r\nPING\r\n", errAuth)
	}
	closes("CONNECT {\"protocol\":-1}\r\n", "invalid client protocol")
	for _, options := range []string{"[]", "{}{}", `{"user":5}`, "x"} {
		closes("CONNECT "+options+"\r\nPING\r\n", "Invalid Connect Options")
	}
	lives("CONNECT null\r\nPING\r\n", "+OK\r\nPONG\r\n")
	closes("CONNECT \r\n", "Invalid Connect Options")
	closes("CONNECT {\r\n", "Invalid Connect Options")
	closes("CONNECT {\"verbose\":3}\r\n", "Invalid Connect Options")
	closes("CONNECT {\"protocol\":2}\r\n", "invalid client protocol")
	closes("CONNECT {\"no_responders\":true}\r\n", "no responders requires headers support")
	closes("PUB foo\r\n", "usage: PUB subject [reply] bytes")
	closes("PUB foo bar\r\n", "usage: PUB subject [reply] bytes")
	closes("PUB a b c 1\r\n", "usage: PUB subject [reply] bytes")
	for _, size := range []string{"-1", "+5", "5e3", "0x10", "99999999999999999999", "0000000000000000005", "５", "1.0", "1_0", "9999999999"} {
		closes("PUB a "+size+"\r\n", "usage: PUB subject [reply] bytes")
	}
	closes("PUB a 1048577\r\n", "Maximum Payload Violation")
	closes("HPUB a 12 1048577\r\n", "Maximum Payload Violation")
	closes(program+"PUB foo 2\r\nok \r\n", errUnknown)
	closes(program+"PUB foo 2\r\nok\r \n", errUnknown)
	closes(program+"PUB foo 2\r\nok\n", errUnknown)
	closes(program+"PUB foo 3\r\nok\r\n\r\n", errUnknown)

	closes(program+" PING\r\n", errUnknown)
	closes(program+"\r\n", errUnknown)
	lives("PING\r\n PING\r\n", "PONG\r\nPONG\r\n") // a person may

	// Long lines: as long as the arguments may be, and one byte more.
	long := strings.Repeat("x", 4096-len(" 1"))
	lives("SUB "+long+" 1\r\nPING\r\n", "+OK\r\nPONG\r\n")
	closes("SUB x"+long+" 1\r\nPING\r\n", errLongLine)
	lives(program+"PUB "+long+" 1\r\nx\r\nPING\r\n", "PONG\r\n")
	closes(program+"PUB x"+long+" 1\r\nx\r\nPING\r\n", errLongLine)
	closes(program+"pub x"+long+" 1\r\nx\r\nPING\r\n", errLongLine)
	closes("CONNECT {\"name\":\""+long+"\"}\r\n", errLongLine)
	closes(strings.Repeat("x", 4096+maxVerb+1), "maximum control line exceeded")
	closes("P"+strings.Repeat(" ", 1<<20), "maximum control line exceeded")
}

// A payload is never run as commands, whatever its length says.
func TestTextSmuggling(t *testing.T) {
	b := newTextBroker(t, Options{Auth: readers(t)})
	const sub = "CONNECT {\"verbose\":false}\r\nSUB > 1\r\n"
	f := func(in, want string) {
		t.Helper()
		for _, pieces := range [][]string{{sub + in}, {sub, in}, strings.Split(sub+in, "")} {
			out, _ := b.play(pieces...)
			require.Equal(t, want, out, "%q", in)
		}
	}
	inner := "\r\nPUB admin 1\r\nx"
	f(fmt.Sprintf("PUB a %d\r\n%s\r\nPING\r\n", len(inner), inner), fmt.Sprintf("MSG a 1 %d\r\n%s\r\nPONG\r\n", len(inner), inner))
	f("PUB a 5\r\nhelloXX\r\nPUB admin 1\r\nx\r\n", "-ERR '"+errUnknown+"'\r\n")
	f("PUB a 3\r\nhello\r\nPUB admin 1\r\nx\r\n", "-ERR '"+errUnknown+"'\r\n")
	f("PUB a 9\r\nhello\r\nPUB admin 1\r\nx\r\n", "-ERR '"+errUnknown+"'\r\n")
	f("PUB a -1\r\nPUB admin 1\r\nx\r\n", "")
	f("PUB a 2000000\r\nPUB admin 1\r\nx\r\n", "-ERR 'Maximum Payload Violation'\r\n")
	f("PUB a\x00b 1\r\nx\r\nPING\r\n", "-ERR 'Invalid Publish Subject'\r\nMSG a\x00b 1 1\r\nx\r\nPONG\r\n")
}

func TestTextRefusesHTTP(t *testing.T) {
	b := newTextBroker(t, Options{Auth: readers(t)})
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nPUB admin 1\r\nx\r\n",
	} {
		out, closed := b.play(request)
		require.True(t, closed)
		require.Regexp(t, `^HTTP/1.1 400 Bad Request\r\n(.*\r\n)*\r\nThis port is for Rafka and NATS clients\.\n$`, out)
	}
}

func FuzzTextSplit(f *testing.F) {
	for _, seed := range []string{
		"PING\r\n", "SUB foo 1\r\nPUB foo 2\r\nhi\r\n", "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
		"CONNECT {\"verbose\":false}\r\nSUB a 1\r\nUNSUB 1 1\r\nPUB a r 0\r\n\r\nPUB a 0\r\n\r\n",
		"TOPICS\nTOPIC x\nFETCH x/0@0\nLEASE x q\nACK x/0@0 q\nCOMMIT x/0 1 g\nGROUPS\nSTATS\nHELP\nnonsense\nQUIT\n",
		"PUB a 5\r\nhelloXX\r\n", "PUB a 99999999999\r\n", "GET / HTTP/1.0\r\n\r\n", "\r\n\n\r\n", "SUB a.b.> 1\nPUB a.b.c 1\nx\n",
	} {
		for _, cut := range []uint16{0, 1, 7, 20} {
			f.Add([]byte(seed), cut)
		}
	}
	b := newTextBroker(f, Options{Auth: readers(f)})
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		b.t = t
		if len(in) == 0 || !isTextStart(in[0]) || strings.Contains(strings.ToUpper(string(in)), "SUB") && strings.Count(string(in), "q") > 0 {
			return // the member of a queue group is drawn by lot
		}
		at := min(int(cut), len(in))
		out, closed := b.play(string(in))
		cutOut, cutClosed := b.play(string(in[:at]), string(in[at:]))
		require.Equal(t, out, cutOut)
		require.Equal(t, closed, cutClosed)
		if len(in) < 200 {
			slowOut, slowClosed := b.play(strings.Split(string(in), "")...)
			require.Equal(t, out, slowOut)
			require.Equal(t, closed, slowClosed)
		}
	})
}

// A program that begins a line with what can be no command is cut off before the line ends.
func TestTextHopelessLines(t *testing.T) {
	b := newTextBroker(t, Options{})
	f := func(in, want string, closed bool) {
		t.Helper()
		for _, pieces := range [][]string{{in}, strings.Split(in, "")} {
			out, isClosed := b.play(append([]string{"CONNECT {\"verbose\":false}\r\n"}, pieces...)...)
			require.Equal(t, want, out, "%q", pieces)
			require.Equal(t, closed, isClosed, "%q", pieces)
		}
	}
	const unknown = "-ERR 'Unknown Protocol Operation'\r\n"
	f("ZZZ", unknown, true)
	f("PUBX", unknown, true)
	f("PUT ", unknown, true)
	f("pub", "", false)
	f("Fetch orders", "", false)
	f("+O", "", false)
	f(" ", "", false)
	out, closed := b.play("ZZZ")
	require.Empty(t, out, "a person may go on typing")
	require.False(t, closed)
}

// What the quick way understands, the other way understands alike.
func FuzzQuickPublish(f *testing.F) {
	for _, seed := range []string{
		"PUB a 5\r\nhello\r\n", "PUB a.b reply 12\r\n", "PUB a 5 \r\n", "PUB a  5\r\n", "PUB\ta 5\r\n", "PUB a 5\n", "PUB a b c 5\r\n",
		"PUB a 0000000005\r\n", "PUB a -1\r\n", "pub a 5\r\n", "PUB a\x01b 5\r\n", "PUB a 5\r\r\n", "PUB  5\r\n", "PUB ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var got, want publishLine
		line, ok := got.quick(in)
		if !ok {
			return
		}
		require.Equal(t, lineEnd(in)+1, line)
		verb, args := cutVerb(in[:line-1])
		require.Equal(t, "PUB", string(verb))
		require.True(t, want.parse(args, false))
		require.Equal(t, want, got)
	})
}

func TestQuickPublishIsTaken(t *testing.T) {
	f := func(in string, want bool) {
		t.Helper()
		_, ok := new(publishLine).quick([]byte(in))
		require.Equal(t, want, ok, "%q", in)
	}
	f("PUB orders.eu 128\r\n", true)
	f("PUB orders.eu _INBOX.x 128\r\nxx", true)
	f("PUB orders.eu 128\n", false)
	f("PUB orders.eu 12", false)
}
