package server

import "time"

// Live messages are kept nowhere, so a publisher that is faster than a subscriber reads must be held
// back, or the subscriber is lost. The event loop cannot read from some connections and not from
// others, so for a short time it reads from none.

const (
	// holdBudget is the longest that one turn waits for subscribers to catch up.
	holdBudget = 10 * time.Millisecond
	// holdStep is how often it looks whether they did.
	holdStep = 100 * time.Microsecond
	// tightMail is what a loop may be handed while it waits for a subscriber itself: all of it adds to
	// what that one has to read.
	tightMail = 256 << 10
)

// crowdBytes is the unread output of a session at which the loop waits for it.
func (l *loop) crowdBytes() int { return l.srv.opts.MaxPendingBytes / 2 }

// mailFull reports whether those who hand messages to the loop should wait: the rest of what a session
// may leave unread must not come at once. It may be called from any goroutine.
func (l *loop) mailFull() bool {
	mail := int(l.mail.Load())
	return mail > l.srv.opts.MaxPendingBytes/4 || mail > tightMail && l.tight.Load()
}

// flusher is a transport that keeps output and can try again to get rid of it.
type flusher interface{ Flush() error }

// crowd remembers a session with live subscriptions whose peer is far behind, but still reads.
func (l *loop) crowd(s *session) {
	if s.listens == 0 || s.closed {
		return
	}
	pending := s.t.OutboundBuffered()
	if pending <= l.crowdBytes() {
		s.numb = 0
		return
	}
	if _, ok := s.t.(flusher); ok && (s.numb == 0 || pending < s.numb) {
		s.before = pending
		l.crowded = append(l.crowded, s)
	}
}

// holdBack gives the crowded sessions and the loops with full inboxes a little time. A session that
// takes nothing in it is not waited for again until it has read.
func (l *loop) holdBack() {
	l.tight.Store(len(l.crowded) > 0)
	if len(l.crowded) == 0 && len(l.mailed) == 0 {
		return
	}
	deadline := time.Now().Add(holdBudget)
	for l.relieve() && time.Now().Before(deadline) {
		time.Sleep(holdStep)
	}
	for _, s := range l.crowded {
		if pending := s.t.OutboundBuffered(); pending >= s.before {
			s.numb = pending
		}
	}
	clear(l.crowded)
	clear(l.mailed)
	l.crowded, l.mailed = l.crowded[:0], l.mailed[:0]
}

// relieve writes what peers take now. It reports whether anybody is still behind.
func (l *loop) relieve() (behind bool) {
	for _, s := range l.crowded {
		if s.gone {
			continue
		}
		// An error means that the connection is gone; the transport ends the session.
		_ = s.t.(flusher).Flush()
		behind = behind || s.t.OutboundBuffered() > l.crowdBytes()
	}
	for _, to := range l.mailed {
		behind = behind || to.mailFull()
	}
	return behind
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
