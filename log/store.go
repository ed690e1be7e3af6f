package log

import (
	"bytes"
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Store is one data directory with the logs in it, or a memory-only set of logs.
type Store struct {
	options Options
	logger  *slog.Logger
	pool    *slabPool
	full    atomic.Bool // the disk is full: data is refused

	stop chan struct{} // closed by Close
	done sync.WaitGroup

	mu     sync.Mutex // guards the rest
	logs   map[wire.Identity]*Log
	closed bool
}

// Open opens a store. It returns ErrLocked when another process has the directory, and ErrVersion
// when a newer version wrote it. Damage never makes it fail: what is lost is reported to the logger,
// in Stats, and by the reads it hits.
func Open(o Options) (*Store, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		options: o, logger: o.Logger, pool: newSlabPool(o.MemoryBytes, o.Poison),
		stop: make(chan struct{}), logs: make(map[wire.Identity]*Log),
	}
	s.done.Go(func() { s.pool.foundry(s.stop) })
	s.done.Go(func() { s.retain(s.stop) })
	return s, nil
}

// Close flushes and files everything, and releases the directory. Chunks that are still held stay
// valid until they are released.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.done.Wait()
	for _, l := range s.openLogs() {
		l.close()
	}
	s.pool.close()
	return nil
}

// Logs returns the identities of all logs, in order.
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

// OpenLog returns the log of a partition, new and empty when there is none, and configures it.
func (s *Store) OpenLog(id wire.Identity, c Config) (*Log, error) {
	c.setDefaults(&s.options)
	s.mu.Lock()
	l := s.logs[id]
	if l == nil && !s.closed {
		l = newLog(s, id)
		s.logs[id] = l
	}
	s.mu.Unlock()
	if l == nil {
		return nil, ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config = c
	return l, nil
}

func newLog(s *Store, id wire.Identity) *Log {
	start := place{index: firstIndex}
	return &Log{
		store: s, id: id, seed: id.Seed(),
		prev: start, next: start, walNext: start, written: start, durable: start, filed: start,
	}
}

// RemoveLog deletes a log with all its entries.
func (s *Store) RemoveLog(id wire.Identity) error {
	s.mu.Lock()
	l := s.logs[id]
	delete(s.logs, id)
	s.mu.Unlock()
	if l != nil {
		l.close()
	}
	return nil
}

func (s *Store) memoryOnly() bool { return s.options.Dir == "" }

func (s *Store) nowMs() int64 { return s.options.Now().UnixMilli() }

// noMemory is the error of an append that found no slab.
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

func (s *Store) markDirty(*Log) {}

// retain enforces retention on all logs until stop is closed.
func (s *Store) retain(stop <-chan struct{}) {
	tick := time.NewTicker(s.options.RetentionInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			s.retainAll()
		}
	}
}

func (s *Store) retainAll() {
	now := s.nowMs()
	for _, l := range s.openLogs() {
		l.mu.Lock()
		l.retainMemoryLocked(now)
		l.mu.Unlock()
	}
}

// close refuses everything from now on and gives the slabs back.
func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.slabs {
		s.release()
	}
	l.slabs = nil
}
