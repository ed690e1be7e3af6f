package server

import "math"

// A read can hold thousands of commands. A look at the clock takes half as long as a small one, so what they take is
// estimated. That cannot be done for binary requests; see binaryTurn.

const (
	// turnWork bounds the commands of a session that run in one turn, in units of about a nanosecond: a few hundred
	// subscriptions, or thousands of small messages. A read full of larger messages stays below it, so that it need
	// not be copied to wait. When others wait, the turn ends after sliceWork. Checking the sockets takes a hundredth
	// of that.
	turnWork      = 400_000
	sliceWork     = 25_000
	commandWork   = 100
	deliverWork   = 100
	subscribeWork = 1500
	bytesPerWork  = 16 // of commands and payloads
	// restBytes is how much of a read may be left at the end of a slice and be processed all the same, for at most
	// another slice, because putting it off would take longer.
	restBytes = 1024
)

// textTurn is what may be done in the current turn of a session.
type textTurn struct {
	allowance int // work that is left until the loop checks whether others wait
	budget    int // work that is left in this turn after that
}

// allow sets allowance and budget at the start of a turn, for waits bytes of input. They are unlimited when reading cannot
// be paused.
func (t *text) allow(waits int) {
	t.allowance, t.budget = sliceWork, turnWork+waits/2-sliceWork
	if t.s.loop.pauseReading == nil {
		t.allowance = math.MaxInt
	}
}

// goesOn reports whether another command may run in this turn. rest is the number of unprocessed bytes.
func (t *text) goesOn(rest int) bool {
	if t.allowance > 0 || rest <= restBytes && t.allowance > -sliceWork {
		return true
	}
	if t.budget <= 0 {
		return false
	}
	if others := t.s.loop.awaited; others != nil {
		if !t.s.full {
			t.s.setFull(true) // what this session sent meanwhile is nobody else's
		}
		if others() {
			return false
		}
	}
	t.budget -= sliceWork - t.allowance // a command that took longer than a slice counts as that
	t.allowance = sliceWork
	return true
}
