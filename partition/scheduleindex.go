package partition

import (
	"iter"
	"math/bits"
	"slices"
	"sort"
)

// scheduled is an item of the index: messages that wait to be published, have consecutive ids, are due at the same time
// and stand in one batch of the companion log.
type scheduled struct {
	due   int64  // in ms since 1970
	id    uint64 // of the first message
	place uint64 // offset of the first message in the companion log << 16 | class << 12 | number of messages after it
}

// leastSize is the size of messages of class 0. Those of class c take up to leastSize<<c bytes of the companion log
// each: class 15 is that of the largest batch. So the index knows about how much of the log is still needed.
const leastSize = 256

// maxRange bounds the messages of an item, because a turn of the scheduler takes whole items.
const maxRange = 4096

// newScheduled returns the item of count messages, 1 to maxRange, that start at offset at of the companion log.
func newScheduled(due int64, id, at, count uint64) scheduled {
	return scheduled{due: due, id: id, place: at<<16 | (count - 1)}
}

// ofSize returns s for messages of together size bytes.
func (s scheduled) ofSize(size int) scheduled {
	each := uint64(size) / s.count()
	s.place |= uint64(min(bits.Len64(each/leastSize), 15)) << 12
	return s
}

func (s *scheduled) at() uint64    { return s.place >> 16 }
func (s *scheduled) count() uint64 { return s.place&0xfff + 1 }
func (s *scheduled) end() uint64   { return s.id + s.count() }

// size returns about how many bytes of the companion log the messages take. It is at most half too little, and of small
// messages far too much.
func (s *scheduled) size() int64 { return int64(s.count()) * leastSize << (s.place >> 12 & 0xf) }

// slice returns the part of s with the ids [first, next).
func (s *scheduled) slice(first, next uint64) scheduled {
	part := newScheduled(s.due, first, s.at()+first-s.id, next-first)
	part.place |= s.place & 0xf000
	return part
}

// movedTo returns s at another offset of the companion log.
func (s *scheduled) movedTo(at uint64) scheduled {
	return scheduled{due: s.due, id: s.id, place: at<<16 | s.place&0xffff}
}

// before reports whether s is published before o: by due time, then by id.
func (s *scheduled) before(o *scheduled) bool {
	return s.due < o.due || s.due == o.due && s.id < o.id
}

// heapChunk is how many items are allocated together. One slice that doubles would briefly take three times the
// memory.
const heapChunk = 4096

// scheduleIndex is a heap of the messages that wait, the earliest on top. An item takes 24 bytes and has no pointers
// for the garbage collector to follow.
type scheduleIndex struct {
	chunks   [][]scheduled // each of heapChunk
	n        int           // items
	messages int
	bytes    int64          // about what the messages take of the companion log; see scheduled.size
	pages    map[uint64]int // items by at/atPage, without those in recent
	recent   pageCount      // the page that changed last: neighbours are counted together
}

// pageCount is a number of items to be added to a page; it may be negative.
type pageCount struct {
	page  uint64
	items int
}

// atPage is the number of offsets of the companion log whose items are counted together.
const atPage = 4096

func (x *scheduleIndex) item(i int) *scheduled { return &x.chunks[i/heapChunk][i%heapChunk] }

func (x *scheduleIndex) swap(i, j int) {
	a, b := x.item(i), x.item(j)
	*a, *b = *b, *a
}

// first returns the earliest item, or nil when there is none. It is valid until the index changes.
func (x *scheduleIndex) first() *scheduled {
	if x.n == 0 {
		return nil
	}
	return x.item(0)
}

func (x *scheduleIndex) push(s scheduled) {
	if x.n == len(x.chunks)*heapChunk {
		x.chunks = append(x.chunks, make([]scheduled, heapChunk))
	}
	*x.item(x.n) = s
	x.count(s.at(), 1)
	x.messages += int(s.count())
	x.bytes += s.size()
	x.n++
	x.up(x.n - 1)
}

// pop removes the earliest item, which must exist.
func (x *scheduleIndex) pop() scheduled { return x.remove(0) }

// remove removes the item at position i of the heap.
func (x *scheduleIndex) remove(i int) scheduled {
	s := *x.item(i)
	x.n--
	if i != x.n {
		*x.item(i) = *x.item(x.n)
		if !x.up(i) {
			x.down(i)
		}
	}
	if spare := len(x.chunks)*heapChunk - x.n; spare >= 2*heapChunk {
		x.chunks[len(x.chunks)-1] = nil
		x.chunks = x.chunks[:len(x.chunks)-1]
	}
	x.count(s.at(), -1)
	x.messages -= int(s.count())
	x.bytes -= s.size()
	return s
}

// find returns the position of the item with an id, or -1 when that does not wait. It looks at every item, because
// cancelling is rare.
func (x *scheduleIndex) find(id uint64) int {
	for i := range x.all(id, id) {
		return i
	}
	return -1
}

// all iterates over the items that have some id of [low, high], with their positions. It looks at every item: a million
// take a few milliseconds.
func (x *scheduleIndex) all(low, high uint64) iter.Seq2[int, *scheduled] {
	return func(yield func(int, *scheduled) bool) {
		for c, chunk := range x.chunks {
			chunk = chunk[:max(0, min(len(chunk), x.n-c*heapChunk))]
			for i := range chunk {
				if it := &chunk[i]; it.id <= high && low < it.end() && !yield(c*heapChunk+i, it) {
					return
				}
			}
		}
	}
}

