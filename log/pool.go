package log

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Slab classes. The first entries of a partition go to small slabs, so that 1,000 idle partitions fit in 100 MB. A busy
// partition uses normal ones. A large one has room for an entry of the largest frame.
const (
	classSmall = iota
	classNormal
	classLarge
	classes
)

var slabBytes = slabSizes(os.Getpagesize())

// slabSizes returns the size of the slabs of each class. All are whole pages, also where those have 64 KiB: slabs that
// are mapped together are unmapped one by one.
func slabSizes(page int) [classes]int {
	return [classes]int{max(32<<10, page), 1 << 20, wire.MaxFrameBytes + 64<<10}
}

// readyFloor is how many populated slabs an idle store keeps ready, readyCeiling how many it prepares when they are
// taken faster than they are made.
var (
	readyFloor   = [classes]int{8, 2, 0}
	readyCeiling = [classes]int{256, 64, 2}
)

// readyPart bounds the slabs that are kept ready to one in readyPart of the budget.
const readyPart = 8

// workingSet is how much memory a store uses again and again even when the budget is larger, because the first use of
// memory costs more per message than its copy. The rest of the budget is used when filing does not keep up. Filing
// begins when entries that are not filed have all of the working set but half of workingSet, so that there are always
// entries to evict. Eviction frees a quarter of the working set at a time.
const workingSet = 128 << 20

// logSet is what each log with something to file adds to the working set, because filing each costs a flush.
const logSet = 1 << 20

// crowdPart bounds what the slabs that logs append to may take: one in crowdPart of the working set. When slabs of normal
// size for all logs with something to file would take more, entries that fit in small ones go there. Otherwise 1,000
// logs with 300 KiB each would take the whole budget of 1 GiB, and clearing that memory more time than anything else.
const crowdPart = 2

// stateSet is what each byte of the owners' states adds to the working set, because a checkpoint encodes and writes all
// of them.
const stateSet = 8

// trimInterval is how often slabs that were not needed are given back: one in trimPart of them, or half when none of
// their class was taken. To give back all at once would pay for the next burst of appends with new memory; to keep them
// would leave a store for ever with as much memory as the worst stall of its disk took.
const (
	trimInterval = 2 * time.Second
	trimPart     = 8
)

// poisonByte is what a recycled slab is filled with when Options.Poison is set.
const poisonByte = 0xDB

// slabPool owns the slab memory of a store and enforces its budget.
type slabPool struct {
	budget int64
	poison bool
	wake   chan struct{} // capacity 1; wakes the foundry
	press  chan struct{} // capacity 1; rings when entries should be filed or evicted

	crowded atomic.Bool // logs get small slabs only, see crowdPart

	mu     sync.Mutex // guards the fields below
	free   [classes][]*slab
	target [classes]int // ready slabs wanted
	taken  [classes]int // since the last trim
	least  [classes]int // lowest number of free slabs since the last trim
	mapped int64        // bytes of all slabs
	used   int64        // bytes of slabs handed out
	calm   int64        // the working set: used may be so large without relief
	fresh  int64        // bytes handed out since filing last began
	limit  int64        // value of fresh at which filing should begin again
	peak   int64        // highest value of used
	cold   uint64       // slabs mapped while an append waited
	seq    uint64
	ready  bool // the first slabs were prepared
	closed bool
}

func newSlabPool(budget int64, poison bool) *slabPool {
	p := &slabPool{
		budget: budget, poison: poison, target: readyFloor,
		wake: make(chan struct{}, 1), press: make(chan struct{}, 1),
	}
	p.fit(0, 0)
	return p
}

// fit sets the working set for a number of logs that have something to file, and for the size in bytes of the states of
// all owners.
func (p *slabPool) fit(logs int, states int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calm = min(p.budget/2, workingSet+int64(logs)*logSet+states*stateSet)
	p.limit = max(p.calm/2, p.calm-workingSet/2)
	p.crowded.Store(int64(logs*slabBytes[classNormal]) > p.calm/crowdPart)
}

// take returns a slab with one reference, or nil when the budget does not allow it.
func (p *slabPool) take(class int) *slab { return p.takeOf(class, p.mapSlabs) }

