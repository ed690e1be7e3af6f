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

// job is work that is posted to a loop and runs on the loop's goroutine.
type job interface{ run(now time.Time) }

// jobFunc is a job made of a function.
type jobFunc func(now time.Time)

func (f jobFunc) run(now time.Time) { f(now) }

// loop owns sessions and everything that waits for them. Except for the inbox, all of it belongs to the goroutine that
// drives the loop. A turn is the processing of one read event or of the posted jobs, with the output and flushes that
// follow from it.
type loop struct {
	srv  *Server
	ring func() // wakes the driver, which then calls drain; safe for concurrent use

	nudge     func()      // makes the driver call runLaters after the sockets that are ready; nil when it cannot
	isRunning func() bool // whether the driver runs; nil when it always does
	// pauseReading makes the driver pause or resume reading from a session; nil when it cannot.
	pauseReading func(s *session, pause bool)
	// awaited reports whether the driver has work: input of a session that is not paused, or something else; nil
	// when it cannot tell.
	awaited func() bool

	mu    sync.Mutex // guards inbox, rung and over
	inbox []job
	rung  bool // the driver need not be woken: it was, or a turn runs, which looks at the inbox at its end
	over  bool // the driver has ended: jobs are refused

	sessions map[*session]struct{}
	watches  map[*partition.Partition]*watch
	timers   timerHeap
	wakeAt   time.Time // when the alarm goes off; zero when it is not set
	alarm    *time.Timer
	draining bool
	pending  int                   // acknowledgements that wait for durability
	changing int                   // requests with the workers that do more than read
	stuck    map[*session]struct{} // sessions with requests that wait for the peer to read

	// What belongs to the turn, and to what follows from it.
	turning  bool // between the start of a turn and its end
	turn     turnCount
	flushes  []flush    // to start at its end
	dirty    []*session // sessions with output
	clock    time.Time  // when the current change of a partition was noticed
	laters   []job      // jobs for a turn of their own; see later
	nudged   bool       // that turn will come
	reading  *session   // whose input this turn processes; nil for none
	reader   *session   // whose input came last
	solo     int        // how many times in a row input came from reader
	streamed time.Time  // when reader's last input was full of messages; see streams

	// Live messages; see route and hold.
	routed    message               // the message that is being routed, here to avoid an allocation for each
	message   uint64                // number of the last one that was routed
	matches   subject.Matches[live] // of the one that is being routed
	handoffs  map[*loop]*handoff    // of this turn
	load      *load                 // with their messages; nil when there are none
	refused   []*handoff            // that their loops did not take, because they have ended
	mail      atomic.Int64          // bytes that were handed to this loop and not delivered yet
	interests map[*partition.Topic]interest
	crowded   []*session // sessions whose peers are far behind
	held      []*session // sessions from which reading is paused
	blocker   *session   // a crowded session that got messages in this turn
	full      *loop      // a loop with a full inbox that got messages in this turn
	late      bool       // the message that is being routed goes to a crowded session
	reviews   []review   // subscriptions that may have to end
	owed      int        // bytes of this turn that went to sessions or loops that are behind

	// Memory that is used again.
	spare    []job             // of the last inbox
	chunk    log.Chunk         // of hot reads; released before the handler returns
	gathered []byte            // entries of a lease reply; copied out before the handler returns
	iov      [maxSlices][]byte // of writeChunk
	backlog  spareBytes        // for the backlog of a session
	large    spareBytes        // for a large command of a text session
	builder  wire.BatchBuilder // for records from live messages
	header   []byte            // header of a record that is being routed
	scratch  scratch

	unmeasured int // work of binary requests since the clock was looked at; see binaryTurn
}

// scratch is memory that the handlers of binary sessions reuse. A handler may use it until it returns.
type scratch struct {
	run      publishRun
	batch    wire.Batch
	settle   wire.Settle
	commit   wire.Commit
	ranges   []group.Settle
	leased   []group.Lease
	sent     []group.Lease // gatherer.sent
	checked  checkedEntry  // gatherer.checked
	leaseOut wire.Leased

	schedule  wire.Schedule
	scheduled []partition.ScheduleItem
	batches   []wire.Batch
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

// post posts a job to the loop. It may be called from any goroutine and never blocks. It returns false when the loop has
// ended, so that the job will not run.
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

// finish ends the loop: it runs the jobs that were posted, refuses others, and stops watching partitions, which would keep it
// in memory and try to wake it.
func (l *loop) finish(now time.Time) {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.drain(now)
	for _, w := range l.watches {
		w.end()
	}
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

// runJob runs a job. A panic of it does not end the loop.
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

// setAlarm makes sure that tick runs when the next timer is due.
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

// sweep closes sessions that have exceeded a timeout. The server posts it about once a second.
func (l *loop) sweep(now time.Time) {
	for s := range l.sessions {
		s.checkTimeouts(now)
		s.awaitLogin(now)
	}
	for _, w := range l.watches {
		if w.idle() {
			w.end()
		}
	}
}

// closeAll closes every session after its output was handed to the kernel.
func (l *loop) closeAll(now time.Time) {
	for s := range l.sessions {
		s.flushOut(now)
		s.close()
	}
}

// running reports whether something drives the loop.
func (l *loop) running() bool { return l.isRunning == nil || l.isRunning() }

// drainSessions tells every session that the broker stops, and answers requests that wait for records. It returns how many
// requests still wait for the disk.
func (l *loop) drainSessions(grace time.Duration, now time.Time) int {
	l.draining = true
	for s := range l.sessions {
		if s.proto != nil {
			s.proto.drain(grace)
		}
	}
	for _, w := range l.watches {
		w.polls.each(func(q *poll) {
			q.end()
			q.last(now)
		})
	}
	return l.unanswered()
}

// unanswered returns how many requests wait for the disk that a stop leaves time for.
func (l *loop) unanswered() int { return l.pending + l.changing }
