package server

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// occupy keeps all workers busy until release is called.
func occupy(t *testing.T, srv *Server) (release func()) {
	t.Helper()
	var begun sync.WaitGroup
	done := make(chan struct{})
	begun.Add(coldReaders)
	for range coldReaders {
		require.NoError(t, srv.enqueue(func() { begun.Done(); <-done }))
	}
	begun.Wait()
	release = sync.OnceFunc(func() { close(done) })
	t.Cleanup(release)
	return release
}

// One connection leaves the others room in the queue of the workers. All of its requests are answered.
func TestOneConnectionDoesNotFillTheQueueOfTheWorkers(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	release := occupy(t, srv)
	p, other := login(t, srv), login(t, srv)
	const many = maxBlocked
	asked := map[uint32]bool{}
	for range many {
		asked[p.send(wire.OpGroups, 0, (&wire.Groups{}).Append)] = true
	}
	p.send(wire.OpPing, 0, nil)
	require.Equal(t, wire.OpPing|wire.OpReply, p.read().Op, "all were taken")
	require.Len(t, srv.work, maxWorking)
	answer := other.send(wire.OpGroups, 0, (&wire.Groups{}).Append)
	release()
	f := other.read()
	require.Equal(t, answer, f.Correlation)
	require.Zero(t, f.Flags&wire.FlagError)
	for range many {
		f := p.read()
		require.Zero(t, f.Flags&wire.FlagError)
		require.True(t, asked[f.Correlation])
		delete(asked, f.Correlation)
	}
}

// Nobody reads for a connection that is gone. What it changes is changed.
func TestWorkThatOnlyReadsEndsWithItsConnection(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	release := occupy(t, srv)
	p := login(t, srv)
	ran := make(chan wire.Op, 2)
	srv.onLoops(t.Context(), func(l *loop, _ time.Time) int {
		for s := range l.sessions {
			b := s.proto.(*binary)
			for _, op := range []wire.Op{wire.OpGroups, wire.OpCreateTopic} {
				require.NoError(t, b.work(op, 1, func() (func(time.Time) error, error) {
					ran <- op
					return func(time.Time) error { return nil }, nil
				}))
			}
		}
		return 0
	})
	require.NoError(t, p.conn.Close())
	require.Eventually(t, func() bool { return srv.connections.Load() == 0 }, waitLimit, time.Millisecond)
	release()
	require.Equal(t, wire.OpCreateTopic, <-ran)
	login(t, srv).call(wire.OpGroups, 0, (&wire.Groups{}).Append) // behind both
	require.Empty(t, ran)
}

// retried counts how often it is retried.
type retried int

func (c *retried) retry(time.Time) { *c++ }

// That a worker has finished costs no look at the thousands of requests that still have to wait.
func TestRequestsThatHaveToWaitAreLeftAlone(t *testing.T) {
	bench, _ := newBench(t, Options{})
	b := bench.s.proto.(*binary)
	reads, errands, others := new(retried), new(retried), new(retried)
	for range 100 {
		require.NoError(t, b.enlist(&b.reads, reads))
		require.NoError(t, b.enlist(&b.errands, errands))
		require.NoError(t, b.later(others))
	}
	b.cold, b.working = maxCold, maxWorking
	require.True(t, b.unblock(bench.now))
	require.Equal(t, []retried{0, 0, 100}, []retried{*reads, *errands, *others})
	b.working--
	require.True(t, b.unblock(bench.now))
	require.Equal(t, []retried{0, 100, 100}, []retried{*reads, *errands, *others})
	b.cold--
	require.False(t, b.unblock(bench.now))
	require.Equal(t, []retried{100, 100, 100}, []retried{*reads, *errands, *others})
}

// A read that takes several goes lets others in between.
func TestAReadThatGoesOnWaitsBehindOthers(t *testing.T) {
	bench, _ := newBench(t, Options{})
	b := bench.s.proto.(*binary)
	begun, hold := make(chan int, 10), make(chan struct{})
	t.Cleanup(func() { close(hold) })
	more := true
	read := func(n int) {
		require.NoError(t, b.workChunk(wire.OpGet, uint32(n), func(*log.Chunk) error {
			begun <- n
			switch {
			case n == 1 && more:
				more = false
				return partition.ErrMore
			case n > 1 && n <= maxCold:
				<-hold
			}
			return nil
		}, func(*log.Chunk, time.Time) {}))
	}
	for n := range maxCold - 1 {
		read(2 + n)
		<-begun
	}
	var order []int
	read(1)
	read(maxCold + 1)
	require.Eventually(t, func() bool {
		bench.l.drain(bench.now)
		for len(begun) > 0 {
			order = append(order, <-begun)
		}
		return len(order) == 3
	}, waitLimit, time.Millisecond)
	require.Equal(t, []int{1, maxCold + 1, 1}, order)
}

// A stop answers the requests whose work it carries out.
func TestAStopWaitsForChangesThatWorkersMake(t *testing.T) {
	srv := startServer(t, Options{Loops: 1})
	release := occupy(t, srv)
	p := login(t, srv)
	create := p.send(wire.OpCreateTopic, 0, (&wire.CreateTopic{Topic: "t", Partitions: 1}).Append)
	p.call(wire.OpPing, 0, nil)
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Shutdown(t.Context()) }()
	require.Equal(t, wire.OpNotice, p.read().Op)
	for range 500 { // turns in which the connection would be closed
		require.Equal(t, wire.OpPing|wire.OpReply, p.call(wire.OpPing, 0, nil).Op)
	}
	release()
	f := p.read()
	require.Equal(t, create, f.Correlation)
	require.Zero(t, f.Flags&wire.FlagError, "%q", f.Body)
	require.NoError(t, <-stopped)
}

// What looks at every partition keeps nobody else of the loop waiting.
func TestAListOfEverythingIsMadeByAWorker(t *testing.T) {
	for _, verb := range []string{"TOPICS", "GROUPS", "STATS"} {
		b := newTextBroker(t, Options{})
		idle := b.busyWorkers()
		p := b.peer()
		p.feed(verb + "\r\nHELP\r\n")
		require.Empty(t, p.take(), verb)
		idle()
		require.Regexp(t, `^\+OK (0 topics|0 lines|\{.*\})\r\n$`, p.line(), verb)
		require.Regexp(t, "^PUB ", p.line(), "in the order of the commands")
	}
	b, srv := newBench(t, Options{})
	_, err := srv.registry.Topic("orders").Partition(0).Commit("g", 0, 0, b.now)
	require.NoError(t, err)
	release := occupy(t, srv)
	out := &answerSink{got: map[uint32]int{}}
	b.s.t = out
	b.feed(request1(wire.OpStats, 0, 3, nil))
	b.feed(request1(wire.OpDeleteGroup, 0, 4, (&wire.DeleteGroup{Group: "g"}).Append))
	require.Empty(t, out.got)
	release()
	require.Eventually(t, func() bool {
		b.l.drain(b.now)
		return out.got[3] == 1 && out.got[4] == 1
	}, waitLimit, time.Millisecond)
}
