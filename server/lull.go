package server

import "time"

// A client that publishes as fast as it can writes a piece at a time, nats.go 32 KiB, and each piece wakes
// the loop. Where both share few cores that costs the client as much as the loop: it publishes faster when
// it is not listened to all the time: nats bench pub by 4 to 18 % at 128 B and 30 % at 1 KiB, with a quarter of
// the loop's wake-ups. So behind a read full of messages that need no answer the loop leaves such a session
// alone for a moment, or until it has something else to do; but only when nobody else was active of late, who would
// end it at once.

const (
	// lullTime is for how long; the kernel makes it about 50 us more. 30 us gained nothing, 150 and 300 us
	// no more than 80.
	lullTime = 80 * time.Microsecond
	// lullBytes and lullMessages are what a read brings at least. Larger messages come in pieces, and who sends
	// one waits for what it leads to.
	lullBytes    = 16 << 10
	lullMessages = 16
	// lullRate is how many bytes a microsecond it sends at least, from one such read to the next: below that
	// a lull brings no more than one piece, and costs publishers of 16 B a tenth. One burst is no stream.
	lullRate = 400
)

// streams reports whether the session, which was just read from, sends a stream of messages: it did so
// the time before, too, as the only active session, and waits for nothing. size is what was read.
func (s *session) streams(size int, now time.Time) bool {
	t, ok := s.proto.(*text)
	if !ok || s.loop.solo < soloTurns || size < lullBytes || s.loop.turn.sent.messages < lullMessages {
		return false
	}
	since := now.Sub(s.loop.streamed)
	s.loop.streamed = now
	return since.Microseconds() <= int64(size/lullRate) && s.out == nil && t.held == 0 && len(t.backlog) == 0
}

// lull leaves a session alone for d, or until the loop has something else to do. When the session has sent
// more already, or is not read from anyway, it does nothing.
func (g *gnetLoop) lull(s *session, d time.Duration) {
	if g.poll < 0 || s.closed || s.full || s.flow.held || g.awaited() {
		return
	}
	g.pauseReading(s, true)
	waitEvents(g.poll, d)
	g.loop.readAgain(s)
}
