package server

import (
	"sync/atomic"
	"time"
)

// Live messages are not stored, so a publisher that is faster than a subscriber reads must be held back, or the subscriber
// must be dropped. The broker pauses reading from a session that publishes to a subscriber that is far behind. Other
// sessions are not affected.

const (
	// pace is how many bytes a second each publisher may send to a subscriber that is far behind. A subscriber
	// that reads less than its publishers send at this pace reaches its output limit and is closed.
	pace = 10 << 20
	// holdMost bounds one hold, because the session may have other requests to send.
	holdMost = 100 * time.Millisecond
	// numbAfter is how long a subscriber that is far behind may read nothing before nobody waits for it any more,
	// until it reads again.
	numbAfter = time.Second
)

// brake holds publishers of a loop back.
type brake struct {
	mail    atomic.Int64 // bytes that were handed to the loop and not delivered yet
	crowded []*session   // sessions whose peers are far behind
	held    []*session   // sessions from which reading is paused

	// Of this turn.
	blocker *session // a crowded session that got messages
	full    *loop    // a loop with a full inbox that got messages
	late    bool     // the message that is being routed goes to a crowded session
	owed    int      // bytes that went to sessions or loops that are behind
}

// flow is how far a session is behind with reading, and whether it is held back because of others that are.
type flow struct {
	drained int64     // output that the peer had read at the last look
	at      time.Time // when it was last found to have read some
	numb    bool      // it read nothing for numbAfter, so nobody waits
	held    bool      // not read from

	until time.Time // of the hold
	by    *session  // the session that is behind; nil when it is a loop
	full  *loop     // the loop whose inbox is full
	owed  int       // bytes to subscribers that are behind for which it was not held yet
}

// crowdBytes is the unread output of a session at which its publishers are held back.
func (l *loop) crowdBytes() int { return l.srv.opts.MaxPendingBytes / 4 }

// mailFull reports whether publishers on other loops should wait before they send the loop more messages. Otherwise a
// session could get more output at once than it may leave unread. It may be called from any goroutine.
func (l *loop) mailFull() bool { return int(l.mail.Load()) > l.crowdBytes() }

// drained returns how many bytes of output the kernel has taken, up to a constant.
func (s *session) drained() int64 { return int64(s.sent) - int64(s.t.OutboundBuffered()) }

// crowd marks a session with live subscriptions whose peer is far behind.
func (l *loop) crowd(s *session, now time.Time) {
	if s.listens == 0 || s.closed || s.crowded.Load() || s.t.OutboundBuffered() <= l.crowdBytes() {
		return
	}
	drained := s.drained()
	if s.flow.numb && drained == s.flow.drained {
		return
	}
	s.flow.drained, s.flow.at, s.flow.numb = drained, now, false
	s.crowded.Store(true)
	l.crowded = append(l.crowded, s)
}

// behind reports whether publishers still have to wait for a crowded session: not when its unread output is down to half,
// or when it reads nothing at all.
func (l *loop) behind(s *session, now time.Time) bool {
	if s.closed || s.t.OutboundBuffered() <= l.crowdBytes()/2 {
		return false
	}
	if drained := s.drained(); drained != s.flow.drained {
		s.flow.drained, s.flow.at = drained, now
	}
	s.flow.numb = now.Sub(s.flow.at) > numbAfter
	return !s.flow.numb
}

// hold pauses reading from the session whose input this turn processed, when it published to a subscriber that is behind.
func (l *loop) hold(now time.Time) {
	s, by, full, owed := l.reading, l.blocker, l.full, l.owed
	l.reading, l.blocker, l.full, l.owed = nil, nil, nil, 0
	if s == nil || s.closed || by == nil && full == nil || l.pauseReading == nil {
		return
	}
	wait := holdMost
	if full == nil {
		s.flow.owed += owed
		wait = min(wait, time.Duration(s.flow.owed)*time.Second/pace)
		if wait < retryInterval {
			return // too short to pause for: it adds up
		}
	}
	s.flow.owed, s.flow.until, s.flow.by, s.flow.full = 0, now.Add(wait), by, full
	if !s.flow.held {
		s.flow.held = true
		l.held = append(l.held, s)
	}
	l.readAgain(s)
}

// readAgain makes the driver read from a session, unless there is a reason to pause.
func (l *loop) readAgain(s *session) {
	if l.pauseReading != nil && !s.gone {
		l.pauseReading(s, s.flow.held || s.full)
	}
}

// relieve finds the sessions that have caught up, and resumes reading from those that waited for them.
func (l *loop) relieve(now time.Time) {
	l.crowded = keep(l.crowded, func(s *session) bool {
		still := l.behind(s, now)
		s.crowded.Store(still)
		return still
	})
	l.held = keep(l.held, func(s *session) bool {
		f := &s.flow
		f.held = !s.gone && now.Before(f.until) && (f.by != nil && f.by.crowded.Load() || f.full != nil && f.full.mailFull())
		if !f.held {
			l.readAgain(s)
			if len(s.backlog.bytes) > 0 {
				s.yield()
			}
		}
		return f.held
	})
}

// keep removes the sessions from the list for which f is false.
func keep(list []*session, f func(*session) bool) []*session {
	kept := list[:0]
	for _, s := range list {
		if f(s) {
			kept = append(kept, s)
		}
	}
	clear(list[len(kept):])
	return kept
}

// overwhelmed reports whether a loop has so much to deliver that it gives up a subscription. It removes the subscription at
// once, and the loop closes its connection.
func (l *loop) overwhelmed(sub *liveSub) bool {
	s := sub.Value.to.at()
	if int(s.loop.mail.Load()) < l.srv.opts.MaxPendingBytes {
		return false
	}
	l.srv.live.Remove(sub)
	s.loop.post(jobFunc(func(time.Time) {
		if !s.closed {
			s.slow()
		}
	}))
	return true
}
