package log

import (
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/crc32c"
)

// NewerCheckpoint returns a checkpoint file of the next format version.
func NewerCheckpoint() []byte {
	b := (&checkpoint{}).append(nil)
	half := b[:len(b)/2]
	le.PutUint32(half[8:], formatVersion+1)
	le.PutUint32(half[12:], 0)
	le.PutUint32(half[12:], crc32c.Checksum(half))
	copy(b[len(b)/2:], half)
	return b
}

// OpenStill opens a store without its goroutines, for tests that open thousands. Sync and Checkpoint
// work.
func OpenStill(o Options) (*Store, error) { return openStill(o) }

// SetClock replaces the wall clock and the monotonic time of retention.
func (o *Options) SetClock(read func() (wall time.Time, passed time.Duration)) { o.clock = read }

// NowMs returns the time for retention.
func (s *Store) NowMs() int64 { return s.nowMs() }

// Retain enforces retention.
func (s *Store) Retain() error { return s.retain() }

// Identity returns the identity of the partition.
func (l *Log) Identity() wire.Identity { return l.id }

// Round makes the next round.
func (s *Store) Round() { s.runRound() }

// Ask is Flush before it has woken the flusher.
func (l *Log) Ask(level wire.Level) { l.ask(level) }

// LastRound returns how many bytes the last round wrote.
func (s *Store) LastRound() int64 { return s.lastRound.Load() }

// RemakeReserve makes the reserve of the commit log again.
func (s *Store) RemakeReserve() error {
	s.commits.dropReserve()
	return s.KeepReserve()
}

// KeepReserve makes the reserve of the commit log unless there is one.
func (s *Store) KeepReserve() error { return s.commits.keepReserve() }

// Prev returns index and term of the entry in front of the first stored one, or 0 and 0 when the log still has its first
// entry.
func (l *Log) Prev() (index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prev.index - 1, l.prev.term
}

// Drop ends a store as a kill would: nothing is written.
func (s *Store) Drop() { s.abandon() }

// Forget drops from memory whatever is filed.
func (s *Store) Forget() {
	for range fileAge + 2 {
		s.dropIdle()
	}
}

// Hurry makes everything that happens in the background happen all the time.
func (o *Options) Hurry(every time.Duration) {
	o.CheckpointInterval, o.RetentionInterval, o.CompactionInterval = 5*every, 7*every, 11*every
	o.timers = timers{mark: every, space: 3 * every}
}

// FilesAt returns how much memory of a budget is filled before it is filed.
func FilesAt(budget int64, logs int, states int64) int64 {
	p := newSlabPool(budget, false)
	p.fit(logs, states)
	return p.limit
}

// FileOldest files a part of what is not filed.
func (s *Store) FileOldest() error { return s.fileOldest() }

// Relieve makes room in memory.
func (s *Store) Relieve() error { return s.relieve() }

// CheckPlaces returns an error if the places of the log are not ordered as its comment says, or its slabs have holes.
func (l *Log) CheckPlaces() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.filed.index
	if l.store.memoryOnly() {
		from = l.prev.index
	}
	for i, s := range l.slabs {
		if i > 0 && s.start != l.slabs[i-1].end {
			return fmt.Errorf("slab %d begins at %+v behind one that ends at %+v", i, s.start, l.slabs[i-1].end)
		}
	}
	if n := len(l.slabs); n > 0 && (l.slabs[0].start.index > from || l.slabs[n-1].end != l.next) || n == 0 && from != l.next.index {
		return fmt.Errorf("%d slabs do not hold [%d, %d)", n, from, l.next.index)
	}
	for _, order := range [][]uint64{
		{l.prev.index, l.filed.index, l.durable.index, l.walNext.index, l.next.index},
		{l.durable.index, l.written.index, l.next.index},
		{l.prev.offset, l.first, l.next.offset},
		{l.hidden, l.filed.offset},
	} {
		if l.store.memoryOnly() && len(order) != 3 {
			continue
		}
		if !slices.IsSorted(order) {
			return fmt.Errorf("out of order: %v", order)
		}
	}
	return nil
}

// DirOf returns the name of a log's directory.
func DirOf(id wire.Identity) string { return logDir(id) }

// Quiet reports whether the flusher waits for nothing but to be woken: it has written a mark.
func (s *Store) Quiet() bool {
	s.round.Lock()
	defer s.round.Unlock()
	return len(s.wake) == 0 && !s.timed.Load() && s.commits.marked == s.commits.lsn
}

// Stopping reports whether Close has ended what goes on in the background.
func (s *Store) Stopping() bool { return s.hurry.Load() }

// Cutting returns how many calls of Truncate wait.
func (s *Store) Cutting() int {
	s.cutMu.Lock()
	defer s.cutMu.Unlock()
	return len(s.cutting)
}

// Asking returns how many wait for filing to let them in.
func (s *Store) Asking() int32 { return s.asking.Load() }

// Dirty reports whether something is not filed.
func (l *Log) Dirty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dirtyLocked()
}

// Mark writes the mark of a quiet store.
func (s *Store) Mark() { s.markSynced() }

// MaxStateBytes is the largest state that a checkpoint can hold.
const MaxStateBytes = maxStateBytes
