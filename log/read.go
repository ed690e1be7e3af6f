package log

import (
	"cmp"
	"slices"
	"sort"

	"github.com/rafka-mq/rafka/wire"
)

// maxSlices bounds the pieces of one Chunk: a writev with more than 1,024 fails, and 64 is past the
// point where more pieces help.
const maxSlices = 64

// Chunk is what a read returned. The zero value is ready. It is not safe for concurrent use.
//
// The bytes belong to the log: they must not be modified, and they are valid until Release.
type Chunk struct {
	Slices [][]byte // whole data entries in order; adjacent entries are joined
	Next   uint64   // offset behind the last entry: where to read on
	Bytes  int      // of all Slices

	// Dropped counts the records that Keep took out.
	Dropped int

	slabs  []*slab // one reference each
	views  []view
	buffer *[]byte // of a cold read
	kept   [][]byte
}

// view is a slab as it was under the log's lock.
type view struct {
	mem   []byte // up to used
	marks []mark
	mixed bool
}

// Release gives the bytes back. The Chunk can then be read into again without allocating.
func (c *Chunk) Release() {
	for i, s := range c.slabs {
		s.release()
		c.slabs[i] = nil
	}
	clear(c.Slices)
	clear(c.views)
	c.slabs, c.views, c.Slices = c.slabs[:0], c.views[:0], c.Slices[:0]
	c.Bytes, c.Dropped = 0, 0
	if c.buffer != nil {
		putBuffer(c.buffer)
		c.buffer = nil
	}
}

// Read sets c to the stored entries from the one that contains offset, as far as they are in memory,
// end at or below limit, and fit in maxBytes; the first one is returned whatever its size. Entries
// that are no data are left out. With nothing to return, c is empty and c.Next is where to go on:
// offset, or behind what holds no data.
//
// It returns ErrCold when offset is no longer in memory, ErrTruncated or ErrOutOfRange when it is
// outside the log, and a CorruptError when its records are lost. It does not block or allocate.
// Release c first when it was used before.
func (l *Log) Read(c *Chunk, offset, limit uint64, maxBytes int) error {
	c.Next = offset
	l.mu.Lock()
	if err := l.checkOffsetLocked(offset); err != nil {
		l.mu.Unlock()
		return err
	}
	if offset >= min(limit, l.next.offset) {
		l.mu.Unlock()
		return nil
	}
	if offset < l.hotLocked() {
		l.mu.Unlock()
		return ErrCold
	}
	l.holdLocked(c, offset, maxBytes)
	poison, end := l.store.options.Poison, l.next.offset
	l.mu.Unlock()

	limit = min(limit, end)
	for i := range c.views {
		if !c.collect(&c.views[i], offset, limit, maxBytes, poison) {
			break
		}
	}
	return l.gapInMemory(c, offset, limit)
}

// hotLocked returns the offset from which on records are read from memory.
func (l *Log) hotLocked() uint64 {
	if len(l.slabs) == 0 {
		return l.next.offset
	}
	return max(l.slabs[0].start.offset, l.hidden)
}

func (l *Log) checkOffsetLocked(offset uint64) error {
	switch {
	case l.closed:
		return ErrClosed
	case offset < l.first:
		return ErrTruncated
	case offset > l.next.offset:
		return ErrOutOfRange
	}
	return nil
}

// holdLocked references the slabs from the one with offset on that maxBytes can need.
func (l *Log) holdLocked(c *Chunk, offset uint64, maxBytes int) {
	i, _ := slices.BinarySearchFunc(l.slabs, offset+1, func(s *slab, x uint64) int {
		return cmp.Compare(s.start.offset, x)
	})
	// Slabs without data can start at the same offset; the one before i is the last of them.
	budget := maxBytes
	for j := max(i-1, 0); j < len(l.slabs) && len(c.slabs) < maxSlices; j++ {
		s := l.slabs[j]
		s.hold()
		c.slabs = append(c.slabs, s)
		c.views = append(c.views, view{mem: s.mem[:s.used:s.used], marks: s.marks, mixed: s.mixed})
		if j >= i {
			if budget -= s.used; budget < 0 {
				break
			}
		}
	}
}

// collect adds the entries of one slab and reports whether the next slab may add more. A gap in the
// offsets ends it: what is behind is another read.
func (c *Chunk) collect(v *view, offset, limit uint64, maxBytes int, poison bool) bool {
	pos := markAt(v.marks, offset)
	from := -1 // start of the open run
	for pos < len(v.mem) {
		var st wire.Stamp
		st.View(v.mem[pos:])
		if poison && st.Kind == poisonByte {
			panic("log: read of a released slab")
		}
		end := pos + st.Size()
		switch take := c.wants(&st, limit, maxBytes); {
		case st.Kind != wire.KindData || st.NextOffset() <= offset:
			from = c.flush(v.mem, from, pos)
		case !take || c.Bytes > 0 && st.BaseOffset != c.Next || c.Bytes == 0 && st.BaseOffset > c.Next:
			c.flush(v.mem, from, pos)
			return false
		default:
			opens := from < 0
			if opens {
				if len(c.Slices) == maxSlices {
					return false
				}
				from = pos
			}
			c.Bytes += st.Size()
			c.Next = st.NextOffset()
			if opens && !v.mixed {
				end = c.leap(v.marks, end, limit, maxBytes)
			}
		}
		pos = end
	}
	c.flush(v.mem, from, pos)
	return true
}

// leap adds the entries from pos up to the last mark that limit and maxBytes allow, and returns its position, or pos when
// there is none behind it. It looks at none of them, because to load each stamp takes longer than all the rest of a read.
func (c *Chunk) leap(marks []mark, pos int, limit uint64, maxBytes int) int {
	i := sort.Search(len(marks), func(i int) bool {
		return marks[i].offset > limit || int(marks[i].pos)-pos > maxBytes-c.Bytes
	})
	if i == 0 || int(marks[i-1].pos) <= pos {
		return pos
	}
	end := int(marks[i-1].pos)
	c.Bytes += end - pos
	c.Next = marks[i-1].offset
	return end
}

func (c *Chunk) wants(st *wire.Stamp, limit uint64, maxBytes int) bool {
	return st.NextOffset() <= limit && (c.Bytes == 0 || c.Bytes+st.Size() <= maxBytes)
}

// flush closes the run [from, to) and returns that no run is open.
func (c *Chunk) flush(mem []byte, from, to int) int {
	if from >= 0 {
		c.Slices = append(c.Slices, mem[from:to:to])
	}
	return -1
}

// gapInMemory turns an empty read in front of a gap into its CorruptError.
func (l *Log) gapInMemory(c *Chunk, offset, limit uint64) error {
	if c.Bytes > 0 {
		return nil
	}
	for i := range c.views {
		mem := c.views[i].mem
		for pos := markAt(c.views[i].marks, offset); pos < len(mem); {
			var st wire.Stamp
			st.View(mem[pos:])
			if st.Kind == wire.KindData && st.NextOffset() > offset {
				if st.BaseOffset <= offset {
					return nil // whole, but beyond limit
				}
				return l.lost(c, l.gap(offset, min(st.BaseOffset, limit)))
			}
			pos += st.Size()
		}
	}
	return l.lost(c, l.gap(offset, limit))
}
