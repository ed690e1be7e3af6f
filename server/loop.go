package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// job is work for a loop. It runs on the loop's goroutine.
type job interface{ run(now time.Time) }

// jobFunc is a job made of a function.
type jobFunc func(now time.Time)

func (f jobFunc) run(now time.Time) { f(now) }

// loop owns sessions and what waits for them. Except for the inbox, everything in it belongs to the
// one goroutine that drives it.
type loop struct {
	srv  *Server
	ring func() // wakes the driver, which then calls drain; safe from any goroutine

	nudge     func()      // makes the driver call runLaters behind the sockets that are ready; nil when it cannot
	isRunning func() bool // nil when the driver always runs
	// pauseReading makes the driver stop or go on reading from a session; nil when it cannot.
	pauseReading func(s *session, pause bool)
	// awaited reports whether somebody who is read from has sent something, or the driver has something
	// else to do; nil when it cannot tell.
	awaited func() bool

	mu    sync.Mutex // guards inbox, rung and over
	inbox []job
	rung  bool // nobody needs to wake the driver: it was woken, or a turn runs that looks at its end
	over  bool // the driver has ended: nothing runs any more

	spare    []job // the inbox of the turn before, to be reused
	sessions map[*session]struct{}
	watches  map[*partition.Partition]*watch
	flushes  []flush
	dirty    []*session // sessions with output of this turn
	stuck    map[*session]struct{}
	timers   timerHeap
	wakeAt   time.Time // when the alarm goes off; zero when it is not set
	alarm    *time.Timer
	pending  int // acknowledgements that wait for durability
	draining bool
	turning  bool      // between the start of a turn and its end
	chunk    log.Chunk // of hot reads; released before the handler returns
	turn     turnCount
	clock    time.Time         // when the current move of a partition was noticed
	iov      [maxSlices][]byte // scratch space of writeChunk
	gathered []byte            // entries of a lease reply; copied out before the handler returns

	message      uint64                // live messages routed, to tell them apart
	matches      subject.Matches[live] // of the message that is routed
	handoffs     map[*loop]*handoff    // of this turn
	mail         atomic.Int64          // bytes of live messages handed over and not yet delivered
	crowded      []*session            // sessions whose peers are far behind
	held         []*session            // sessions that are not read from
	interests    map[*partition.Topic]interest
	laters       []job             // put off to a turn of their own
	nudged       bool              // that turn will come
	spareBacklog []byte            // of a text session that has none now
	large        []byte            // of a command of a text session that arrives in pieces
	builder      wire.BatchBuilder // of the record that a text session publishes
	header       []byte            // of a record that is routed
	scratch      scratch
	reader       *session  // whose bytes came last
	solo         int       // how often in a row they were this session's
	streamed     time.Time // when they last were one of a stream
	reading      *session  // whose bytes this turn is about; nil for none
	blocker      *session  // a crowded one that got messages in this turn
	full         *loop     // one with a full inbox that got messages in this turn
	late         bool      // the message that is routed goes to a crowded session
	owed         int       // bytes of this turn that went to somebody who is behind
	routed       message   // the message that is routed: on the heap once, not for each of them
}

// scratch is memory of the handlers of binary sessions, reused from frame to frame: a handler is done
// with it when it returns.
type scratch struct {
	run      publishRun
	batch    wire.Batch
	settle   wire.Settle
	commit   wire.Commit
	ranges   []group.Settle
	leased   []group.Lease
	sent     []group.Lease // of a gatherer
	checked  checkedEntry  // of a gatherer
	leaseOut wire.Leased

	schedule  wire.Schedule
	scheduled []partition.ScheduleItem
	batches   []wire.Batch
}

// smallBacklog is the size of a backlog for which new memory is cheap: the spare one is for those that are
// as large as a read.
const smallBacklog = 16 << 10

// takeSpare returns memory for a backlog of size bytes, empty.
func (l *loop) takeSpare(size int) []byte {
	b := l.spareBacklog
	if size <= smallBacklog || cap(b) < size {
		return make([]byte, 0, size)
	}
	l.spareBacklog = nil
	return b[:0]
}

// keepSpare keeps the memory of a backlog for the next one.
func (l *loop) keepSpare(b []byte) {
	if cap(b) <= idleBuffer && cap(b) > cap(l.spareBacklog) {
		l.spareBacklog = b
	}
}

// maxLarge bounds the memory that a loop keeps for large commands of text sessions: a message of the
// default limit.
const maxLarge = 1<<20 + 64<<10

// takeLarge returns empty memory for size bytes.
func (l *loop) takeLarge(size int) []byte {
	b := l.large
	if cap(b) < size {
		return make([]byte, 0, size)
	}
	l.large = nil
	return b[:0]
}

// keepLarge keeps memory for the next large command.
func (l *loop) keepLarge(b []byte) {
	if cap(b) <= maxLarge && cap(b) > cap(l.large) {
		l.large = b
	}
}

func newLoop(srv *Server) *loop {
	l := &loop{
		srv: srv, sessions: map[*session]struct{}{}, stuck: map[*session]struct{}{},
		watches: map[*partition.Partition]*watch{},
	}
	l.alarm = time.AfterFunc(time.Hour, func() { l.post(jobFunc(l.tick)) })
	l.alarm.Stop()
	return l
}

