package server

import "time"

// A client that publishes as fast as it can writes in pieces, nats.go in pieces of 32 KiB, and each piece wakes the loop.
// When client and broker share few cores, the wake-ups slow the client down. So after a read full of messages that need no
// answer, the loop does not read from such a session for a moment, which is called a lull, or until the loop has other work.
// It does so only when no other session was recently active, which would end the lull at once. With a quarter of the
// wake-ups, nats bench pub is faster by 4 to 18 % at 128 B and by 30 % at 1 KiB.

const (
	// lullTime is the length of a lull, which the kernel extends by about 50 us. 30 us gained nothing, and 150
	// and 300 us no more than 80.
	lullTime = 80 * time.Microsecond
	// lullBytes and lullMessages are the lowest numbers of bytes and messages in a read before a lull. Large
	// messages arrive in pieces, and their senders often wait for the outcome.
	lullBytes    = 16 << 10
	lullMessages = 16
	// lullRate is the lowest rate in bytes per microsecond from one such read to the next. Below it no more than
	// one piece arrives during a lull, which slows publishers of 16 B down by a tenth.
	lullRate = 400
)

// streams reports whether the session, of which size bytes were just read, sends a stream of messages: this read and the
// one before were full of messages, it is the only active session, and it waits for no answer.
func (s *session) streams(size int, now time.Time) bool {
	t, ok := s.proto.(*text)
	if !ok || s.loop.solo < soloTurns || size < lullBytes || s.loop.turn.sent.messages < lullMessages {
		return false
	}
	since := now.Sub(s.loop.streamed)
	s.loop.streamed = now
	return since.Microseconds() <= int64(size/lullRate) && s.out == nil && t.held == 0 && len(s.backlog.bytes) == 0
}

// lull waits for d, or until the loop has work other than input of the session. It does nothing when the session has sent
// more already, or reading from it is paused.
func (g *gnetLoop) lull(s *session, d time.Duration) {
	if g.poll < 0 || s.closed || s.full || s.flow.held || g.awaited() {
		return
	}
	g.pauseReading(s, true)
	waitEvents(g.poll, d)
	g.loop.readAgain(s)
}
