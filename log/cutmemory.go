package log

// cutMemoryLocked drops the entries from index on from memory. Readers may still hold them, so nothing is appended to a
// slab that was cut.
func (l *Log) cutMemoryLocked(index uint64) {
	for n := len(l.slabs); n > 0; n-- {
		s := l.slabs[n-1]
		if s.end.index <= index {
			break
		}
		if s.start.index >= index {
			l.next = s.start
			l.slabs[n-1] = nil
			l.slabs = l.slabs[:n-1]
			s.release()
			continue
		}
		pos, at := s.byIndex(index)
		for k := len(s.marks); k > 0 && int(s.marks[k-1].pos) >= pos; k-- {
			s.marks = s.marks[:k-1]
		}
		s.used, s.end, s.sealed = pos, at, true
		l.next = at
		break
	}
	l.next.index = min(l.next.index, index)
	l.recountLocked()
}

// recountLocked sets unfiled to the size of the entries that are not filed.
func (l *Log) recountLocked() {
	l.unfiled = 0
	for _, p := range l.spansLocked(nil, l.filed.index) {
		l.unfiled += int64(p.to - p.from)
		p.slab.release()
	}
}
