package log

import "time"

// Filing, for which nobody waits, shares the device with rounds, for which publishers wait. The queue of the device is
// long: behind 64 MiB that were written and not flushed, a flush of 4 KiB takes 30 ms instead of 0.3. So while rounds
// are being made durable, filing sends its writes to the device in pieces and waits for each, and a round waits for one
// piece at most. The segment is flushed once, at the end: a flush of every piece would also write the journal of the
// file system, for which rounds wait as well.

const (
	// pieceBytes is the lowest size of a piece. A piece is as large as the last round when that was larger,
	// because a large round is hardly delayed by a piece of its own size.
	pieceBytes = 256 << 10
	// hastyPiece is the largest size of a piece, which is used when memory runs short.
	hastyPiece = 1 << 20
	// flushingFor is how long after a round was made durable another one is expected.
	flushingFor = 50 * time.Millisecond
	// hasty and reckless are parts of the memory budget. When so much is in use, pieces have hastyPiece, and
	// at the second filing does not wait at all.
	hasty    = 0.5
	reckless = 0.65
)

// flushing reports whether a round was made durable recently.
func (s *Store) flushing() bool {
	last := s.synced.Load()
	return last != 0 && time.Now().UnixNano()-last < int64(flushingFor)
}

// piece returns how many bytes filing may write before it waits for the device; 0 means no limit.
func (s *Store) piece() int {
	switch {
	case !s.paced || !s.flushing() || s.pool.excess(reckless) > 0:
		return 0
	case s.pool.excess(hasty) > 0:
		return hastyPiece
	}
	return max(pieceBytes, min(int(s.lastRound.Load()), hastyPiece))
}

// writePieces writes b at a position of the file, in pieces of which piece returns the size; see Store.piece.
func writePieces(f File, b []byte, at int64, piece func() int) error {
	for len(b) > 0 {
		n := piece()
		if n == 0 || n > len(b) {
			n = len(b)
		}
		if err := writeFull(f, b[:n], at); err != nil {
			return err
		}
		if piece() > 0 {
			if err := f.WriteOut(at, int64(n)); err != nil {
				return err
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}
