package log

import "time"

// Filing entries, which nobody waits for, shares the device with rounds that somebody waits for. The
// queue of the device is long: behind 64 MiB that were written and not flushed, a flush of 4 KiB takes
// 30 ms instead of 0.3. So while rounds are made durable pieces go to the device one by one in the
// background; a round then waits for one piece at most. What is filed is flushed once, at the end: a flush of each
// piece would write the journal of the file system, too, which rounds wait for as well.

const (
	// pieceBytes is how much is written in the background before the device has it, or as much as the last
	// round wrote: who waits for a large round hardly notices a large piece.
	pieceBytes = 256 << 10
	// hastyPiece is the most, and what is written when memory runs short, which filing makes room in.
	hastyPiece = 1 << 20
	// flushingFor is how long after a round was made durable others are expected.
	flushingFor = 50 * time.Millisecond
	// hasty and reckless are parts of the memory budget: from the first on pieces are larger, from the
	// second on filing does not care for others.
	hasty    = 0.5
	reckless = 0.65
)

// flushing reports whether rounds are being made durable.
func (s *Store) flushing() bool {
	last := s.synced.Load()
	return last != 0 && time.Now().UnixNano()-last < int64(flushingFor)
}

// piece returns how much may be written in the background before the device must have it; 0 is no limit.
func (s *Store) piece() int {
	switch {
	case !s.paced || !s.flushing() || s.pool.excess(reckless) > 0:
		return 0
	case s.pool.excess(hasty) > 0:
		return hastyPiece
	}
	return max(pieceBytes, min(int(s.lastRound.Load()), hastyPiece))
}
