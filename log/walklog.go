package log

import (
	"cmp"
	"errors"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// walk calls fn for the intact entries of the log with an index of at least from, oldest first, until fn returns false.
// It skips damage. The entry is valid during the call. It waits for the disk.
func (l *Log) walk(from uint64, fn func(wire.Entry) bool) error {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return ErrClosed
		}
		if from < l.prev.index {
			l.mu.Unlock()
			return ErrTruncated
		}
		if len(l.slabs) > 0 && from >= l.slabs[0].start.index || from >= l.filed.index {
			spans := l.spansLocked(nil, from)
			l.mu.Unlock()
			l.walkSpans(spans, fn)
			return nil
		}
		i, _ := slices.BinarySearchFunc(l.segments, from+1, func(s *segment, x uint64) int {
			return cmp.Compare(s.start.index, x)
		})
		at := l.segmentLocked(l.segments, i-1)
		l.mu.Unlock()
		if at.seg != nil {
			more, err := l.walkSegment(at, from, fn)
			err = l.store.checkMissing(err)
			switch {
			case missing(err) && !l.has(at.seg):
				continue
			case err != nil && !missing(err):
				return err
			case err == nil && !more:
				return nil
			}
		}
		from = at.end.index
	}
}

func (l *Log) walkSpans(spans []span, fn func(wire.Entry) bool) {
	more := true
	for _, p := range spans {
		for b := p.bytes(); more && len(b) > 0; {
			var e wire.Entry
			e, b, _ = wire.ViewEntry(b)
			more = fn(e)
		}
		p.slab.release()
	}
}

func (l *Log) walkSegment(at location, from uint64, fn func(wire.Entry) bool) (bool, error) {
	v, err := l.store.view(at.seg, l.seed, at.bound)
	if err != nil {
		return false, err
	}
	defer l.store.views.release(v)
	w := walker{file: v.file, seed: l.seed, pos: v.data, end: v.end, bound: at.bound}
	for _, m := range v.marks {
		if m.index > from {
			break
		}
		w.pos = int64(m.pos)
	}
	for {
		st, ok, err := w.next()
		if err != nil || !ok {
			return true, err
		}
		if !st.bad && st.entry.NextIndex() > from && !fn(st.entry) {
			return false, nil
		}
	}
}

// State returns the owner's state that was found when the store was opened, or nil when there is none. After Replay it
// returns nil. The caller must not modify it.
func (l *Log) State() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.found.blob) == 0 {
		return nil // a checkpoint came before the owner
	}
	return l.found.blob
}

// Replay calls fn for every intact entry behind the last one in State, in order, so that the owner can rebuild its state.
// The entry is valid during the call. Call Replay once, before the first append, and again after an error; Config.State
// is not called before it has succeeded, and after Suspend not before Resume. Replay stops at the first error of fn and
// returns it.
func (l *Log) Replay(fn func(e wire.Entry) error) error {
	l.mu.Lock()
	from := max(l.found.index+1, l.prev.index)
	l.mu.Unlock()
	var failed error
	err := l.walk(from, func(e wire.Entry) bool {
		failed = fn(e)
		return failed == nil
	})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replayedLocked()
	return nil
}

// replayedLocked notes that the owner has rebuilt its state. A suspended log waits for the owner to say so.
func (l *Log) replayedLocked() {
	if !l.unread {
		l.found, l.ready = snapshot{}, true
	}
}

// OffsetAt returns the offset of the first record that was appended at ms (milliseconds since 1970) or later, but not
// below the start of the log. When there is none, it returns the next offset. The append times of records that can be read
// never go back. It may wait for the disk.
func (l *Log) OffsetAt(ms int64) (uint64, error) {
	p := l.Positions()
	from, ok := l.memoryIndexAt(ms)
	if !ok {
		var err error
		if from, err = l.fileIndexAt(ms); err != nil {
			return 0, err
		}
	}
	found := p.Next
	err := l.walk(from, func(e wire.Entry) bool {
		if e.Kind != wire.KindData || e.Time < ms || e.NextOffset() <= p.First {
			return true
		}
		found = e.BaseOffset
		return false
	})
	return max(found, p.First), err
}

// memoryIndexAt returns the index of an entry at or a little before the first one with an append time of at least ms, and
// whether that one is in memory.
func (l *Log) memoryIndexAt(ms int64) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.slabs)
	if n == 0 || l.slabs[0].start.time >= ms && len(l.segments) > 0 {
		return 0, false
	}
	i, _ := slices.BinarySearchFunc(l.slabs, ms, func(s *slab, x int64) int { return cmp.Compare(s.end.time, x) })
	s := l.slabs[min(i, n-1)]
	return max(l.prev.index, markBefore(s.marks, s.start.index, ms)), true // the slab may begin with what was purged
}

// fileIndexAt is memoryIndexAt for entries in segments.
func (l *Log) fileIndexAt(ms int64) (uint64, error) {
	l.mu.Lock()
	segments, filed := l.segments, l.filed.index
	l.mu.Unlock()
	lo, hi := 0, len(segments)
	for lo < hi {
		mid := (lo + hi) / 2
		end, err := l.segmentEnd(segments, mid)
		if err != nil {
			return 0, err
		}
		if end.time < ms {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(segments) {
		return filed, nil
	}
	return l.segmentIndexAt(segments, lo, ms)
}

func (l *Log) segmentIndexAt(segments []*segment, i int, ms int64) (uint64, error) {
	at := l.segmentAt(segments, i)
	v, err := l.store.view(at.seg, l.seed, at.bound)
	if err != nil {
		if missing(err) {
			return at.seg.start.index, nil
		}
		return 0, err
	}
	defer l.store.views.release(v)
	return markBefore(v.marks, at.seg.start.index, ms), nil
}

// markBefore returns the index of the last mark with a time before ms, or start when there is none.
func markBefore(marks []mark, start uint64, ms int64) uint64 {
	i, _ := slices.BinarySearchFunc(marks, ms, func(m mark, x int64) int { return cmp.Compare(m.time, x) })
	if i == 0 {
		return start
	}
	return marks[i-1].index
}
