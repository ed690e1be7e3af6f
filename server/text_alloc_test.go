package server

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// newTextBench is a program's session that is fed without a socket.
func newTextBench(tb testing.TB, o Options) *bench {
	o.Listen = off
	srv := startServer(tb, o)
	l := newLoop(srv)
	l.ring = func() {}
	b := &bench{l: l, s: newSession(l, 1), now: time.Now()}
	srv.connections.Add(1)
	b.s.open(&sink{}, b.now)
	tb.Cleanup(func() { b.s.ended(b.now) })
	b.feed([]byte(quietProgram + "SUB live.orders 1\r\n"))
	_, err := srv.registry.Create("stored", 1, nil)
	require.NoError(tb, err)
	return b
}

func TestTextPublishAllocatesNothing(t *testing.T) {
	b := newTextBench(t, Options{})
	f := func(in string) {
		t.Helper()
		b.feed([]byte(in))
		input := []byte(in)
		n := allocations(100, func() { b.feed(input) })
		if !raceEnabled {
			require.Zero(t, n, "%q", in)
		}
	}
	f("PUB live.orders 5\r\nhello\r\n")
	f("PUB live.orders reply 5\r\nhello\r\n")
	f("PUB nobody 5\r\nhello\r\n")
	f("HPUB live.orders 12 17\r\nNATS/1.0\r\n\r\nhello\r\n")
	f("PING\r\n")
	f("PUB stored 5\r\nhello\r\n")
}

// A large message that comes in pieces is put together in memory that is there from the one before.
func TestLargeMessagesInPiecesReuseMemory(t *testing.T) {
	b := newTextBench(t, Options{})
	message := []byte("PUB nobody 1000000\r\n" + strings.Repeat("x", 1_000_000) + "\r\n")
	send := func() {
		for rest := message; len(rest) > 0; {
			n := min(len(rest), 300_000)
			b.feed(rest[:n])
			rest = rest[n:]
		}
	}
	send()
	require.NotZero(t, cap(b.l.large))
	n := allocations(20, send)
	if !raceEnabled {
		require.Zero(t, n)
	}
	b.feed([]byte("PUB nobody 1048576\r\n" + strings.Repeat("x", 1<<20)))
	b.feed([]byte("\r\n"))
	require.LessOrEqual(t, cap(b.l.large), maxLarge)
	require.Greater(t, cap(b.l.large), 1<<20)
}

// The price of live subscriptions for those who publish to topics: nothing while there are none, a
// look at a map while none matches.
func BenchmarkTextPublish(b *testing.B) {
	f := func(name, in string) {
		b.Run(name, func(b *testing.B) {
			t := newTextBench(b, Options{})
			var batch []byte
			for range 64 {
				batch = append(batch, in...)
			}
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				t.feed(batch)
			}
		})
	}
	f("live, 64 messages", "PUB live.orders 16\r\n0123456789abcdef\r\n")
	f("nobody, 64 messages", "PUB nobody 16\r\n0123456789abcdef\r\n")
	f("topic, 64 messages", "PUB stored 16\r\n0123456789abcdef\r\n")
}

func BenchmarkRouteBatchWithoutInterest(b *testing.B) {
	t := newTextBench(b, Options{})
	topic := t.l.srv.registry.Topic("stored")
	var builder wire.BatchBuilder
	builder.Add(wire.Record{Value: []byte("x")})
	batch, err := wire.ParseBatch(builder.Bytes())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		t.l.routeBatch(topic, &batch)
	}
}
