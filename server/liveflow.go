package server

import "time"

// Live messages are kept nowhere, so a publisher that is faster than a subscriber reads must be held
// back, or the subscriber is lost. Whoever publishes to a subscriber that is far behind is not read
// from for a moment. Nobody else notices.

const (
	// pace is how many bytes a second each publisher may send to a subscriber that is far behind. One
	// that reads less than its publishers send at this pace reaches its limit and is closed.
	pace = 10 << 20
	// holdMost bounds one hold: a publisher is also somebody's subscriber, and may have more to say.
	holdMost = 100 * time.Millisecond
	// numbAfter is for how long nobody needs to have read from a subscriber that is far behind. After
	// that nobody waits for it any more, until it reads.
	numbAfter = time.Second
)

// flow is how far a session is behind in reading, and whether it is held back for others that are.
type flow struct {
	drained int64     // output that the peer had taken when it was looked at
	at      time.Time // when it last had taken some
	numb    bool      // took nothing for so long that nobody waits
	held    bool      // not read from

	until time.Time // of the hold
	by    *session  // who is behind; nil when it is a loop
	full  *loop     // whose inbox is full
	owed  int       // bytes for which it was not held yet
}

// crowdBytes is the unread output of a session at which its publishers are held back.
func (l *loop) crowdBytes() int { return l.srv.opts.MaxPendingBytes / 4 }

// mailFull reports whether those who hand messages to the loop should wait: the rest of what a session
// may leave unread must not come at once. It may be called from any goroutine.
func (l *loop) mailFull() bool { return int(l.mail.Load()) > l.srv.opts.MaxPendingBytes/4 }

// drained is how many bytes of output the kernel has taken, but for a constant.
func (s *session) drained() int64 { return int64(s.sent) - int64(s.t.OutboundBuffered()) }

// crowd notices a session with live subscriptions whose peer is far behind.
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

// behind reports whether a crowded session still is. It is not when half of what it was behind is
// read, or when it reads nothing at all.
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

// hold stops reading from the session that was read from in this turn when what it published goes to
// somebody who is behind.
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
			return // it is saved up
		}
	}
	s.flow.owed, s.flow.until, s.flow.by, s.flow.full = 0, now.Add(wait), by, full
	if !s.flow.held {
		s.flow.held = true
		l.held = append(l.held, s)
	}
	l.readAgain(s)
}

// readAgain makes the driver read from a session, or not while there is a reason not to.
func (l *loop) readAgain(s *session) {
	if l.pauseReading != nil && !s.gone {
		l.pauseReading(s, s.flow.held || s.full)
	}
}

// relieve looks who has caught up, and reads again from those who waited for them.
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
			if t, ok := s.proto.(*text); ok && len(t.backlog) > 0 {
				t.yield()
			}
		}
		return f.held
	})
}

// keep leaves those in the list of which f is true.
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

// overwhelmed reports whether a loop has so much to deliver that a subscription on it is given up.
// The subscription is taken out at once, its connection by its own loop.
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
