package log

import (
	"errors"
	"path"
)

// ErrState is returned by TruncateSuffix for an index that the owner's state already includes.
var ErrState = errors.New("log: the owner's state includes the entries to cut")

// cutMemoryLocked drops the entries from index on that are in memory. Readers keep what they hold:
// a slab that was cut is not appended to again.
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

// recountLocked sums up the bytes that are not filed.
func (l *Log) recountLocked() {
	l.unfiled = 0
	for _, p := range l.spansLocked(nil, l.filed.index) {
		l.unfiled += int64(p.to - p.from)
		p.slab.release()
	}
}

// TruncateSuffix cuts the entries from index on; the next append gets this index. It waits for the
// disk and is durable when it returns nil. It returns ErrTruncated or ErrOutOfRange for an index
// outside the log, and ErrState when the owner's state includes what would be cut.
func (l *Log) TruncateSuffix(index uint64) error {
	s := l.store
	s.filing.Lock()
	defer s.filing.Unlock()
	if err := l.cut(index); err != nil || s.memoryOnly() {
		return err
	}
	s.rootChanged = true
	return s.checkpointLocked(func(o *Log) bool { return o == l && o.dirtyLocked() })
}

// cut cuts the log in memory and forgets segments. No round and no checkpoint runs meanwhile.
func (l *Log) cut(index uint64) error {
	s := l.store
	s.round.Lock()
	defer s.round.Unlock()
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return ErrClosed
	case index < l.prev.index:
		l.mu.Unlock()
		return ErrTruncated
	case index > l.next.index:
		l.mu.Unlock()
		return ErrOutOfRange
	case index <= l.state.index:
		l.mu.Unlock()
		return ErrState
	}
	inFiles := index < l.filed.index
	l.mu.Unlock()
	if inFiles {
		if err := l.cutSegments(index); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutMemoryLocked(index)
	if inFiles {
		l.next = l.filed
	}
	if s.memoryOnly() {
		l.first = min(l.first, l.next.offset)
		return nil
	}
	l.floor = s.commits.lsn
	l.lastLsn, l.lowLsn = 0, 0
	for _, p := range []*place{&l.walNext, &l.written, &l.durable} {
		if p.index > l.next.index {
			*p = l.next
		}
	}
	// Chunks before the cut no longer count: what is not filed is written again.
	l.walNext = l.filed
	l.durable = l.filed
	l.written = l.filed
	l.first = min(l.first, l.next.offset)
	return nil
}

// cutSegments drops segments from index on and shortens the one that has it.
func (l *Log) cutSegments(index uint64) error {
	l.mu.Lock()
	n := len(l.segments)
	for n > 0 && l.segments[n-1].start.index >= index {
		n--
	}
	var last *segment
	bound := uint64(0)
	if n > 0 {
		last = l.segments[n-1]
		if n < len(l.segments) {
			bound = l.segments[n].start.index
		}
	}
	l.mu.Unlock()
	var end place
	var short *segment
	if last == nil {
		l.mu.Lock()
		end = l.prev
		l.mu.Unlock()
	} else {
		var err error
		if short, end, err = l.shorten(last, bound, index); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments[n:] {
		l.stale = append(l.stale, s.path)
	}
	l.store.views.forget(func(name string) bool { return path.Dir(name) == l.dir() })
	l.segments = l.segments[:n:n]
	if short != nil {
		l.segments = append(l.segments[:n-1:n-1], short)
	}
	l.spoiled = false
	l.filed = end
	return nil
}

// shorten returns the segment as it is without the entries from index on, and where it ends then.
func (l *Log) shorten(seg *segment, bound, index uint64) (*segment, place, error) {
	v, err := l.store.view(seg, l.seed, bound)
	if err != nil {
		return nil, place{}, err
	}
	defer l.store.views.release(v)
	short := *seg
	short.data, short.first, short.indexed, short.marks = v.data, v.first, true, nil
	w := walker{file: v.file, seed: l.seed, pos: v.data, end: v.end}
	end := seg.start
	if h, err := readSegmentHeader(v.file); err == nil {
		end = h.start
	}
	short.size = v.data
	for _, m := range v.marks {
		if m.index < index {
			short.marks = append(short.marks, m)
			w.pos = int64(m.pos)
		}
	}
	for {
		st, ok, err := w.next()
		if err != nil {
			return nil, place{}, err
		}
		if !ok || !st.bad && st.entry.Index >= index {
			break
		}
		short.size = st.end
		if !st.bad {
			end = after(&st.entry.Stamp)
		}
	}
	end.index = index
	short.end = end
	return &short, end, nil
}
