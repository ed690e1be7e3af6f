package log

import (
	"sync"

	"github.com/rafka-mq/rafka/wire"
)

// firstIndex is the index of a log's first entry; 0 means "before the first entry".
const firstIndex = 1

// smallBytes is how much a log holds in small slabs before it counts as busy.
const smallBytes = 256 << 10

// Batch is one entry to append.
type Batch struct {
	Kind    wire.Kind
	Count   uint32 // records; 0 unless Kind is wire.KindData
	Term    uint64 // 1 without a cluster
	Time    int64  // append time in ms; raised to that of the entry before when it is lower
	Head    []byte // stands in front of Payload and begins with the checksum of both; nil for nothing
	Payload []byte // an encoded batch or wire.AppendPayload's output; Append copies it
	Index   uint64 // the entry's index when the caller knows it; 0 means the next one
}

// Positions says how far a log got. Offsets count records from 0, indexes count entries from 1; all
// ranges are half-open. Durable <= Written <= Next, and First <= Next. They never go back, except by
// TruncateSuffix. In a memory-only store Written and Durable stay 0.
type Positions struct {
	First   uint64 // offset of the first record that can be read
	Next    uint64 // offset of the next record
	Written uint64 // records below are in the kernel
	Durable uint64 // records below are on the device

	FirstIndex   uint64 // of the first entry held; whole segments are dropped, so it may be below First
	NextIndex    uint64
	WrittenIndex uint64
	DurableIndex uint64
}

// Log is one partition. All methods are safe for concurrent use.
//
// Lock order: the owner's lock, then Log.mu, then the store's locks. No hook is called under Log.mu.
type Log struct {
	store *Store
	id    wire.Identity
	seed  uint32

	mu     sync.Mutex // guards the rest
	config Config
	failed error // why the log refuses appends, nil while it is healthy
	closed bool
	ending bool // the store is closing: nothing more is appended

	cutting bool // TruncateSuffix is under way: no appends and no rounds

	slabs []*slab // the newest entries, in order, never overlapping
	grown int64   // bytes appended since the log was idle; picks the slab class

	first   uint64 // logical start: reads below are refused
	prev    place  // where the entries that are held begin
	next    place
	walNext place // entries before are in the commit log, or filed
	written place
	durable place
	filed   place // entries before are in segment files, and the checkpoint says so

	want    wire.Level // level asked for since the last round
	wantOS  bool       // somebody asked for wire.LevelOS only
	queued  bool       // in the store's list of dirty logs
	lastLsn uint64     // of the last chunk with entries of this log; 0 when all are durable
	lowLsn  uint64     // of the first chunk with entries that are not filed; 0 when there is none
	floor   uint64     // chunks below do not count, whatever the store's floor

	hidden   uint64     // compaction removed records below: they are read from the files only
	segments []*segment // in order; replaced as a whole, never changed
	spoiled  bool       // the last segment must not be written to
	cuts     uint64     // how often entries in segments were cut
	stale    []string   // files to unlink after the next checkpoint
	junk     []string   // files that never counted, to unlink before the next file is made
	state    snapshot   // of the last checkpoint
	found    snapshot   // when the store was opened, for the owner to start from
	ready    bool       // the owner replayed or appended: its state can be asked for
	unfiled  int64      // bytes of the entries that are not filed; of all in a memory-only store

	rounds      int    // checkpoint ticks since the log became dirty
	quiet       uint64 // next index when the log was last seen to grow
	quietRounds int
	corrupt     []lostRange
}

