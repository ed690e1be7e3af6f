package server

import "time"

// Input is run as it arrives. What cannot run yet is copied to the session's backlog: behind a command or a login that must
// end first, and behind the end of a turn.

// Limits of backlogs.
const (
	// maxBacklog bounds the input that waits. It is not reached where reading can be paused, which happens at
	// fullBacklog.
	maxBacklog  = 8 << 20
	fullBacklog = 256 << 10
	// smallBacklog is the size of a backlog up to which new memory is cheap. The spare one is for larger ones.
	smallBacklog = 16 << 10
)

// backlog is the input of a session that waits.
type backlog struct {
	bytes   []byte
	done    int  // how many of them were processed
	paused  bool // something must end before the input goes on
	running bool // input is being run
	yields  bool // a turn for the backlog will come
}

// waits returns the size of what waits.
func (b *backlog) waits() int { return len(b.bytes) - b.done }

// feed runs input, unless earlier input waits. What is left waits.
func (s *session) feed(in []byte, now time.Time) {
	b := &s.backlog
	if !b.paused && len(b.bytes) == 0 {
		b.running = true
		in = in[s.proto.run(in, now):]
		b.running = false
		if len(in) == 0 && s.full {
			s.setFull(false)
		}
	}
	if len(in) == 0 || s.closed {
		return
	}
	limit := maxBacklog
	if !s.admitted {
		limit = maxStranger
	}
	if b.waits()+len(in) > limit {
		s.proto.flooded(limit)
		s.close()
		return
	}
	if b.bytes == nil && len(in) > smallBacklog {
		b.bytes = s.loop.backlog.take(len(in))
	}
	b.bytes = append(b.bytes, in...)
	if !b.paused || b.waits() > fullBacklog {
		s.setFull(true)
	}
	if !b.paused {
		s.yield()
	}
}

// yield lets other sessions have their turn before the backlog goes on.
func (s *session) yield() {
	if !s.backlog.yields {
		s.backlog.yields = true
		s.loop.later(jobFunc(s.goOn))
	}
}

// goOn runs the backlog, unless something must end first or the session is held back.
func (s *session) goOn(now time.Time) {
	defer s.contain()
	b := &s.backlog
	b.yields = false
	if s.closed || b.paused || s.flow.held {
		return
	}
	s.loop.reading = s
	b.running = true
	b.done += s.proto.run(b.bytes[b.done:], now)
	b.running = false
	switch {
	case s.closed:
	case b.waits() == 0:
		s.loop.backlog.keep(b.bytes, idleBuffer)
		b.bytes, b.done = nil, 0
		s.setFull(false)
	case !b.paused:
		s.yield()
	}
}

// pause keeps further input from running until proceed, so that replies keep the order of the requests.
func (s *session) pause() { s.backlog.paused = true }

// proceed ends a pause and runs what arrived meanwhile.
func (s *session) proceed(now time.Time) {
	s.backlog.paused = false
	if !s.backlog.running {
		s.goOn(now)
	}
}
