package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
)

// Input that is meant to hurt, each with what becomes of it. Afterwards the broker is as before: play
// sees that no subscription is left and no buffer has grown beyond its bounds.
func TestTextNastyInput(t *testing.T) {
	b := newTextBroker(t, Options{})
	const program = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"
	closes := func(what, reason string, pieces ...string) {
		t.Helper()
		out, closed := b.play(pieces...)
		require.True(t, closed, what)
		if reason != "" {
			reason = "-ERR '" + reason + "'\r\n"
		}
		require.Equal(t, reason, out, what)
	}
	lives := func(what, want string, pieces ...string) {
		t.Helper()
		out, closed := b.play(append(pieces, "PING\r\n")...)
		require.False(t, closed, what)
		require.Equal(t, want+"PONG\r\n", out, what)
	}

	lives("10,000 commands in one write", strings.Repeat("PONG\r\n", 10_000), program+strings.Repeat("PING\r\n", 10_000))
	lives("one byte at a time", "MSG a 1 2\r\nhi\r\n", strings.Split(program+"SUB a 1\r\nPUB a 2\r\nhi\r\n", "")...)

	lineLimit := 4096 + maxVerb
	closes("a line without an end", "maximum control line exceeded", "SUB "+strings.Repeat("x", lineLimit))
	closes("an endless line, in pieces", "maximum control line exceeded", append([]string{"SUB "}, strings.Split(strings.Repeat("x", lineLimit), "")...)...)
	closes("a megabyte of a line", "maximum control line exceeded", "SUB "+strings.Repeat("x", 1<<20)+" 1\r\n")
	closes("endless options", "maximum control line exceeded", "CONNECT {\"name\":\""+strings.Repeat("x", lineLimit))
	lives("carriage returns before the end", "PONG\r\n", program+"PING\r\r\r\n")
	closes("a NUL for a verb", errUnknown, program+"\x00\r\n")
	closes("a byte of no encoding", errUnknown, program+"\xff\xfe PING\r\n")
	closes("a NUL in a verb", errUnknown, program+"PI\x00NG\r\n")
	lives("tabs", "MSG a 1 2\r\nhi\r\n", program+"SUB\ta\t1\r\nPUB\ta\t2\r\nhi\r\n")
	closes("a binary preface behind a command", errUnknown, program+"\xfbRFK\x00\x00\x00\x00\r\n")
	closes("TLS behind a command", errUnknown, program+"\x16\x03\x01\x02\x00\x01\r\n")
	closes("a proxy's header", errUnknown, "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")

	for _, bad := range []string{".a", "a.", "a..b", "a.>.b", ".", "..", ">.>", "a\x00b", "a\x7f"} {
		lives("a subscription to "+bad, "-ERR 'Invalid Subject'\r\n", program+"SUB "+bad+" 1\r\n")
		lives("a message to "+bad, "", program+"SUB > 1\r\nUNSUB 1\r\nPUB "+bad+" 1\r\nx\r\n")
	}
	lives("wildcards to publish to", "MSG a.* 1 1\r\nx\r\n", program+"SUB a.* 1\r\nSUB a.b 2\r\nPUB a.* 1\r\nx\r\n")
	lives("a path for a subject", "", program+"PUB ../../etc/passwd 1\r\nx\r\n")
	lives("subjects of the system", "", program+"PUB $SYS.REQ.SERVER.PING 1\r\nx\r\n")
	lives("a long subject", "MSG "+strings.Repeat("a.", 2000)+"a 1 1\r\nx\r\n", program+"SUB > 1\r\nPUB "+strings.Repeat("a.", 2000)+"a 1\r\nx\r\n")

	lives("a sid a thousand times", "MSG a 1 1\r\nx\r\n", program+strings.Repeat("SUB a 1\r\n", 1000)+"PUB a 1\r\nx\r\n")
	lives("an unknown sid", "", program+"UNSUB 99\r\nUNSUB 99 5\r\n")
	var worst strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&worst, "SUB %s%d 1%d\r\n", strings.Repeat("*.", i%50), i, i)
	}
	lives("a tree of wildcards", "", program+worst.String()+"PUB "+strings.Repeat("x.", 500)+"y 1\r\nx\r\n")

	header := "NATS/1.0\r\n" + strings.Repeat("K: V\r\n", 10_000) + "\r\n"
	size := len(header)
	lives("10,000 headers", fmt.Sprintf("HMSG a 1 %d %d\r\n%s\r\n", size, size, header), program+fmt.Sprintf("SUB a 1\r\nHPUB a %d %d\r\n%s\r\n", size, size, header))
	closes("a header longer than the message", "", program+"HPUB a 9 3\r\nabc\r\n")
	closes("a header of no size", "", program+"HPUB a 3\r\nabc\r\n")
	lives("a header block that is none", "HMSG a 1 3 3\r\nabc\r\n", program+"SUB a 1\r\nHPUB a 3 3\r\nabc\r\n")

	lives("a reply to itself", "MSG a 1 a 1\r\nx\r\n", program+"SUB a 1\r\nPUB a a 1\r\nx\r\n")
	lives("nobody, with a reply that nobody has", "", program+"PUB a b 1\r\nx\r\n")
	require.Zero(t, b.srv.metrics.panics.Load())
	require.NotZero(t, b.srv.metrics.malformed.Load())
}

// What is in one packet with the login is run after it, as who logged in, or not at all.
func TestTextCommandsInThePacketOfTheLogin(t *testing.T) {
	users := auth.Config{Users: []auth.User{
		{Name: "ann", Password: "a", Permissions: &auth.Permissions{Publish: auth.Rule{Allow: []string{"ann.>"}}}},
		{Name: "bob", Password: "b", Permissions: &auth.Permissions{Publish: auth.Rule{Allow: []string{"bob.>"}}}},
	}}
	b := newTextBroker(t, Options{Auth: policy(t, users), RefusalDelay: -1})
	f := func(in, want string, closed bool) {
		t.Helper()
		for _, pieces := range [][]string{{in}, strings.Split(in, "")} {
			out, isClosed := b.play(pieces...)
			require.Equal(t, want, out, "%q", in)
			require.Equal(t, closed, isClosed, "%q", in)
		}
	}
	const ann, bob, wrong = "CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"a\"}\r\n", "CONNECT {\"verbose\":false,\"user\":\"bob\",\"pass\":\"b\"}\r\n", "CONNECT {\"user\":\"ann\",\"pass\":\"x\"}\r\n"
	const refused = "-ERR 'Authorization Violation'\r\n"
	f(wrong+"PUB ann.x 1\r\nx\r\nSUB ann.x 1\r\nTOPICS\r\nPING\r\n", refused, true)
	f("PUB ann.x 1\r\nx\r\n"+ann, refused, true)
	f(ann+"PUB bob.x 1\r\nx\r\nPING\r\n", "-ERR 'Permissions Violation for Publish to \"bob.x\"'\r\nPONG\r\n", false)
	// A second login: what comes behind it is the second user's.
	f(ann+"SUB ann.x 1\r\n"+bob+"PUB bob.x 1\r\nx\r\nPUB ann.x 1\r\nx\r\nPING\r\n", "-ERR 'Permissions Violation for Publish to \"ann.x\"'\r\nPONG\r\n", false)
	f(ann+wrong+"PUB ann.x 1\r\nx\r\n", refused, true)
}
