package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// gateFS holds up flushes of the commit log until the gate it was given is closed.
type gateFS struct {
	log.FS
	gate atomic.Pointer[chan struct{}]
	held chan struct{} // when not nil: gets a value for every flush that is held up
}

func (g *gateFS) Open(name string, write, create bool) (log.File, error) {
	f, err := g.FS.Open(name, write, create)
	if !strings.Contains(name, "/commit/") {
		return f, err
	}
	return gateFile{f, g}, err
}

type gateFile struct {
	log.File
	fs *gateFS
}

func (f gateFile) Sync() error {
	if gate := f.fs.gate.Load(); gate != nil {
		select {
		case f.fs.held <- struct{}{}:
		default:
		}
		<-*gate
	}
	return f.File.Sync()
}

// durableBench is a bench whose topic is on disk, and whose loop knows that nobody else waits. woken is
// rung when the loop is to drain.
func durableBench(t *testing.T) (b *bench, got *memorySink, g *gateFS, woken chan struct{}) {
	g = &gateFS{FS: log.OS}
	b, _ = newBench(t, Options{Dir: t.TempDir(), FS: g, Topics: []wire.Setting{{Key: "durability", Value: "disk"}}})
	woken = make(chan struct{}, 1)
	b.l.ring = func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	b.l.awaited = func() bool { return false }
	b.s, got = b.loggedIn(t, 2, "orders")
	return b, got, g, woken
}

func (b *bench) publishOne(i int) {
	b.feed(request1(wire.OpPublish, 0, uint32(100+i), publishBody(0, 0, batchOf(fmt.Sprint(i)))))
}

// settle drains the loop until every acknowledgement is out.
func (b *bench) settle(t *testing.T, woken chan struct{}) {
	t.Helper()
	for b.l.pending > 0 {
		select {
		case <-woken:
			b.l.drain(b.now)
		case <-time.After(10 * time.Second):
			t.Fatal("no acknowledgement")
		}
	}
}

// shut holds flushes up until the function it returns is called.
func (g *gateFS) shut() (open func()) {
	gate := make(chan struct{})
	g.gate.Store(&gate)
	return func() {
		g.gate.Store(nil)
		close(gate)
	}
}

// The only connection that is active has its publish acknowledged in the turn that brought it, unless the
// flusher is not yet done with the round before.
func TestTheLoopWaitsForTheDeviceOfItsOnlyConnection(t *testing.T) {
	b, got, _, woken := durableBench(t)
	for i := range soloTurns {
		b.publishOne(i)
		b.settle(t, woken)
	}
	const turns = 40
	within := 0
	for i := range turns {
		b.l.solo = soloTurns // however slow the machine is
		got.b = nil
		b.publishOne(soloTurns + i)
		if b.l.pending == 0 {
			within++
		}
		b.settle(t, woken)
		f, _, _, ok, err := wire.NextFrame(got.b, wire.MaxFrameBytes)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, uint32(100+soloTurns+i), f.Correlation)
		require.Equal(t, wire.OpPublish|wire.OpReply, f.Op)
	}
	require.Greater(t, within, turns/2)
}

// Whoever else is there does not wait for the device.
func TestTheLoopDoesNotWaitForTheDeviceBesideOthers(t *testing.T) {
	for name, others := range map[string]func(b *bench, t *testing.T){
		"it was not alone for long": func(b *bench, _ *testing.T) { b.l.solo = soloTurns - 2 },
		"another one has sent":      func(b *bench, _ *testing.T) { b.l.awaited = func() bool { return true } },
		"nobody knows who has sent": func(b *bench, _ *testing.T) { b.l.awaited = nil },
		"another one waits":         func(b *bench, _ *testing.T) { b.l.pending++ },
		"another one has been served": func(b *bench, t *testing.T) {
			s, _ := b.loggedIn(t, 3, "orders")
			s.receive(request1(wire.OpPing, 0, 1, func(dst []byte) []byte { return dst }), b.now)
			b.l.endTurn(b.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, got, g, woken := durableBench(t)
			for i := range 2 * soloTurns {
				b.publishOne(i)
				b.settle(t, woken)
			}
			others(b, t)
			open := g.shut()
			got.b = nil
			before := b.l.pending
			b.publishOne(2 * soloTurns) // returns: the gate is shut
			require.Equal(t, before+1, b.l.pending)
			require.Empty(t, got.b)
			open()
			b.l.pending -= before
			b.settle(t, woken)
			require.NotEmpty(t, got.b)
		})
	}
}

// A device that takes long is waited for once.
func TestTheLoopWaitsForASlowDeviceOnce(t *testing.T) {
	b, _, g, woken := durableBench(t)
	for i := range 2 * soloTurns {
		b.publishOne(i)
		b.settle(t, woken)
	}
	b.l.solo = soloTurns
	g.held = make(chan struct{}, 1)
	open := g.shut()
	go func() {
		<-g.held // however long the publish takes to get there
		time.AfterFunc(2*slowRound, open)
	}()
	b.publishOne(2 * soloTurns)
	require.Zero(t, b.l.pending)
	require.Zero(t, b.l.solo)
}

// What repeats a change that is not durable yet is answered only when it is: a power cut could take back what the answer
// says.
func TestRepeatedChangesAreAnsweredWhenTheFirstIsDurable(t *testing.T) {
	g := &gateFS{FS: log.OS}
	srv := startServer(t, Options{Dir: t.TempDir(), FS: g})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a", "b")
	require.Zero(t, p.commitTo(h, "audit", 1).Flags)
	open := wire.OpenQueue{Handle: h, Group: "work"}
	require.Zero(t, p.call(wire.OpOpenQueue, 0, open.Append).Flags)
	missing, remove := wire.DeleteGroup{Group: "nobody"}, wire.DeleteGroup{Group: "audit"}
	p.refused(wire.CodeGroupNotFound, wire.OpDeleteGroup, 0, missing.Append)

	f := func(op wire.Op, body func([]byte) []byte, check func(again wire.Frame)) {
		t.Helper()
		release := sync.OnceFunc(g.shut())
		defer release()
		first := p.send(op, 0, body)
		if op == wire.OpDeleteGroup { // two workers could do them in any order
			part := srv.registry.Topic("orders").Partition(0)
			require.Eventually(t, func() bool { return !part.Knows(remove.Group) }, waitLimit, time.Millisecond)
		}
		again := p.send(op, 0, body)
		p.send(wire.OpPing, 0, nil)
		require.Equal(t, wire.OpPing|wire.OpReply, p.read().Op, "neither is answered before it is durable")
		release()
		a, b := p.read(), p.read()
		require.Equal(t, []uint32{first, again}, []uint32{a.Correlation, b.Correlation})
		require.Zero(t, a.Flags)
		check(b)
	}
	discard := wire.Settle{Handle: h, Group: []byte("work"), Ranges: []wire.LeaseRange{{First: 0, Count: 1}}}
	f(wire.OpDiscard, discard.Append, func(again wire.Frame) { require.Zero(t, again.Flags) })
	f(wire.OpDeleteGroup, remove.Append, func(again wire.Frame) {
		errorOf(t, wire.CodeGroupNotFound, again)
	})
}