// takeBare is take for the first slab of a log in a replay. A small one may get its pages when they are touched: to
// clear all pages of 1,000 slabs for 1,000 records would take half of the time of a start.
func (p *slabPool) takeBare(class int) *slab {
	if class != classSmall {
		return p.take(class)
	}
	return p.takeOf(class, p.mapBare)
}

// takeOf is take, with the function that maps new slabs when none is ready.
func (p *slabPool) takeOf(class int, mapNew func(class int, room int64) []*slab) *slab {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := int64(slabBytes[class])
	if p.used+size > p.calm || p.fresh+size > p.limit {
		ring(p.press)
	}
	if p.closed || p.used+size > p.budget {
		return nil
	}
	s := p.popLocked(class)
	if s == nil {
		p.cold++
		p.target[class] = min(max(2*p.target[class], 1), readyCeiling[class])
		if s = p.makeLocked(class, mapNew); s == nil {
			return nil
		}
	}
	p.taken[class]++
	p.used += size
	p.fresh += size
	p.peak = max(p.peak, p.used)
	p.seq++
	s.seq = p.seq
	s.refs.Store(1)
	if len(p.free[class]) < p.target[class] {
		ring(p.wake)
	}
	return s
}

func (p *slabPool) popLocked(class int) *slab {
	n := len(p.free[class])
	if n == 0 {
		return nil
	}
	s := p.free[class][n-1]
	p.free[class] = p.free[class][:n-1]
	p.least[class] = min(p.least[class], n-1)
	return s
}

// makeLocked maps a slab. To stay within the budget it first unmaps free slabs of other classes.
func (p *slabPool) makeLocked(class int, mapNew func(class int, room int64) []*slab) *slab {
	size := int64(slabBytes[class])
	for other := range classes {
		for p.mapped+size > p.budget {
			s := p.popLocked(other)
			if s == nil {
				break
			}
			p.unmapLocked(s)
		}
	}
	fresh := mapNew(class, p.budget-p.mapped)
	if len(fresh) == 0 {
		return nil
	}
	p.mapped += int64(len(fresh)) * size
	p.free[class] = append(p.free[class], fresh[1:]...)
	return fresh[0]
}

// mapSlabs maps one slab, or as many as fill a huge page when there is room for them.
func (p *slabPool) mapSlabs(class int, room int64) []*slab {
	size := slabBytes[class]
	n := 1
	if room >= hugePage && (class == classNormal || class == classSmall && p.crowded.Load()) {
		n = hugePage / size
	}
	mem, err := mapMemory(n * size)
	return p.cut(class, mem, err)
}

// bareSlabs is how many slabs mapBare maps at once. What is left of them comes to those that take slabs later.
const bareSlabs = 8

// mapBare maps slabs without pages.
func (p *slabPool) mapBare(class int, room int64) []*slab {
	size := slabBytes[class]
	mem, err := reserve(int(min(bareSlabs, max(1, room/int64(size)))) * size)
	return p.cut(class, mem, err)
}

// cut makes slabs of the result of a mapping.
func (p *slabPool) cut(class int, mem []byte, err error) []*slab {
	if err != nil {
		return nil
	}
	size := slabBytes[class]
	fresh := make([]*slab, len(mem)/size)
	for i := range fresh {
		fresh[i] = newSlab(p, class, mem[i*size:(i+1)*size:(i+1)*size])
	}
	return fresh
}

func newSlab(p *slabPool, class int, mem []byte) *slab {
	return &slab{mem: mem, class: class, pool: p, marks: make([]mark, 0, len(mem)/markBytes+1)}
}

func (p *slabPool) unmapLocked(s *slab) {
	p.mapped -= int64(len(s.mem))
	unmapMemory(s.mem)
	s.mem = nil
}

