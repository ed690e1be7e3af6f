package log

import (
	"sync"

	"github.com/rafka-mq/rafka/wire"
)

// firstIndex is the index of a log's first entry; 0 means "before the first entry".
const firstIndex = 1

// smallBytes is how much a log holds in small slabs before it gets larger ones, unless there are many logs; see crowdPart.
const smallBytes = 256 << 10

// Batch is one entry to append.
type Batch struct {
	Kind    wire.Kind
	Count   uint32 // records; 0 unless Kind is wire.KindData
	Term    uint64 // 1 without a cluster
	Time    int64  // append time in ms since 1970; raised to that of the entry before when it is lower and a record is left
	Head    []byte // bytes in front of Payload that begin with the checksum of both; usually nil
	Payload []byte // an encoded batch, or the output of wire.AppendPayload; Append copies it
}

// Positions are the bounds of a log. Offsets count records from 0, indexes count entries from 1; all ranges are
// half-open. Durable <= Written <= Next, and First <= Next. They never go back. In a
// memory-only store Written and Durable stay 0.
type Positions struct {
	First   uint64 // offset of the first record that can be read
	Next    uint64 // offset of the next record
	Written uint64 // records below are in the kernel
	Durable uint64 // records below are on the device

	FirstIndex   uint64 // of the first entry that is stored, which may be below First: retention drops whole segments
	NextIndex    uint64
	WrittenIndex uint64
	DurableIndex uint64
}

// Log is one partition. All methods are safe for concurrent use.
//
// Its places never pass each other, whoever moves them:
//
//	prev <= filed <= durable <= walNext <= next    and    durable <= written <= next
//	prev.offset <= first <= next.offset            and    hidden <= filed.offset
//
// Segments hold [prev, filed); slabs hold [filed, next), without holes, and usually some of what is filed; the commit log
// holds [filed, walNext). After a failed flush walNext goes back to durable; otherwise it is not behind written. In a
// memory-only store slabs hold [prev, next), and the places between stay 0.
//
// Lock order: the owner's lock and the store's filing and round, then Log.mu, then the store's other locks. No hook is
// called under Log.mu.
type Log struct {
	store *Store
	id    wire.Identity
	seed  uint32

	mu     sync.Mutex // guards the fields below
	config Config
	opened bool  // config is the owner's
	failed error // why the log refuses appends; nil while it does not
	unread bool  // the owner could not read its state, and tries again; see Suspend
	closed bool
	ending bool // the store is closing: appends are refused

	slabs []*slab // the newest entries, in order, never overlapping
	grown int64   // bytes appended since the log was idle; picks the slab class

	first   uint64 // logical start: reads below are refused
	prev    place  // start of the stored entries
	next    place
	walNext place // entries before are in the commit log, or filed
	written place
	durable place
	filed   place // entries before are in segment files that the checkpoint covers

	want    wire.Level // level asked for since the last round
	wantOS  bool       // somebody asked for wire.LevelOS only
	queued  bool       // in the store's list of dirty logs
	lastLsn uint64     // of the last chunk with entries of this log; 0 when all are durable
	lowLsn  uint64     // of the first chunk with entries that are not filed; 0 when there is none

	hidden   uint64     // compaction removed records below this offset: read those from the files only
	segments []*segment // in order; replaced as a whole, never changed
	spoiled  bool       // the last segment must not be written to
	trimmed  bool       // it has nothing behind its end but reserved space; see segmentWriter.open
	stale    []string   // files to remove after the next checkpoint
	junk     []string   // files that never counted, to remove before the next file is created
	state    snapshot   // of the owner, in the last checkpoint
	found    snapshot   // of the owner, when the store was opened
	outdated bool       // the owner's state is smaller than the one in the last checkpoint; see RefreshState
	ready    bool       // the owner has replayed or appended, so Config.State may be called
	unfiled  int64      // bytes of the entries that are not filed; of all entries in a memory-only store

	rounds      int    // checkpoint ticks since the log became dirty
	quiet       uint64 // next index when the log was last seen to grow
	quietRounds int
	corrupt     []lostRange

	hasDir bool // its directory was made and is durable; guarded by Store.filing
}

