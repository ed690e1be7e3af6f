package server

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// memorySink keeps what a session writes.
type memorySink struct {
	sink
	b []byte
}

func (s *memorySink) Write(b []byte) (int, error) {
	s.b = append(s.b, b...)
	return len(b), nil
}

func (s *memorySink) Writev(bs [][]byte) (int, error) {
	n := 0
	for _, b := range bs {
		s.b = append(s.b, b...)
		n += len(b)
	}
	return n, nil
}

// answers returns what every correlation id was answered.
func (s *memorySink) answers(t *testing.T) map[uint32]string {
	t.Helper()
	got := map[uint32]string{}
	for len(s.b) > 0 {
		f, rest, _, ok, err := wire.NextFrame(s.b, wire.MaxFrameBytes)
		require.NoError(t, err)
		require.True(t, ok)
		s.b = rest
		if f.Op != wire.OpPublish|wire.OpReply || f.Flags&wire.FlagError != 0 {
			got[f.Correlation] = fmt.Sprintf("%s %x %q", f.Op, uint8(f.Flags), f.Body)
			continue
		}
		var m wire.PublishReply
		require.NoError(t, m.Parse(f.Body, f.Flags))
		for i := range m.Extra + 1 {
			require.NotContains(t, got, f.Correlation+i, "answered twice")
			got[f.Correlation+i] = fmt.Sprintf("stored, level %d", f.Flags&wire.FlagLevel)
		}
		got[f.Correlation] += fmt.Sprintf(" at %d", m.Base)
	}
	return got
}

// loggedIn adds a session with handles 0 and 1 for the topics.
func (b *bench) loggedIn(t *testing.T, id uint64, topics ...string) (*session, *memorySink) {
	t.Helper()
	s, out := newSession(b.l, id), &memorySink{}
	b.l.srv.connections.Add(1)
	s.open(out, b.now)
	hello := wire.Hello{}
	talk := append(wire.AppendPreface(nil), request1(wire.OpHello, 0, 1, hello.Append)...)
	for i, topic := range topics {
		resolve := wire.Resolve{Topic: topic}
		talk = append(talk, request1(wire.OpResolve, wire.FlagCreate, uint32(2+i), resolve.Append)...)
	}
	s.receive(talk, b.now)
	b.l.drain(b.now)
	require.Eventually(t, func() bool { // creating a topic is a worker's job
		b.l.drain(b.now)
		return s.proto.(*binary).topics != nil && len(s.proto.(*binary).topics) == len(topics)
	}, waitLimit, time.Millisecond)
	out.b = nil
	return s, out
}

// TestPublishesThatComeTogetherAreServedAsOneByOne sends the same mix of good and bad publishes at
// once and frame by frame.
func TestPublishesThatComeTogetherAreServedAsOneByOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	long := strings.Repeat("long", 50)
	damaged, damagedLong := batchOf("damaged"), batchOf(long)
	damaged[len(damaged)-1] ^= 1
	damagedLong[len(damagedLong)-1] ^= 1
	var large wire.BatchBuilder
	large.Add(wire.Record{Value: make([]byte, 2<<20)})
	batches := [][]byte{
		batchOf("one"), batchOf("two", "three"), batchOf("x"), batchOf(long), batchOf(long, "x"),
		damaged, damagedLong, large.Bytes(),
	}
	var frames [][]byte
	id := uint32(100)
	for range 3000 {
		batch := batches[0]
		switch n := rng.IntN(100); {
		case n < 30:
			batch = batches[1+rng.IntN(4)]
		case n < 32:
			batch = batches[5+rng.IntN(3)]
		}
		flags, handle, part := wire.Flags(0), uint16(0), uint16(0)
		switch rng.IntN(60) {
		case 0:
			flags = wire.Flags(wire.LevelMemory)
		case 1:
			flags = 0x40 // unknown
		case 2:
			handle = 1
		case 3:
			handle = 9
		case 4:
			part = 3
		case 5:
			id += 7
		}
		frames = append(frames, request1(wire.OpPublish, flags, id, publishBody(handle, part, batch)))
		id++
	}
	run := func(together bool) (answers map[uint32]string, stored [2]uint64) {
		b, srv := newBench(t, Options{})
		s, out := b.loggedIn(t, 2, "orders", "other")
		var turn []byte
		for i, f := range frames {
			if turn = append(turn, f...); together && len(turn) < 64<<10 && i+1 < len(frames) {
				continue
			}
			s.receive(turn, b.now)
			b.l.endTurn(b.now)
			turn = turn[:0]
		}
		for i, topic := range []string{"orders", "other"} {
			stored[i] = srv.registry.Topic(topic).Partition(0).Next()
		}
		require.Equal(t, stored[0]+stored[1], srv.metrics.published.messages.Load())
		require.Equal(t, uint64(len(frames)), srv.metrics.requests[wire.OpPublish].Load())
		return out.answers(t), stored
	}
	oneByOne, want := run(false)
	together, got := run(true)
	require.Equal(t, want, got)
	require.Len(t, together, len(frames))
	for id, answer := range together { // a range tells the offset of its first publish only
		require.Contains(t, oneByOne[id], answer, "publish %d", id)
	}
}

// The id of the last publish before it wraps around must not count into the target of the one behind it.
func TestARunEndsWhereTheCorrelationIDWrapsAround(t *testing.T) {
	for _, handle := range []uint16{0, 1} {
		b, srv := newBench(t, Options{})
		s, out := b.loggedIn(t, 2, "orders", "other")
		var turn []byte
		for i := range 10 {
			at := uint16(0)
			if i >= 5 {
				at = handle
			}
			turn = append(turn, request1(wire.OpPublish, 0, math.MaxUint32-4+uint32(i), publishBody(at, 0, batchOf("x")))...)
		}
		s.receive(turn, b.now)
		b.l.endTurn(b.now)
		require.Equal(t, uint64(10-5*handle), srv.registry.Topic("orders").Partition(0).Next())
		require.Equal(t, uint64(5*handle), srv.registry.Topic("other").Partition(0).Next())
		require.Len(t, out.answers(t), 10)
	}
}

// What one connection may do is not left to the next on the same loop.
func TestARunEndsWithItsConnection(t *testing.T) {
	b, srv := newBench(t, Options{})
	first, _ := b.loggedIn(t, 2, "orders")
	second, out := b.loggedIn(t, 3, "other")
	frame := func(id uint32) []byte { return request1(wire.OpPublish, 0, id, publishBody(0, 0, batchOf("x"))) }
	whole := frame(10)
	for _, part := range [][]byte{whole[:7], whole[7:]} {
		first.receive(part, b.now)
	}
	second.receive(append(request1(wire.OpPing, 0, 10, nil), frame(11)...), b.now)
	second.receive(frame(12), b.now)
	b.l.endTurn(b.now)
	require.Equal(t, uint64(1), srv.registry.Topic("orders").Partition(0).Next())
	require.Equal(t, uint64(2), srv.registry.Topic("other").Partition(0).Next())
	require.Len(t, out.answers(t), 3)
}
