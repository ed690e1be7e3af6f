package server

// spareBytes is memory that a loop keeps for the next session that needs much.
type spareBytes []byte

// take returns an empty slice with room for size bytes.
func (s *spareBytes) take(size int) []byte {
	b := *s
	if cap(b) < size {
		return make([]byte, 0, size)
	}
	*s = nil
	return b[:0]
}

// keep keeps b for the next take, unless that is more than most bytes or less than is kept already.
func (s *spareBytes) keep(b []byte, most int) {
	if cap(b) <= most && cap(b) > cap(*s) {
		*s = b
	}
}
