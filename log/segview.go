package log

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// maxViews bounds the segments that are open for reading, and so their descriptors and indexes: an
// index of 64 MiB takes 160 KiB.
const maxViews = 64

// segmentView is a segment opened for reading. It does not change: when an active segment grows,
// readers open another view.
type segmentView struct {
	path  string
	file  File
	marks []mark
	data  int64 // where entries start
	end   int64 // where they end
	next  place // behind the last entry; only its time is used
	first int64 // append time of the first entry
	refs  int   // guarded by the cache; one is the cache's own

	// left is where a read ended. The next one mostly goes on there and has nothing to look for.
	left atomic.Pointer[cursor]
}

// cursor is the position of the entry that starts with an offset.
type cursor struct {
	offset uint64
	pos    int64
}

type viewKey struct {
	path string
	size int64
}

// viewCache keeps recently used views open.
type viewCache struct {
	mu    sync.Mutex // guards the rest
	views map[viewKey]*segmentView
	order []viewKey // least recently used first
}

func (c *viewCache) get(k viewKey) *segmentView {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.views[k]
	if v == nil {
		return nil
	}
	v.refs++
	i := slices.Index(c.order, k)
	c.order = append(slices.Delete(c.order, i, i+1), k)
	return v
}

// add puts a new view, with a reference for the caller, into the cache.
func (c *viewCache) add(k viewKey, v *segmentView) *segmentView {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.views[k]; old != nil {
		_ = v.file.Close() // read only
		old.refs++
		return old
	}
	if c.views == nil {
		c.views = make(map[viewKey]*segmentView)
	}
	v.refs = 2
	c.views[k] = v
	c.order = append(c.order, k)
	for len(c.order) > maxViews {
		c.evictLocked(0)
	}
	return v
}

func (c *viewCache) evictLocked(i int) {
	k := c.order[i]
	c.order = slices.Delete(c.order, i, i+1)
	v := c.views[k]
	delete(c.views, k)
	c.unrefLocked(v)
}

func (c *viewCache) unrefLocked(v *segmentView) {
	if v.refs--; v.refs == 0 {
		_ = v.file.Close() // read only
	}
}

func (c *viewCache) release(v *segmentView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unrefLocked(v)
}

// forget closes the views of files for which gone returns true.
func (c *viewCache) forget(gone func(path string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.order) - 1; i >= 0; i-- {
		if gone(c.order[i].path) {
			c.evictLocked(i)
		}
	}
}

// view opens a segment for reading. bound is the index at which the next segment starts, 0 for the
// active one. Release it with the cache.
func (s *Store) view(seg *segment, seed uint32, bound uint64) (*segmentView, error) {
	k := viewKey{seg.path, seg.size}
	if v := s.views.get(k); v != nil {
		return v, nil
	}
	f, err := s.options.FS.Open(seg.path, false, false)
	if err != nil {
		return nil, err
	}
	v, err := s.loadView(f, seg, seed, bound)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s.views.add(k, v), nil
}

// loadView finds out where the entries are. Header and footer are derived from what else is known when they are damaged,
// but not when they could not be read. It reports damage when nothing can fail any more, because who fails tries again.
func (s *Store) loadView(f File, seg *segment, seed uint32, bound uint64) (*segmentView, error) {
	v := &segmentView{path: seg.path, file: f, data: seg.data, end: seg.size, next: seg.end, first: seg.first}
	var header error
	if v.data == 0 {
		var h headerInfo
		if h, header = readSegmentHeader(f); header != nil && !errors.Is(header, errSegmentHeader) {
			return nil, header
		}
		v.data = max(h.data, segmentHeader) // without a header, the walk finds the first entry
	}
	if seg.indexed {
		v.marks = seg.marks
	} else if err := s.indexView(v, seg, seed, bound); err != nil {
		return nil, err
	}
	if header != nil {
		s.reportDamage(seg.path, 0, header)
	}
	return v, nil
}

// indexView sets the marks and the end of a view: from the footer, or else from the entries.
func (s *Store) indexView(v *segmentView, seg *segment, seed uint32, bound uint64) error {
	damaged := false
	if bound != 0 {
		info, err := readFooter(v.file, seg.size)
		switch damaged = errors.Is(err, errFooter); {
		case err == nil:
			v.marks, v.end, v.next, v.first = info.marks, info.dataEnd, info.next, info.first
			return nil
		case !damaged && !errors.Is(err, errNoFooter):
			return err
		}
	}
	if err := v.index(seed, seg.start.index, bound); err != nil || bound == 0 {
		return err
	}
	if damaged {
		s.reportDamage(seg.path, seg.size, errFooter)
	}
	switch {
	case v.next.index < bound:
		s.reportDamage(seg.path, seg.size, errNoFooter)
	case !damaged:
		s.noteUnsealed(seg.path, v.end)
	}
	return nil
}

// noteUnsealed logs, once, that a segment has its last entry but no footer: a write failed behind, or something cleared
// the footer.
func (s *Store) noteUnsealed(name string, end int64) {
	if _, known := s.unsealed.LoadOrStore(name, true); !known {
		s.logger.Warn("segment has no footer: its index was made again from its entries", "path", name, "pos", end)
	}
}

// index builds the marks by walking the whole segment.
func (v *segmentView) index(seed uint32, from, bound uint64) error {
	size, err := v.file.Size()
	if err != nil {
		return err
	}
	w := walker{file: v.file, seed: seed, pos: v.data, end: min(v.end, size), index: from, bound: bound}
	for {
		st, ok, err := w.next()
		if err != nil {
			return err
		}
		if !ok {
			v.end = w.pos
			return nil
		}
		if st.bad {
			continue
		}
		v.next = after(&st.entry.Stamp)
		if markDue(v.marks, st.pos) {
			v.marks = append(v.marks, markOf(&st.entry.Stamp, st.pos))
		}
		if v.first == 0 {
			v.first = st.entry.Time
		}
	}
}

// indexActive completes a segment that was found at the restart before it is written to.
func (s *Store) indexActive(seg *segment, seed uint32) error {
	if seg.indexed {
		return nil
	}
	v, err := s.view(seg, seed, 0)
	if err != nil {
		return err
	}
	defer s.views.release(v)
	seg.marks = slices.Clone(v.marks)
	seg.data, seg.first, seg.indexed = v.data, v.first, true
	return nil
}
