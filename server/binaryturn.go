package server

import (
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// A read can hold thousands of requests, and one lease on a topic of 1024 partitions takes 0.6 ms. So the requests of a
// session run in turns, as commands of text do. Publishes count only when live subscriptions get them: a read full of others
// takes less than a turn.

const (
	// binaryTime is how long a turn of a binary session lasts before its next request waits for the next turn.
	binaryTime = turnWork * time.Nanosecond
	// requestWork is the work after which the clock is looked at, which takes about 50 ns: every request but a live
	// message is worth that.
	requestWork = 16
	sendWork    = 1
)

func workOf(op wire.Op) int {
	if op == wire.OpSend {
		return sendWork
	}
	return requestWork
}

// binaryTurn measures one turn of a session. Its time begins behind the first request, so that a turn of one request does
// not look at the clock.
type binaryTurn struct {
	loop  *loop
	since time.Time
}

// goesOn reports whether another request may run in this turn: always when reading cannot be paused, because such a loop has
// no other sessions.
func (t *binaryTurn) goesOn() bool {
	return t.loop.unmeasured < requestWork || t.look()
}

// look looks at the clock.
func (t *binaryTurn) look() bool {
	t.loop.unmeasured = 0
	if t.loop.pauseReading == nil {
		return true
	}
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	return now.Sub(t.since) < binaryTime
}
