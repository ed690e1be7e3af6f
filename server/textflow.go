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
	// softMail is the size of what one loop was handed and has not delivered, at which those who hand
	// over wait. Four times that is given up on: the subscribers are closed as too slow.
	softMail = 16 << 20
	hardMail = 4 * softMail
)

// flusher is a transport that keeps output and can try again to get rid of it.
type flusher interface{ Flush() error }

// crowd remembers a text session whose peer is far behind, but still reads.
func (l *loop) crowd(s *session) {
	t, ok := s.proto.(*text)
	if !ok || s.closed {
		return
	}
	pending := s.t.OutboundBuffered()
	if pending <= l.srv.opts.MaxPendingBytes/2 {
		t.numb = 0
		return
	}
	if _, ok := s.t.(flusher); ok && (t.numb == 0 || pending < t.numb) {
		t.before = pending
		l.crowded = append(l.crowded, s)
	}
}

// holdBack gives the crowded sessions and the loops with full inboxes a little time. A session that
// takes nothing in it is not waited for again until it has read.
func (l *loop) holdBack() {
	if len(l.crowded) == 0 && len(l.mailed) == 0 {
		return
	}
	deadline := time.Now().Add(holdBudget)
	for l.relieve() && time.Now().Before(deadline) {
		time.Sleep(holdStep)
	}
	for _, s := range l.crowded {
		t := s.proto.(*text)
		if pending := s.t.OutboundBuffered(); pending >= t.before {
			t.numb = pending
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
		behind = behind || s.t.OutboundBuffered() > l.srv.opts.MaxPendingBytes/2
	}
	for _, to := range l.mailed {
		behind = behind || to.mail.Load() > softMail
	}
	return behind
}

// overwhelmed reports whether a loop has so much to deliver that a subscription on it is given up.
// The subscription is taken out at once, its connection by its own loop.
func (l *loop) overwhelmed(sub *liveSub) bool {
	to := sub.Value.t.s.loop
	if to.mail.Load() < hardMail {
		return false
	}
	l.srv.live.Remove(sub)
	to.post(jobFunc(func(time.Time) { sub.Value.t.s.slow() }))
	return true
}
