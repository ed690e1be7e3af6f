package log

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/rafka-mq/rafka/wire"
)

// markBytes is the distance between marks in memory: a lookup walks over at most this many bytes plus one entry.
const markBytes = 4 << 10

// mark is an element of a sparse index. It has no pointers, so that the garbage collector skips it.
type mark struct {
	offset uint64 // base offset of the entry at pos
	index  uint64
	term   uint64
	time   int64 // append time in ms since 1970
	pos    uint32
}

// markOf returns the mark of the entry at pos.
func markOf(st *wire.Stamp, pos int64) mark {
	return mark{offset: st.BaseOffset, index: st.Index, term: st.Term, time: st.Time, pos: uint32(pos)}
}

// place is a position between two entries: offset and index of the next one, term and time of the one before.
type place struct {
	offset uint64 // of the next record
	index  uint64 // of the next entry
	term   uint64 // of the entry before; 0 when there was none
	time   int64  // append time of the entry before
}

// after returns the place behind the entry with stamp s.
func after(s *wire.Stamp) place {
	return place{offset: s.NextOffset(), index: s.NextIndex(), term: s.Term, time: s.Time}
}

// slab is a piece of off-heap memory with whole entries of one log.
//
// Bytes below used, and their marks, never change while anybody holds a reference. So a reader copies used and the
// number of marks under the log's lock, and walks without it.
type slab struct {
	mem   []byte
	class int
	refs  atomic.Int32
	pool  *slabPool

	// The fields below are guarded by the owning log's mutex.
	seq    uint64 // number in the order in which slabs were handed out
	used   int
	sealed bool // no entry is appended any more
	mixed  bool // not all entries are data with consecutive offsets
	start  place
	end    place
	marks  []mark
}

// noteLocked adds the entry at pos to the sparse index if it is due.
func (s *slab) noteLocked(st *wire.Stamp, pos int) {
	if pos >= s.markDueAt() {
		s.marks = append(s.marks, markOf(st, int64(pos)))
	}
}

// markDueAt returns the position from which on an entry gets a mark.
func (s *slab) markDueAt() int {
	if n := len(s.marks); n > 0 {
		return int(s.marks[n-1].pos) + markBytes
	}
	return 0
}

func (s *slab) hold() { s.refs.Add(1) }

// release drops a reference. Dropping the last one returns the memory to the pool.
func (s *slab) release() {
	switch n := s.refs.Add(-1); {
	case n == 0:
		s.pool.put(s)
	case n < 0:
		panic("log: slab released twice")
	}
}

// span is a run of whole entries in one slab. The holder of a span holds a reference of the slab.
type span struct {
	slab     *slab
	from, to int
	start    place
	end      place
}

func releaseSpans(spans []span) {
	for i := range spans {
		spans[i].slab.release()
	}
}

func (p span) bytes() []byte { return p.slab.mem[p.from:p.to:p.to] }

// byIndex returns the position of the first entry with an index of at least index, or used when there is none, and the
// place in front of it.
func (s *slab) byIndex(index uint64) (int, place) {
	i := len(s.marks)
	for i > 0 && s.marks[i-1].index >= index { // mostly it is near the end
		i--
	}
	if i == 0 {
		return 0, s.start
	}
	at := s.start
	pos := int(s.marks[i-1].pos)
	for pos < s.used {
		var st wire.Stamp
		st.View(s.mem[pos:])
		if st.Index >= index {
			at.offset, at.index = st.BaseOffset, st.Index
			break
		}
		at = after(&st)
		pos += st.Size()
	}
	return pos, at
}

// markAt returns the position of the last mark whose entry starts at or below offset.
func markAt(marks []mark, offset uint64) int {
	i, _ := slices.BinarySearchFunc(marks, offset+1, func(m mark, x uint64) int {
		return cmp.Compare(m.offset, x)
	})
	if i == 0 {
		return 0
	}
	return int(marks[i-1].pos)
}
