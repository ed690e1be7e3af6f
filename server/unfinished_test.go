package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// Who announces a large frame and sends only its start makes the broker keep about that much.
func TestAnAnnouncedFrameReservesNothing(t *testing.T) {
	b, srv := newBench(t, Options{})
	frame := request1(wire.OpPing, 0, 7, func(dst []byte) []byte { return append(dst, make([]byte, wire.MaxFrameBytes-wire.HeaderBytes)...) })
	part := func() int { return cap(b.s.proto.(*binary).part) }
	b.feed(frame[:5])
	require.Less(t, part(), 2*leastRoom, "buffers of the pool may be larger, but less than twice as large")
	require.EqualValues(t, part(), srv.unfinished.Load())
	sent := 5
	for _, upTo := range []int{20 << 10, 100 << 10, 700_000, 3_000_000, len(frame) - 1} {
		b.feed(frame[sent:upTo])
		sent = upTo
		require.Less(t, part(), max(2*leastRoom, 16*sent), "four times what is there, in a buffer of up to four times that")
		require.EqualValues(t, part(), srv.unfinished.Load())
	}
	out := b.s.t.(*sink)
	before := out.bytes
	b.feed(frame[sent:])
	require.Zero(t, srv.unfinished.Load())
	require.Equal(t, len(frame), out.bytes-before, "the ping was answered")
}

func TestAnAnnouncedPayloadReservesNothing(t *testing.T) {
	b := newTextBroker(t, Options{})
	p := b.peer()
	payload := strings.Repeat("x", 1<<20)
	p.feed(fmt.Sprintf("PUB a %d\r\n", len(payload)))
	part := func() int { return cap(p.s.proto.(*text).part) }
	require.LessOrEqual(t, part(), 2*leastRoom)
	p.feed(payload[:100_000])
	require.LessOrEqual(t, part(), 2*400_000)
	require.EqualValues(t, part(), b.srv.unfinished.Load())
	p.feed(payload[100_000:] + "\r\n")
	require.Zero(t, b.srv.unfinished.Load())
	require.Equal(t, "+OK\r\n", p.take())
	p.feed("PUB a 1048576\r\n" + payload[:100_000])
	require.NotZero(t, b.srv.unfinished.Load())
	p.end()
	require.Zero(t, b.srv.unfinished.Load())
}

// When what has not arrived whole takes too much memory, those go that are slow. The others stay.
func TestTheUnfinishedInputOfAllIsBounded(t *testing.T) {
	b := newTextBroker(t, Options{MaxUnreadBytes: 3 << 19, HandshakeTimeout: time.Hour})
	half := "PUB a 1048576\r\n" + strings.Repeat("x", 600_000)
	sweep := func() {
		b.clock.Add(700)
		for _, l := range b.loops {
			l.sweep(b.now())
			l.endTurn(b.now())
		}
	}
	slow := b.program()
	slow.feed(half)
	for range 6 {
		sweep()
		slow.feed("x")
	}
	require.False(t, slow.m.closed, "there is room")
	fast := b.program()
	fast.feed(half)
	sweep()
	require.True(t, slow.m.closed)
	require.Equal(t, "-ERR 'Stale Connection'\r\n", slow.take())
	slow.end()
	for range 6 {
		sweep()
	}
	require.False(t, fast.m.closed, "there is room again")
}
