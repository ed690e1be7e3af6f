package partition

// scheduled is one batch that waits to be published: what is in memory of it.
type scheduled struct {
	due int64  // ms since 1970
	id  uint64 // by which users know it
	at  uint64 // offset of its entry in the companion log
}

// before is the order in which batches are published.
func (s *scheduled) before(o *scheduled) bool {
	return s.due < o.due || s.due == o.due && s.id < o.id
}

// heapChunk is how many items are allocated together: a slice that doubles would for a moment take
// three times the memory.
const heapChunk = 4096

// scheduleIndex is a heap of what waits, the earliest first. It takes 24 bytes an item, and has no
// pointers for the garbage collector to follow.
type scheduleIndex struct {
	chunks [][]scheduled // each of heapChunk
	n      int
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
	x.count(s.at, 1)
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
	x.count(s.at, -1)
	return s
}

// find returns the place of an id, -1 when it does not wait. It looks at every item: cancelling is rare.
func (x *scheduleIndex) find(id uint64) int {
	for i := range x.n {
		if x.item(i).id == id {
			return i
		}
	}
	return -1
}

// known returns those of the ids that wait, each once. It looks at every item once.
func (x *scheduleIndex) known(ids []uint64) (list []uint64) {
	asked := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	for i := range x.n {
		if id := x.item(i).id; asked[id] {
			list = append(list, id)
		}
	}
	return list
}

// fewDropped is up to how many items are looked for one by one: more are cheaper with a new heap.
const fewDropped = 4

// drop removes the items of these ids, which must wait.
func (x *scheduleIndex) drop(ids []uint64) {
	if len(ids) <= fewDropped {
		for _, id := range ids {
			x.remove(x.find(id))
		}
		return
	}
	gone := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		gone[id] = true
	}
	var left scheduleIndex
	for i := range x.n {
		if it := x.item(i); !gone[it.id] {
			left.push(*it)
		}
	}
	*x = left
}

// move says that an item's entry is at another offset now.
func (x *scheduleIndex) move(i int, at uint64) {
	s := x.item(i)
	x.count(s.at, -1)
	s.at = at
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

// after returns the items behind one in the order of publishing, at most limit, in that order.
func (x *scheduleIndex) after(last scheduled, limit int) []scheduled {
	var best scheduleIndex // the latest of the earliest on top: due and id are negated
	for i := range x.n {
		s := *x.item(i)
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
	list := make([]scheduled, best.n)
	for i := len(list) - 1; i >= 0; i-- {
		s := best.pop()
		s.due, s.id = -s.due, ^s.id
		list[i] = s
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
