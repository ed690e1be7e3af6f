package partition

import (
	"slices"
	"sort"
)

// scheduled is messages that wait to be published: what is in memory of them. Their ids follow each other,
// they are due together, and they stand in one batch of the companion log.
type scheduled struct {
	due   int64  // ms since 1970
	id    uint64 // of the first one, by which users know it
	place uint64 // its offset in the companion log, and in the low 16 bits how many follow it
}

// maxRange bounds the messages of one scheduled: a turn of the scheduler takes whole ones.
const maxRange = 4096

// waits returns what is in memory of count messages, at most maxRange.
func waits(due int64, id, at, count uint64) scheduled {
	return scheduled{due: due, id: id, place: at<<16 | (count - 1)}
}

func (s *scheduled) at() uint64    { return s.place >> 16 }
func (s *scheduled) count() uint64 { return s.place&0xffff + 1 }
func (s *scheduled) end() uint64   { return s.id + s.count() }

// slice returns the messages with the ids [first, next), which are some of s.
func (s *scheduled) slice(first, next uint64) scheduled {
	return waits(s.due, first, s.at()+first-s.id, next-first)
}

// before is the order in which messages are published.
func (s *scheduled) before(o *scheduled) bool {
	return s.due < o.due || s.due == o.due && s.id < o.id
}

// heapChunk is how many items are allocated together: a slice that doubles would for a moment take
// three times the memory.
const heapChunk = 4096

// scheduleIndex is a heap of what waits, the earliest first. It takes 24 bytes an item, which is one message or
// many, and has no pointers for the garbage collector to follow.
type scheduleIndex struct {
	chunks [][]scheduled // each of heapChunk
	n      int
	waits  int            // messages
	pages  map[uint64]int // items by at/atPage, but for those in recent
	recent pageCount      // the page that changed last: neighbours are added together
}

// pageCount is a page and a number of items to be added to it.
type pageCount struct {
	page  uint64
	items int
}

// atPage is how many neighbouring entries of the companion log are counted together.
const atPage = 4096

func (x *scheduleIndex) item(i int) *scheduled { return &x.chunks[i/heapChunk][i%heapChunk] }

func (x *scheduleIndex) swap(i, j int) {
	a, b := x.item(i), x.item(j)
	*a, *b = *b, *a
}

// first returns the earliest item, nil when there is none.
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
	x.waits += int(s.count())
	x.n++
	x.up(x.n - 1)
}

// pop removes the earliest item, which must exist.
func (x *scheduleIndex) pop() scheduled { return x.remove(0) }

// remove takes out the item at a place of the heap.
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
	x.waits -= int(s.count())
	return s
}

// find returns the place of an id, -1 when it does not wait. It looks at every item: cancelling is rare.
func (x *scheduleIndex) find(id uint64) int {
	for i := range x.n {
		if it := x.item(i); it.id <= id && id < it.end() {
			return i
		}
	}
	return -1
}

// known returns those of the ids that wait, each once and in order. It looks at every item once.
func (x *scheduleIndex) known(ids []uint64) (list []uint64) {
	asked := slices.Clone(ids)
	slices.Sort(asked)
	asked = slices.Compact(asked)
	for i := range x.n {
		list = append(list, x.item(i).among(asked)...)
	}
	slices.Sort(list)
	return list
}

// among returns those of the ids, which are in order, that s has.
func (s *scheduled) among(ids []uint64) []uint64 {
	from, _ := slices.BinarySearch(ids, s.id)
	ids = ids[from:]
	return ids[:sort.Search(len(ids), func(i int) bool { return ids[i] >= s.end() })]
}

// fewDropped is up to how many items are looked for one by one: more are cheaper with a new heap.
const fewDropped = 4

// drop removes the messages with these ids, which are in order and must wait.
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

// pushWithout adds what is left of s without these ids, which are in order and all of s.
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

// pushAll adds count messages, of which there may be more than a scheduled can have.
func (x *scheduleIndex) pushAll(due int64, id, at, count uint64) {
	for ; count > 0; count -= min(count, maxRange) {
		n := min(count, maxRange)
		x.push(waits(due, id, at, n))
		id, at = id+n, at+n
	}
}

// move says that an item is at another offset now.
func (x *scheduleIndex) move(i int, at uint64) {
	s := x.item(i)
	x.count(s.at(), -1)
	*s = waits(s.due, s.id, at, s.count())
	x.count(at, 1)
}

func (x *scheduleIndex) count(at uint64, n int) {
	if at/atPage != x.recent.page {
		x.settle()
		x.recent.page = at / atPage
	}
	x.recent.items += n
}

// settle adds recent to pages.
func (x *scheduleIndex) settle() {
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

// low returns the number of the lowest page with items, and how many are in it.
func (x *scheduleIndex) low() (page uint64, items int) {
	x.settle()
	page = ^uint64(0)
	for p, n := range x.pages {
		if p < page {
			page, items = p, n
		}
	}
	return page, items
}

// after returns the messages behind one in the order of publishing, one by one, at most limit, in that order.
func (x *scheduleIndex) after(last scheduled, limit int) []scheduled {
	var best scheduleIndex // the latest of the earliest on top: due and id are negated
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