// put takes back a slab without references.
func (p *slabPool) put(s *slab) {
	if p.poison {
		s.mem[0] = poisonByte
		for n := 1; n < len(s.mem); n *= 2 {
			copy(s.mem[n:], s.mem[:n])
		}
	}
	s.used, s.sealed, s.mixed, s.marks = 0, false, false, s.marks[:0]
	s.start, s.end = place{}, place{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used -= int64(len(s.mem))
	if p.closed {
		p.unmapLocked(s)
		return
	}
	p.free[s.class] = append(p.free[s.class], s)
}

// ring wakes the goroutine that waits for c, a channel of capacity 1.
func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// excess returns how many more bytes than a part of the budget are handed out.
func (p *slabPool) excess(part float64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used - int64(part*float64(p.budget))
}

// surplus returns how many bytes to evict to make room for appends; 0 when there is room.
func (p *slabPool) surplus() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used <= p.calm {
		return 0
	}
	return p.used - p.calm*3/4
}

// due reports whether enough was handed out since filing last began for it to begin again.
func (p *slabPool) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh > p.limit
}

// noteFiling is called when filing begins of all that was handed out but left bytes.
func (p *slabPool) noteFiling(left int64) {
	p.mu.Lock()
	p.fresh = left
	p.mu.Unlock()
}

// foundry prepares slabs, so that appends find them ready, and unmaps those that are no longer needed. It ends when stop
// is closed.
func (p *slabPool) foundry(stop <-chan struct{}) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	p.prepare()
	for {
		select {
		case <-stop:
			return
		case <-p.wake:
			p.prepare()
		case <-tick.C:
			p.trim()
		}
	}
}

// prepare maps slabs until every class has as many ready as wanted.
func (p *slabPool) prepare() {
	defer func() {
		p.mu.Lock()
		p.ready = true
		p.mu.Unlock()
	}()
	for class := range classes {
		for {
			room := p.wanted(class)
			if room == 0 {
				break
			}
			fresh := p.forge(class, room)
			if len(fresh) == 0 {
				return
			}
			p.mu.Lock()
			p.mapped += int64(len(fresh) * slabBytes[class])
			p.free[class] = append(p.free[class], fresh...)
			p.mu.Unlock()
		}
	}
}

// forge maps slabs for later. While the floor of ready slabs has been enough there is time to do it gently.
func (p *slabPool) forge(class int, room int64) []*slab {
	if p.hurried(class) {
		return p.mapSlabs(class, room)
	}
	mem, err := mapGently(slabBytes[class], func() bool { return p.hurried(class) })
	if err != nil {
		return nil
	}
	return []*slab{newSlab(p, class, mem)}
}

// hurried reports whether slabs of a class are taken so fast that an append found none ready. The first ones are also
// made in a hurry: a store that was just opened disturbs nobody.
func (p *slabPool) hurried(class int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ready || p.closed || p.target[class] > readyFloor[class]
}

// wanted returns how many bytes of slabs of a class to make ready; 0 for none.
func (p *slabPool) wanted(class int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := min(p.budget/readyPart-(p.mapped-p.used), p.budget-p.mapped)
	if p.closed || len(p.free[class]) >= p.target[class] || room < int64(slabBytes[class]) {
		return 0
	}
	return room
}

// trim unmaps a part of the slabs that were free all the time since the last call, and keeps fewer ready.
func (p *slabPool) trim() {
	for _, s := range p.takeIdle() {
		unmapMemory(s.mem)
	}
}

// takeIdle takes the slabs out of the pool that trim unmaps. Unmapping many takes long, so it is done without the lock.
func (p *slabPool) takeIdle() (idle []*slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for class := range classes {
		part := trimPart
		if p.taken[class] == 0 {
			part = 2
		}
		n := (p.least[class] - readyFloor[class] + part - 1) / part
		if n > 0 {
			p.target[class] = max(p.target[class]-n, readyFloor[class])
		}
		for ; n > 0; n-- {
			s := p.popLocked(class)
			p.mapped -= int64(len(s.mem))
			idle = append(idle, s)
		}
		p.taken[class], p.least[class] = 0, len(p.free[class])
	}
	return idle
}

// close unmaps all free slabs. The others are unmapped when they are released.
func (p *slabPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for class := range classes {
		for len(p.free[class]) > 0 {
			p.unmapLocked(p.popLocked(class))
		}
	}
}
