package log

// retainMemoryLocked drops whole slabs from the head of a log in a memory-only store.
func (l *Log) retainMemoryLocked(nowMs int64) {
	for len(l.slabs) > 0 {
		s := l.slabs[0]
		if s.end.offset > l.first && !l.expiredLocked(s.end, int64(s.used), nowMs) {
			return
		}
		l.dropSlabLocked()
		l.first = max(l.first, l.prev.offset)
	}
}

// dropSlabLocked lets go of the oldest slab.
func (l *Log) dropSlabLocked() {
	s := l.slabs[0]
	l.stats.dropped(s.end.offset-s.start.offset, s.end.index-s.start.index, int64(s.used))
	l.prev = s.end
	copy(l.slabs, l.slabs[1:])
	l.slabs[len(l.slabs)-1] = nil
	l.slabs = l.slabs[:len(l.slabs)-1]
	s.release()
}

// expiredLocked reports whether retention lets go of the first size bytes of the log, which end at
// end. Limits of bytes and records keep at least what they say.
func (l *Log) expiredLocked(end place, size, nowMs int64) bool {
	r := l.config.Retention
	switch {
	case r.Age > 0 && end.time+r.Age.Milliseconds() < nowMs:
		return true
	case r.Bytes > 0 && l.stats.bytes-size >= r.Bytes:
		return true
	case r.Count > 0 && l.next.offset-end.offset >= uint64(r.Count):
		return true
	}
	return false
}
