package log

import (
	"errors"
	"path"
	"slices"
)

// ErrState is returned by TruncateSuffix when the owner's stored state includes an entry that would be cut.
var ErrState = errors.New("log: the owner's state includes the entries to cut")

// cutPlan is the part of a plan that only TruncateSuffix uses.
type cutPlan struct {
	floor    uint64 // chunks of the log below do not count after the cut
	files    bool   // entries in segments are cut
	segments []*segment
	gone     []string // paths of segments that no longer count
}

// TruncateSuffix removes the entries from index on; the next append gets this index. It waits for the disk, and the cut
// is durable when it returns nil. The error is ErrTruncated or ErrOutOfRange for an index outside the log, and ErrState
// when the owner's stored state includes an entry that would be cut. After an error nothing is cut, except that, when
// the error made the log read-only, a restart may find the entries cut.
func (l *Log) TruncateSuffix(index uint64) error {
	s := l.store
	s.filing.Lock()
	defer s.filing.Unlock()
	if err := l.beginCut(index); err != nil {
		return err
	}
	defer l.endCut()
	if s.memoryOnly() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cutMemoryLocked(index)
		l.first = min(l.first, l.next.offset)
		return nil
	}
	p := l.planCut(index)
	if p.cut.files {
		if err := p.cutSegments(index); err != nil {
			p.undo()
			return err
		}
	}
	if p.err == nil && !p.cut.files {
		p.err = p.file()
	}
	if p.err != nil {
		return p.fail()
	}
	s.round.Lock()
	lsn := s.commits.lsn
	s.round.Unlock()
	if err := s.replaceRoot([]*plan{p}, lsn); err != nil {
		p.undo()
		return err
	}
	l.notify(nil)
	if err := l.removeJunk(); err != nil {
		s.logger.Warn("remove cut segments", "path", l.dir(), "err", err)
	}
	return nil
}

// beginCut checks the index, and blocks appends and rounds of the log until endCut.
func (l *Log) beginCut(index uint64) error {
	s := l.store
	if s.broken != nil {
		return s.broken
	}
	s.round.Lock() // a running round may hold entries to cut
	defer s.round.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.failed != nil:
		return l.failed
	case index < l.prev.index:
		return ErrTruncated
	case index > l.next.index:
		return ErrOutOfRange
	case index <= l.state.index:
		return ErrState
	}
	l.cutting = true
	return nil
}

// endCut lets appends and rounds go on.
func (l *Log) endCut() {
	l.mu.Lock()
	l.cutting = false
	queued := l.want > 0 && l.queueLocked()
	l.mu.Unlock()
	if queued {
		ring(l.store.wake)
	}
}

// planCut makes a plan that files the entries that stay. It keeps the owner's last state, because a new one could include
// entries that are cut.
func (l *Log) planCut(index uint64) *plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.planLocked(l.state)
	p.cut = &cutPlan{files: index < l.filed.index}
	if index == l.next.index {
		return p
	}
	p.target = l.filed
	spans := p.spans
	p.spans = nil
	for _, sp := range spans {
		if p.cut.files || sp.start.index >= index {
			sp.slab.release()
			continue
		}
		if sp.end.index > index {
			sp.to, sp.end = sp.slab.byIndex(index)
		}
		p.spans, p.target = append(p.spans, sp), sp.end
	}
	return p
}

// commitCutLocked makes a cut take effect in memory, after the checkpoint file was replaced.
func (p *plan) commitCutLocked() {
	l, c := p.log, p.cut
	if !c.files {
		l.addSegmentsLocked(p.writer.segments)
	} else {
		l.segments, l.spoiled, l.trimmed = c.segments, false, false
		l.cuts++
		l.junk = append(l.junk, c.gone...)
		l.store.views.forget(func(name string) bool { return path.Dir(name) == l.dir() })
	}
	l.cutMemoryLocked(p.target.index)
	l.next, l.filed, l.walNext, l.written, l.durable = p.target, p.target, p.target, p.target, p.target
	l.floor, l.lastLsn, l.lowLsn = c.floor, 0, 0
	l.first = min(l.first, l.next.offset)
	l.corrupt = slices.DeleteFunc(l.corrupt, func(r lostRange) bool { return r.next > l.next.offset })
}

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

// cutSegments plans which segments stay: those with entries before the index, the last of them shortened.
func (p *plan) cutSegments(index uint64) error {
	l := p.log
	l.mu.Lock()
	all, prev := l.segments, l.prev
	l.mu.Unlock()
	n := len(all)
	for n > 0 && all[n-1].start.index >= index {
		n--
	}
	p.cut.segments = all[:n:n]
	for _, s := range all[n:] {
		p.cut.gone = append(p.cut.gone, s.path)
	}
	p.writer.active, p.target = nil, prev
	if n == 0 {
		return nil
	}
	short, end, err := l.shorten(l.segmentAt(all, n-1), index)
	if err != nil {
		return err
	}
	p.cut.segments = slices.Concat(all[:n-1], []*segment{short})
	p.writer.active, p.target = short, end
	return nil
}

// shorten returns a copy of the segment without the entries from index on, and the place where that ends.
func (l *Log) shorten(at location, index uint64) (*segment, place, error) {
	v, err := l.store.view(at.seg, l.seed, at.bound)
	if err != nil {
		return nil, place{}, err
	}
	defer l.store.views.release(v)
	short := *at.seg
	short.data, short.first, short.indexed, short.marks = v.data, v.first, true, nil
	short.cuts = l.cuts + 1
	w := walker{file: v.file, seed: l.seed, pos: v.data, end: v.end}
	end := at.seg.start
	switch h, err := readSegmentHeader(v.file); {
	case err == nil:
		end = h.start
	case !tells(err):
		return nil, place{}, err
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
