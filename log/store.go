package log

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Store is one data directory with the logs in it, or a memory-only set of logs.
//
// Locks are taken in this order: compacting, filing, round, Log.mu, and then one of mu, dirtyMu, cutMu, and those of
// the pool, the views and the clock.
type Store struct {
	options Options
	logger  *slog.Logger
	pool    *slabPool
	views   viewCache
	due     *dueClock
	full    atomic.Bool // the disk is full: data is refused

	syncs    atomic.Uint64 // fsyncs of the commit log
	saved    atomic.Uint64 // checkpoints
	failures atomic.Uint64 // failed writes and fsyncs
	damage   atomic.Uint64 // places with damage that costs no record
	torn     atomic.Uint64 // torn tails cut when the store was opened
	lost     atomic.Uint64 // entries lost in the commit log
	unsealed sync.Map      // paths of segments without a footer that were logged
	walBytes atomic.Int64  // commitLog.bytes, for Stats

	holders   atomic.Int64 // logs with slabs, of a memory-only store or in a replay: as counted last, and those since
	lastRound atomic.Int64 // bytes of the last round
	timed     atomic.Bool  // the flusher's timer runs, to write a mark when the store is quiet

	compactions atomic.Uint64 // passes over logs
	reclaimed   atomic.Int64  // bytes by which compaction made segments smaller
	synced      atomic.Int64  // when a round was last made durable, in ns since 1970
	paced       bool          // the background goroutines run

	wake        chan struct{} // capacity 1; wakes the flusher
	checkpoints chan struct{} // capacity 1; wakes the checkpointer
	stop        chan struct{} // closed by Close
	hurry       atomic.Bool   // Close waits for whoever files: that ends early
	done        sync.WaitGroup
	lock        io.Closer
	replaying   bool // Open is replaying the commit log

	cutMu   sync.Mutex    // guards:
	cutting []*truncation // which wait for filing

	compacting sync.Mutex // held during a pass of compaction over all logs; locked before filing

	asking      atomic.Int32 // callers of ask that do not have filing yet
	filing      sync.Mutex   // held during checkpoints and every change of segments; guards the fields below
	rootChanged bool         // the checkpoint file has to be replaced
	rootReserve int64        // size of the file that keeps space for a checkpoint; 0 when it is not known to exist
	removed     tombstones
	gone        []string        // directories of removed logs, to remove after the next checkpoint
	stuck       map[string]bool // files and directories that could not be removed so far
	broken      error           // why there are no more checkpoints

	round   sync.Mutex // held during a round; guards the fields below
	commits *commitLog
	failing bool // the last round failed, for another reason than a full disk
	jobs    []job
	spans   []span // memory of collectLocked
	taken   []*Log

	mu     sync.Mutex // guards:
	logs   map[wire.Identity]*Log
	closed bool

	dirtyMu sync.Mutex // guards:
	dirty   []*Log
}

// Open opens a store. It returns ErrLocked when another process uses the directory, and ErrVersion when a newer version
// wrote it. Open does not fail because of damaged entries: they are reported to the logger, in Stats, and by the reads
// that find them.
func Open(o Options) (*Store, error) {
	s, err := openStill(o)
	if err != nil {
		return nil, err
	}
	if !s.memoryOnly() {
		s.paced = true
		s.done.Go(s.flush)
		s.done.Go(s.runCheckpoints)
		s.done.Go(s.runSpares)
		s.done.Go(func() { s.repeat("look for the data directory", goneInterval, s.checkDir) })
		s.done.Go(func() { s.repeat("compaction failed", s.options.CompactionInterval, s.Compact) })
	}
	s.done.Go(func() { s.pool.foundry(s.stop) })
	s.done.Go(func() { s.repeat("retention failed", s.options.RetentionInterval, s.retain) })
	return s, nil
}

// repeat calls do at an interval until the store closes, and logs its errors.
func (s *Store) repeat(failed string, interval time.Duration, do func() error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			if err := do(); err != nil && !errors.Is(err, ErrClosed) {
				s.logger.Error(failed, "err", err)
			}
		}
	}
}

// openStill opens a store without its background goroutines.
func openStill(o Options) (*Store, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		options: o, logger: o.Logger, pool: newSlabPool(o.MemoryBytes, o.Poison), due: newDueClock(o.Now),
		wake: make(chan struct{}, 1), checkpoints: make(chan struct{}, 1), stop: make(chan struct{}),
		logs: make(map[wire.Identity]*Log), stuck: make(map[string]bool),
	}
	if o.clock != nil {
		s.due.read = o.clock
		s.due.now, s.due.passed = o.clock()
	}
	if !s.memoryOnly() {
		if err := s.recover(); err != nil {
			s.abandon()
			return nil, err
		}
	}
	return s, nil
}