// Append copies b to memory and returns the offset of its first record and its index. It does not
// wait and does not allocate. It returns ErrFull, ErrBusy or ErrReadOnly when nothing was appended,
// and ErrPayload or ErrIndex for a batch that is wrong.
func (l *Log) Append(b Batch) (base, index uint64, err error) {
	size := len(b.Head) + len(b.Payload)
	if size < 4 || size > wire.MaxFrameBytes {
		return 0, 0, ErrPayload
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuseLocked(&b); err != nil {
		return 0, 0, err
	}
	l.ready = true
	s, err := l.roomLocked(wire.StampBytes + size)
	if err != nil {
		return 0, 0, err
	}
	st := wire.Stamp{
		Length: uint32(size), Kind: b.Kind, Count: b.Count, Term: b.Term,
		Index: l.next.index, BaseOffset: l.next.offset, Time: max(b.Time, l.next.time),
	}
	entry := s.mem[s.used : s.used+st.Size()]
	copy(entry[wire.StampBytes+copy(entry[wire.StampBytes:], b.Head):], b.Payload)
	st.Put(entry, l.seed)
	l.addLocked(s, &st)
	return st.BaseOffset, st.Index, nil
}

// refuseLocked says why b cannot be appended now.
func (l *Log) refuseLocked(b *Batch) error {
	switch {
	case l.closed || l.ending:
		return ErrClosed
	case l.failed != nil:
		return ErrReadOnly
	case l.cutting:
		return ErrBusy
	case b.Kind == wire.KindData && l.store.full.Load():
		return ErrFull
	case b.Index != 0 && b.Index != l.next.index:
		return ErrIndex
	}
	return nil
}

// addLocked makes the entry that stands at s.used part of the log.
func (l *Log) addLocked(s *slab, st *wire.Stamp) {
	s.noteLocked(st, s.used)
	s.used += st.Size()
	l.next = after(st)
	s.end = l.next
	l.grown += int64(st.Size())
	l.unfiled += int64(st.Size())
}

// roomLocked returns the slab with room for an entry of n bytes.
func (l *Log) roomLocked(n int) (*slab, error) {
	if len(l.slabs) > 0 {
		if s := l.slabs[len(l.slabs)-1]; !s.sealed && s.used+n <= len(s.mem) {
			return s, nil
		}
	}
	if l.store.memoryOnly() {
		// The timer alone is too slow: a busy log fills the whole budget between two ticks.
		l.retainMemoryLocked(l.store.nowMs())
	}
	s := l.store.pool.take(l.classLocked(n))
	if s == nil && n <= slabBytes[classSmall] {
		s = l.store.pool.take(classSmall) // the last of the budget
	}
	if s == nil {
		return nil, l.store.noMemory()
	}
	l.addSlabLocked(s)
	return s, nil
}

func (l *Log) classLocked(n int) int {
	switch {
	case n > slabBytes[classNormal]:
		return classLarge
	case l.grown < smallBytes && n <= slabBytes[classSmall]:
		return classSmall
	}
	return classNormal
}

func (l *Log) addSlabLocked(s *slab) {
	if n := len(l.slabs); n > 0 {
		l.slabs[n-1].sealed = true
	}
	s.start, s.end = l.next, l.next
	l.slabs = append(l.slabs, s)
}

// Flush asks that everything appended so far reaches level: wire.LevelOS or wire.LevelDisk. It only
// wakes the flusher; Config.Notify says when it is done, or that it failed. Lower levels, and a
// memory-only store, need nothing.
func (l *Log) Flush(level wire.Level) {
	if l.ask(level) {
		l.store.markDirty(l)
	}
}

// FlushHere is Flush that does the work of the flusher on the caller's goroutine when the flusher is
// idle: it waits for the device then, and Config.Notify is called before it returns.
func (l *Log) FlushHere(level wire.Level) {
	if l.ask(level) {
		l.store.queue(l)
		l.store.runRoundHere()
	}
}

// Sync waits until everything that was appended to the log so far is durable, and returns why it is not. What
// others wait for is flushed with it.
func (l *Log) Sync() error {
	if l.store.memoryOnly() {
		return nil
	}
	end := l.Positions().NextIndex
	if l.durableTo(end) != nil {
		l.Flush(wire.LevelDisk)
		l.store.runRound()
	}
	return l.durableTo(end)
}

// durableTo returns why the entries before index are not durable after a round. A log that was removed needs nothing.
func (l *Log) durableTo(index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed || l.durable.index >= index:
		return nil
	case l.failed != nil:
		return l.failed
	}
	return ErrFull
}

// ask notes the level and reports whether the log is to be put on the list of dirty logs.
func (l *Log) ask(level wire.Level) bool {
	if level < wire.LevelOS || l.store.memoryOnly() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = max(l.want, min(level, wire.LevelDisk))
	l.wantOS = l.wantOS || level == wire.LevelOS
	queue := !l.queued && !l.closed
	l.queued = l.queued || queue
	return queue
}

// Positions returns how far the log got.
func (l *Log) Positions() Positions {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.positionsLocked()
}

func (l *Log) positionsLocked() Positions {
	return Positions{
		First: l.first, Next: l.next.offset, Written: l.written.offset, Durable: l.durable.offset,
		FirstIndex: l.prev.index, NextIndex: l.next.index,
		WrittenIndex: l.written.index, DurableIndex: l.durable.index,
	}
}

// Identity returns which partition this is.
func (l *Log) Identity() wire.Identity { return l.id }

// SetConfig replaces the configuration. Hooks that run already may still be the old ones.
func (l *Log) SetConfig(c Config) {
	c.setDefaults(&l.store.options)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config = c
}