// Append copies b to memory and returns the offset of its first record and its index. It neither waits nor allocates.
// After an error nothing was appended: ErrFull, ErrBusy, ErrReadOnly or ErrClosed, or for an invalid batch ErrPayload.
func (l *Log) Append(b Batch) (base, index uint64, err error) {
	size := len(b.Head) + len(b.Payload)
	if size < 4 || size > wire.MaxFrameBytes {
		return 0, 0, ErrPayload
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuseLocked(b.Kind); err != nil {
		return 0, 0, err
	}
	l.ready = true
	s, err := l.roomLocked(wire.StampBytes + size)
	if err != nil {
		return 0, 0, err
	}
	st := wire.Stamp{
		Length: uint32(size), Kind: b.Kind, Count: b.Count, Term: b.Term,
		Index: l.next.index, BaseOffset: l.next.offset, Time: l.appendTimeLocked(b.Time),
	}
	entry := s.mem[s.used : s.used+st.Size()]
	payload := entry[wire.StampBytes:]
	if copyIn(payload[copy(payload, b.Head):], b.Payload) {
		streamFence()
	}
	st.Put(entry, l.seed)
	l.addLocked(s, &st)
	return st.BaseOffset, st.Index, nil
}

// appendTimeLocked returns the time of the next entry. It is not before that of any record that can be read. With none, time
// starts again: so a purge ends what a clock did that was ahead.
func (l *Log) appendTimeLocked(ms int64) int64 {
	if l.first == l.next.offset {
		return ms
	}
	return max(ms, l.next.time)
}

// refuseLocked returns why an entry cannot be appended now, or nil.
func (l *Log) refuseLocked(kind wire.Kind) error {
	switch {
	case l.closed || l.ending:
		return ErrClosed
	case l.failed != nil || l.unread:
		return ErrReadOnly
	case kind == wire.KindData && l.store.full.Load():
		return ErrFull
	}
	return nil
}

// addLocked adds the entry that was written at s.used to the log.
func (l *Log) addLocked(s *slab, st *wire.Stamp) {
	s.noteLocked(st, s.used)
	s.mixed = s.mixed || st.Kind != wire.KindData || st.BaseOffset != s.end.offset
	s.used += st.Size()
	l.next = after(st)
	s.end = l.next
	l.grown += int64(st.Size())
	l.unfiled += int64(st.Size())
}

// roomLocked returns a slab with room for an entry of n bytes: the last one or a new one.
func (l *Log) roomLocked(n int) (*slab, error) {
	if len(l.slabs) > 0 {
		if s := l.slabs[len(l.slabs)-1]; !s.sealed && s.used+n <= len(s.mem) {
			return s, nil
		}
	}
	if l.store.memoryOnly() {
		// The timer alone is too slow: a busy log can fill the whole budget between two ticks.
		l.retainMemoryLocked(l.store.nowMs())
	}
	if len(l.slabs) == 0 && (l.store.memoryOnly() || l.store.replaying) {
		// No checkpoint counts the logs here, and the timer is too slow, too.
		l.store.pool.fit(int(l.store.holders.Add(1)), 0)
	}
	take := l.store.pool.take
	if len(l.slabs) == 0 && l.store.replaying {
		take = l.store.pool.takeBare
	}
	s := take(l.classLocked(n))
	if s == nil && n <= slabBytes[classSmall] {
		s = l.store.pool.take(classSmall) // what is left of the budget
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
	case n <= slabBytes[classSmall] && (l.grown < smallBytes || l.store.pool.crowded.Load()):
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

// Flush asks for everything appended so far to reach level, which is wire.LevelOS or wire.LevelDisk. It only wakes the
// flusher. Config.Notify is called when that is done or has failed. For lower levels, and in a memory-only store, Flush
// does nothing.
func (l *Log) Flush(level wire.Level) {
	if l.ask(level) {
		ring(l.store.wake)
	}
}

// FlushHere is Flush on the caller's goroutine when the flusher is idle: then it waits for the device, and
// Config.Notify is called before it returns.
func (l *Log) FlushHere(level wire.Level) {
	if l.ask(level) {
		l.store.runRoundHere()
	}
}

// Sync waits until everything that was appended to the log so far is durable, or returns why it is not.
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

// durableTo returns nil when the entries before index are durable or the log was removed, and otherwise why the last
// round did not make them durable.
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

// ask notes the level that the next round has to reach, and queues the log for it. It reports whether that was new.
func (l *Log) ask(level wire.Level) bool {
	if level < wire.LevelOS || l.store.memoryOnly() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = max(l.want, min(level, wire.LevelDisk))
	l.wantOS = l.wantOS || level == wire.LevelOS
	return !l.closed && l.queueLocked()
}

// Positions returns the current bounds of the log.
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

// SetConfig replaces the configuration. Calls of the old hooks may still be running when it returns.
func (l *Log) SetConfig(c Config) {
	c.setDefaults(&l.store.options)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config = c
}

// Config returns the configuration that holds: with the defaults in the place of zeros, and within the limits.
func (l *Log) Config() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.config
}