// abandon releases the resources of a failed Open.
func (s *Store) abandon() {
	for _, l := range s.openLogs() {
		l.close()
	}
	s.views.forget(func(string) bool { return true })
	s.pool.close()
	if s.commits != nil {
		_ = s.commits.release() // nothing was written that is not flushed
	}
	if s.lock != nil {
		_ = s.lock.Close() // the error of Open matters more
	}
}

// Close refuses further appends, flushes everything, files it when that takes few files, and releases the directory. It
// calls the hooks meanwhile. Chunks stay valid until they are released. The error says what could not be made durable.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	for _, l := range s.openLogs() {
		l.mu.Lock()
		l.ending = true
		l.mu.Unlock()
	}
	s.hurry.Store(true)
	close(s.stop)
	s.done.Wait()
	s.filing.Lock()
	defer s.filing.Unlock()
	s.hurry.Store(false)
	var err error
	if !s.memoryOnly() {
		err = s.settleLocked()
		s.broken = ErrClosed
		s.round.Lock()
		err = errors.Join(err, s.commits.close())
		s.round.Unlock()
	}
	for _, l := range s.openLogs() {
		l.close()
	}
	s.views.forget(func(string) bool { return true })
	s.pool.close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// filesAtStop bounds the files that a stop writes. A byte that is filed costs a stop about what it saves the next start,
// which need not replay it. But a file costs a flush, about 1 ms, and replaying what is in a small one next to nothing.
const filesAtStop = 256

// settleLocked makes everything durable: in segments when that takes few files, and otherwise, or when that fails, in the
// commit log. What neither takes is in the error. The caller holds filing.
func (s *Store) settleLocked() error {
	s.runRound()
	if s.filesLeft() > filesAtStop && s.Sync() == nil {
		return nil
	}
	switch err := s.checkpointLocked((*Log).dirtyLocked); {
	case isFull(err): // what was not filed is in the commit log, or Sync returns an error
		return s.Sync()
	case err != nil:
		return errors.Join(err, s.Sync())
	}
	return nil
}

// filesLeft returns about how many segment files it takes to file everything.
func (s *Store) filesLeft() (n int64) {
	for _, l := range s.openLogs() {
		l.mu.Lock()
		if l.dirtyLocked() {
			n += 1 + l.unfiled/l.config.SegmentBytes
		}
		l.mu.Unlock()
	}
	return n
}

// Logs returns the identities of all logs with entries, sorted: those in the checkpoint or the commit log, and those that
// have only a directory.
func (s *Store) Logs() []wire.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]wire.Identity, 0, len(s.logs))
	for id := range s.logs {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIdentity)
	return ids
}

func compareIdentity(a, b wire.Identity) int {
	return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
}

// OpenLog returns the log of a partition, a new one if necessary, and sets its configuration. The error is ErrClosed.
func (s *Store) OpenLog(id wire.Identity, c Config) (*Log, error) {
	c.setDefaults(&s.options)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	l := s.logs[id]
	if l == nil {
		l = newLog(s, id)
		s.logs[id] = l
	}
	s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config, l.opened = c, true
	return l, nil
}

func newLog(s *Store, id wire.Identity) *Log {
	start := place{index: firstIndex}
	l := &Log{
		store: s, id: id, seed: id.Seed(),
		prev: start, next: start, walNext: start, written: start, durable: start, filed: start,
	}
	l.config.setDefaults(&s.options)
	return l
}

// Sync waits until everything that was appended to all logs so far is durable, or returns why it is not.
func (s *Store) Sync() error {
	if s.memoryOnly() {
		return nil
	}
	logs := s.openLogs()
	ends := make([]uint64, len(logs))
	for i, l := range logs {
		ends[i] = l.Positions().NextIndex
		if l.Positions().DurableIndex < ends[i] {
			l.Flush(wire.LevelDisk)
		}
	}
	s.runRound()
	var why error
	var behind []string
	for i, l := range logs {
		if err := l.durableTo(ends[i]); err != nil {
			behind = append(behind, path.Base(l.dir()))
			why = cmp.Or(why, err)
		}
	}
	if len(behind) == 0 {
		return nil
	}
	more := max(0, len(behind)-namedLogs)
	names := strings.Join(behind[:len(behind)-more], ", ")
	return fmt.Errorf("not durable are the ends of %s and %d more logs: %w", names, more, why)
}

// namedLogs is how many logs an error names.
const namedLogs = 3

func (s *Store) memoryOnly() bool { return s.options.Dir == "" }

// nowMs returns the time for retention and compaction, in ms since 1970; see dueClock.
func (s *Store) nowMs() int64 { return s.due.nowMs() }

// noMemory returns the error of an append that got no slab.
func (s *Store) noMemory() error {
	if s.memoryOnly() {
		return ErrFull
	}
	return ErrBusy
}

func (s *Store) openLogs() []*Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		list = append(list, l)
	}
	return list
}

// close makes the log refuse everything and releases its slabs.
func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.slabs {
		s.release()
	}
	l.slabs = nil
}
