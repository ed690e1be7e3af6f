package log

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/rafka-mq/rafka/wire"
)

// buffers holds the memory of cold reads. A buffer belongs to a Chunk until its Release.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBuffer keeps a rare large read from pinning its memory.
const maxPooledBuffer = 1 << 20

func getBuffer(n int) *[]byte {
	b := buffers.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooledBuffer {
		buffers.Put(b)
	}
}

// ReadCold is Read for offsets that may no longer be in memory. It may wait for the disk, so it
// belongs in a worker goroutine. It checks every checksum of what it returns. Damage is reported as
// a CorruptError when the read starts in it; go on at its Next.
func (l *Log) ReadCold(c *Chunk, offset, limit uint64, maxBytes int) error {
	c.Next = offset
	for {
		err := l.Read(c, offset, limit, maxBytes)
		if !errors.Is(err, ErrCold) {
			return err
		}
		c.Release()
		at, ok := l.locate(offset)
		if !ok {
			continue // it moved: back to memory, or below the start
		}
		if at.seg == nil {
			return l.lost(c, l.gap(offset, min(at.end.offset, limit)))
		}
		// A segment can have more than counts of it: what a checkpoint wrote that was not completed.
		err = l.readSegment(c, at, offset, min(limit, at.end.offset), maxBytes)
		if (err != nil || c.Bytes == 0) && !l.has(at.seg) {
			c.Release()
			c.Next = offset
			continue // it was cut, compacted or removed meanwhile
		}
		if err = l.store.checkMissing(err); missing(err) {
			return l.lost(c, CorruptError{Path: at.seg.path, First: offset, Next: min(at.end.offset, limit), Err: err})
		}
		return err
	}
}

// location is a segment with its bounds, as it was under the log's lock.
type location struct {
	seg   *segment // nil when the offset is in a gap in front of the first segment
	end   place    // where what follows starts
	bound uint64   // for Store.view: the index at end, or 0 while the segment is written to
}

// locate finds the segment that has or should have offset.
func (l *Log) locate(offset uint64) (location, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < l.first || len(l.slabs) > 0 && offset >= l.hotLocked() {
		return location{}, false
	}
	if offset >= l.filed.offset { // entries were lost behind what is filed
		at := location{end: l.next}
		if len(l.slabs) > 0 {
			at.end = l.slabs[0].start
		}
		return at, true
	}
	i, _ := slices.BinarySearchFunc(l.segments, offset+1, func(s *segment, x uint64) int {
		return cmp.Compare(s.start.offset, x)
	})
	return l.segmentLocked(l.segments, i-1), true
}

// segmentAt is segmentLocked for a caller that does not hold the lock.
func (l *Log) segmentAt(segments []*segment, i int) location {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segmentLocked(segments, i)
}

// segmentLocked returns segment i of segments with its bounds, or with -1 the gap in front of the first one.
func (l *Log) segmentLocked(segments []*segment, i int) location {
	at := location{end: l.filed}
	if i >= 0 {
		at.seg = segments[i]
	}
	if i+1 < len(segments) {
		at.end = segments[i+1].start
	} else if !l.spoiled {
		return at
	}
	at.bound = at.end.index
	return at
}

// has reports whether what was known of a segment is still so, but that it may have grown.
func (l *Log) has(seg *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.segments, func(s *segment) bool { return s.path == seg.path })
}

// errReplaced is returned for a segment that is not one any more.
var errReplaced = errors.New("segment was replaced while it was read")

// readSegment reads from one segment file.
func (l *Log) readSegment(c *Chunk, at location, offset, limit uint64, maxBytes int) error {
	v, err := l.store.view(at.seg, l.seed, at.bound)
	if err != nil {
		return err
	}
	defer l.store.views.release(v)
	if ok, err := l.readOn(c, v, offset, limit, maxBytes); ok || err != nil {
		return err
	}
	first, err := v.find(l.seed, offset)
	if err != nil {
		return err
	}
	damage := CorruptError{Path: v.path, Pos: first.pos, First: offset, Err: errMissing}
	switch e := &first.entry; {
	case !l.has(at.seg):
		return errReplaced
	case first.end == 0:
		damage.Pos, damage.Next = v.end, min(at.end.offset, limit)
		if size, err := v.file.Size(); err == nil && size < v.end {
			damage.Pos, damage.Err = size, errShort
		}
		return l.lost(c, damage)
	case e.BaseOffset > offset:
		damage.Next = min(e.BaseOffset, limit)
		return l.lost(c, damage)
	case first.bad:
		damage.Next, damage.Err = min(e.NextOffset(), limit), errEntry
		return l.lost(c, damage)
	case e.NextOffset() > limit:
		return nil
	}
	size := int(min(max(int64(maxBytes), first.end-first.pos), v.end-first.pos))
	return l.readAt(c, v, first.pos, size, limit, maxBytes)
}

