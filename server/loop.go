package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
)

// loop owns sessions and everything that waits for them. Except for the inbox and brake.mail, all of it belongs to the
// goroutine that drives the loop. A turn is the processing of one read event or of the posted jobs, with the output and flushes that
// follow from it. The parts are declared beside the methods that use them.
type loop struct {
	srv *Server
	driver
	inbox

	sessions map[*session]struct{}
	watches  map[*partition.Partition]*watch
	timers   timerHeap
	wakeAt   time.Time // when the alarm goes off; zero when it is not set
	alarm    *time.Timer
	draining bool
	pending  int                   // acknowledgements that wait for durability
	changing int                   // requests with the workers that do more than read
	stuck    map[*session]struct{} // sessions with requests that wait for the peer to read
	reviews  []review              // subscriptions that may have to end

	// What belongs to the turn.
	turning    bool // between its start and its end
	turn       turnCount
	flushes    []flush    // to start at its end
	dirty      []*session // sessions with output
	clock      time.Time  // when the current change of a partition was noticed
	reading    *session   // whose input this turn processes; nil for none
	unmeasured int        // work of binary requests since the clock was looked at; see binaryTurn

	laters   // jobs for a turn of their own
	activity // of its sessions
	router   // of live messages
	brake    // for who publishes them
	memory   // that is used again
}

// driver is what calls a loop, with the sockets of its sessions: gnetLoop or serveStream. Its functions are nil where it
// cannot do that.
type driver struct {
	nudge        func()                       // makes the driver call runLaters after the sockets that are ready
	isRunning    func() bool                  // whether the driver runs; nil when it always does
	pauseReading func(s *session, pause bool) // pauses or resumes reading from a session
	awaited      func() bool                  // whether it has work: input of a session that is not paused, or something else
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

// finish ends the loop: it runs the jobs that were posted, refuses others, and stops watching partitions, which would keep it
// in memory and try to wake it.
func (l *loop) finish(now time.Time) {
	l.end()
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
	jobs := l.take()
	for i, j := range jobs {
		l.runJob(j, now)
		jobs[i] = nil
	}
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
	l.leaveTurn()
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
		if t, ok := s.proto.(*text); ok && l.draining {
			t.takeLeave()
		}
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