// post hands a job to the loop. It may be called from any goroutine and never blocks. It reports
// whether the job will run: not when the loop has ended.
func (l *loop) post(j job) bool {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return false
	}
	l.inbox = append(l.inbox, j)
	ring := !l.rung
	l.rung = true
	l.mu.Unlock()
	if ring {
		l.ring()
	}
	return true
}

// finish ends the loop: it runs what was posted and takes nothing more.
func (l *loop) finish(now time.Time) {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.drain(now)
	l.alarm.Stop()
}

// drain runs the posted jobs and ends the turn.
func (l *loop) drain(now time.Time) {
	l.runInbox(now)
	l.endTurn(now)
}

// runInbox runs the posted jobs, at the start of a turn and once more at its end. What those post runs
// in the next turn, so that a loop never starves its sockets. It also comes before the bytes of a
// connection: what was handed over before the peer wrote them is delivered before them.
func (l *loop) runInbox(now time.Time) {
	l.turning = true
	l.mu.Lock()
	jobs := l.inbox
	l.inbox = l.spare[:0]
	l.rung = true
	l.mu.Unlock()
	for i, j := range jobs {
		l.runJob(j, now)
		jobs[i] = nil
	}
	l.spare = jobs
}

// leaveInbox lets posts wake the driver again, and wakes it for what came too late for this turn.
func (l *loop) leaveInbox() {
	l.mu.Lock()
	if l.nudge == nil {
		l.inbox = append(l.inbox, l.laters...)
		l.laters = clearJobs(l.laters)
	}
	l.rung = len(l.inbox) > 0
	ring := l.rung
	l.mu.Unlock()
	if ring {
		l.ring()
	}
}

// clearJobs empties jobs and keeps the memory.
func clearJobs(jobs []job) []job {
	clear(jobs)
	return jobs[:0]
}

// endTurn starts the flushes that this turn asked for and writes out every session's replies. Then it
// runs what was posted meanwhile, a partition's move for example: who published is answered before the
// subscribers are served.
func (l *loop) endTurn(now time.Time) {
	l.turning = true
	l.settleTurn(now)
	l.sendOut(now)
	l.runInbox(now)
	l.settleTurn(now)
	l.sendOut(now)
	l.hold(now)
	l.setAlarm(now)
	l.turning = false
	l.leaveInbox()
}

// sendOut starts flushes, hands messages to other loops and writes out the sessions' replies.
func (l *loop) sendOut(now time.Time) {
	here := l.mayWait()
	if !here {
		l.startFlushes()
	}
	l.sendHandoffs()
	for i := 0; i < len(l.dirty); i++ { // writing out may close a session, which makes it dirty again
		s := l.dirty[i]
		s.dirty = false
		s.flushOut(now)
		l.crowd(s, now)
		l.dirty[i] = nil
	}
	l.dirty = l.dirty[:0]
	if here {
		l.flushHere()
	}
}

// sessionEnded is called when a connection is gone. That may be noticed in the middle of a turn, by a
// write to it.
func (l *loop) sessionEnded(s *session, now time.Time) {
	l.runJob(jobFunc(s.ended), now)
	if !l.turning {
		l.endTurn(now)
	}
}

// runJob keeps a panic of one job from ending the loop and with it every connection on it.
func (l *loop) runJob(j job, now time.Time) {
	defer func() {
		if r := recover(); r != nil {
			l.srv.panicked(r)
		}
	}()
	j.run(now)
}

// tick runs what is due by the clock.
func (l *loop) tick(now time.Time) {
	l.wakeAt = time.Time{}
	for w := l.timers.pop(now); w != nil; w = l.timers.pop(now) {
		w.expire(now)
	}
	for s := range l.stuck {
		s.unblock(now)
	}
	l.relieve(now)
}

// setAlarm makes sure that tick runs when the next thing is due.
func (l *loop) setAlarm(now time.Time) {
	at, ok := l.timers.next()
	if len(l.stuck)+len(l.crowded)+len(l.held) > 0 {
		if retry := now.Add(retryInterval); !ok || retry.Before(at) {
			at, ok = retry, true
		}
	}
	if !ok || !l.wakeAt.IsZero() && !at.Before(l.wakeAt) {
		return
	}
	l.wakeAt = at
	l.alarm.Reset(at.Sub(now))
}

// sweep closes sessions that overstayed a timeout. The server posts it about once a second.
func (l *loop) sweep(now time.Time) {
	for s := range l.sessions {
		s.checkTimeouts(now)
		s.awaitLogin(now)
	}
	for p, w := range l.watches {
		if w.idle() {
			w.end(p)
		}
	}
}

// closeAll closes every session, after what is written was handed to the kernel.
func (l *loop) closeAll(now time.Time) {
	for s := range l.sessions {
		s.flushOut(now)
		s.close()
	}
}

// running reports whether something drives the loop.
func (l *loop) running() bool { return l.isRunning == nil || l.isRunning() }

// drainSessions tells every session that the broker goes away and answers what waits for records. It
// returns how many acknowledgements still wait for the disk.
func (l *loop) drainSessions(grace time.Duration, now time.Time) int {
	l.draining = true
	for s := range l.sessions {
		if s.proto != nil {
			s.proto.drain(grace, now)
		}
	}
	for _, w := range l.watches {
		for _, q := range append([]*poll(nil), w.polls...) {
			q.end()
			q.last(now)
		}
	}
	return l.pending
}