// lookBytes is how much is read to find an entry. Behind a mark that mostly includes the whole entry.
const lookBytes = 2 * segmentMarkBytes

// readOn reads from where the last read of the segment ended, and reports whether that was the place.
// Whatever stands in the way there is not its business.
func (l *Log) readOn(c *Chunk, v *segmentView, offset, limit uint64, maxBytes int) (ok bool, err error) {
	at := v.left.Load()
	if at == nil || at.offset != offset || at.pos >= v.end {
		return false, nil
	}
	if err := l.readAt(c, v, at.pos, readSize(v, at.pos, maxBytes), limit, maxBytes); err != nil {
		return false, err
	}
	if c.Bytes > 0 {
		return true, nil
	}
	c.Release()
	c.Next = offset
	return false, nil
}

// readSize returns how many bytes a read for maxBytes of entries takes at a position.
func readSize(v *segmentView, pos int64, maxBytes int) int {
	return int(min(int64(max(maxBytes, lookBytes)), v.end-pos))
}

// readAt reads size bytes at a position of the segment and takes the intact entries in them.
func (l *Log) readAt(c *Chunk, v *segmentView, pos int64, size int, limit uint64, maxBytes int) error {
	c.buffer = getBuffer(size)
	if err := readEntries(v.file, *c.buffer, pos); err != nil {
		c.Release()
		return err
	}
	l.collect(c, v, pos, limit, maxBytes)
	return nil
}

// collect takes the intact entries in c's buffer, which holds what is at pos, and notes where they end.
func (l *Log) collect(c *Chunk, v *segmentView, pos int64, limit uint64, maxBytes int) {
	end := c.collectChecked(*c.buffer, l.seed, limit, maxBytes)
	v.left.Store(&cursor{offset: c.Next, pos: pos + int64(end)})
}

// find returns the entry with the smallest offsets that ends behind offset: data, or a gap that
// compaction left. Its end is 0 when there is none. Its payload is not valid.
func (v *segmentView) find(seed uint32, offset uint64) (step, error) {
	window := getBuffer(lookBytes)
	w := walker{file: v.file, seed: seed, pos: v.data, end: v.end, ahead: lookBytes, window: (*window)[:0]}
	defer func() {
		*window = w.window
		putBuffer(window)
	}()
	if p := markAt(v.marks, offset); p != 0 {
		w.pos = int64(p)
	}
	for {
		s, ok, err := w.next()
		if err != nil || !ok {
			return step{}, err
		}
		if s.entry.Count > 0 && s.entry.NextOffset() > offset {
			return s, nil
		}
	}
}

// collectChecked adds the entries in b that are intact and adjacent in offsets, and returns where it
// stopped: in front of an entry.
func (c *Chunk) collectChecked(b []byte, seed uint32, limit uint64, maxBytes int) (end int) {
	from, pos := -1, 0
	for pos < len(b) {
		e, _, err := wire.ParseEntry(b[pos:], seed)
		if err != nil {
			break
		}
		if e.Kind != wire.KindData {
			if e.Kind == wire.KindGap && e.BaseOffset <= c.Next && e.NextOffset() <= limit {
				c.Next = max(c.Next, e.NextOffset())
			}
			from = c.flush(b, from, pos)
			pos += e.Size()
			continue
		}
		if !c.wants(&e.Stamp, limit, maxBytes) || e.BaseOffset > c.Next || c.Bytes > 0 && e.BaseOffset != c.Next {
			break
		}
		if from < 0 {
			if len(c.Slices) == maxSlices {
				return pos
			}
			from = pos
		}
		c.Bytes += e.Size()
		c.Next = e.NextOffset()
		pos += e.Size()
	}
	c.flush(b, from, pos)
	return pos
}