// findAt is find for an item that was at position i a moment ago: it looks there first. Most are still there.
func (x *scheduleIndex) findAt(i int, id uint64) int {
	if i < x.n && x.item(i).id == id {
		return i
	}
	return x.find(id)
}

// known returns those of the ids that wait, sorted and each once. It looks at every item once.
func (x *scheduleIndex) known(ids []uint64) (list []uint64) {
	asked := slices.Clone(ids)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if len(asked) == 0 {
		return nil
	}
	for _, it := range x.all(asked[0], asked[len(asked)-1]) {
		list = append(list, it.among(asked)...)
	}
	slices.Sort(list)
	return list
}

// among returns the part of ids, which must be sorted, that s has.
func (s *scheduled) among(ids []uint64) []uint64 {
	from, _ := slices.BinarySearch(ids, s.id)
	ids = ids[from:]
	return ids[:sort.Search(len(ids), func(i int) bool { return ids[i] >= s.end() })]
}

// fewDropped is the number of ids up to which drop looks for each; for more it is cheaper to build a new heap.
const fewDropped = 4

// drop removes the messages with these ids, which must be sorted and must wait.
func (x *scheduleIndex) drop(ids []uint64) {
	if len(ids) <= fewDropped {
		for i := range ids {
			x.pushWithout(x.remove(x.find(ids[i])), ids[i:i+1])
		}
		return
	}
	var left scheduleIndex
	for i := range x.n {
		it := x.item(i)
		left.pushWithout(*it, it.among(ids))
	}
	*x = left
}

// pushWithout adds s without the messages with these ids, which must be sorted and belong to s.
func (x *scheduleIndex) pushWithout(s scheduled, ids []uint64) {
	from := s.id
	for _, id := range ids {
		if from < id {
			x.push(s.slice(from, id))
		}
		from = id + 1
	}
	if from < s.end() {
		x.push(s.slice(from, s.end()))
	}
}

// pushAll adds count messages of together size bytes, in as many items as necessary.
func (x *scheduleIndex) pushAll(due int64, id, at, count uint64, size int) {
	each := size / int(count)
	for ; count > 0; count -= min(count, maxRange) {
		n := min(count, maxRange)
		x.push(newScheduled(due, id, at, n).ofSize(each * int(n)))
		id, at = id+n, at+n
	}
}

// move changes the offset of the item at position i.
func (x *scheduleIndex) move(i int, at uint64) {
	s := x.item(i)
	x.count(s.at(), -1)
	*s = s.movedTo(at)
	x.count(at, 1)
}

// count adds n to the items of the page of an offset.
func (x *scheduleIndex) count(at uint64, n int) {
	if at/atPage != x.recent.page {
		x.flushRecent()
		x.recent.page = at / atPage
	}
	x.recent.items += n
}

// flushRecent adds recent to pages.
func (x *scheduleIndex) flushRecent() {
	if x.recent.items == 0 {
		return
	}
	if x.pages == nil {
		x.pages = map[uint64]int{}
	}
	if x.pages[x.recent.page] += x.recent.items; x.pages[x.recent.page] == 0 {
		delete(x.pages, x.recent.page)
	}
	x.recent.items = 0
}

// fewItems is the number of items up to which low looks at each. Then a page may be most of the companion log: 4096
// large messages are gigabytes.
const fewItems = 16 * heapChunk

// low returns an offset of the companion log below which no item starts. That is the lowest of them, or with many items
// the start of its page. Without items it is the highest number.
func (x *scheduleIndex) low() uint64 {
	low := ^uint64(0)
	if x.n <= fewItems {
		for i := range x.n {
			low = min(low, x.item(i).at())
		}
		return low
	}
	x.flushRecent()
	for page := range x.pages {
		low = min(low, page*atPage)
	}
	return low
}

// after returns at most limit messages that are published after last, in that order and each as an item of its own.
func (x *scheduleIndex) after(last scheduled, limit int) []scheduled {
	var best scheduleIndex // the limit earliest, the latest of them on top: due and id are negated
	for i := range x.n {
		s := *x.item(i)
		if s.due == last.due && s.id <= last.id && last.id+1 < s.end() {
			s = s.slice(last.id+1, s.end())
		}
		if !last.before(&s) {
			continue
		}
		s.due, s.id = -s.due, ^s.id
		if best.n == limit {
			if top := best.first(); s.before(top) {
				continue
			}
			best.pop()
		}
		best.push(s)
	}
	ranges := make([]scheduled, best.n)
	for i := len(ranges) - 1; i >= 0; i-- {
		s := best.pop()
		s.due, s.id = -s.due, ^s.id
		ranges[i] = s
	}
	var list []scheduled
	for i := 0; i < len(ranges) && len(list) < limit; i++ {
		s := &ranges[i]
		for id := s.id; id < s.end() && len(list) < limit; id++ {
			list = append(list, s.slice(id, id+1))
		}
	}
	return list
}

func (x *scheduleIndex) up(i int) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !x.item(i).before(x.item(parent)) {
			break
		}
		x.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (x *scheduleIndex) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < x.n; child++ {
			if x.item(child).before(x.item(least)) {
				least = child
			}
		}
		if least == i {
			return
		}
		x.swap(i, least)
		i = least
	}
}
