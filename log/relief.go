package log

import (
	"cmp"
	"slices"
)

// filedPart is how much is filed at once when memory is short: one part in 4 of what is not filed.
const filedPart = 4

// relieve makes room in memory. Entries that are filed already go first.
func (s *Store) relieve() error {
	dirty, states := s.backlogs()
	s.pool.fit(len(dirty), states)
	s.evict(s.pool.surplus())
	if s.pool.surplus() <= 0 && !s.pool.due() {
		return nil
	}
	err := s.fileOldest()
	s.evict(s.pool.surplus())
	return err
}

// fileOldest files the logs whose entries are in memory for the longest time, a part of all. To file all
// of them at once would take more memory for as many flushes: what is appended meanwhile comes on top of
// everything, and all logs are full at the same time instead of half full on average.
func (s *Store) fileOldest() error {
	dirty, states := s.backlogs()
	oldest, left := oldestPart(dirty, states)
	s.pool.noteFiling(left)
	return s.checkpoint(func(l *Log) bool { return oldest[l] && l.dirtyLocked() })
}

// backlog is what a log has to file.
type backlog struct {
	log   *Log
	seq   uint64 // of the oldest slab with it
	bytes int64  // 0 when filing it failed before: it may fail again, and must not stand in the way of others
}

// backlogs returns what every log has to file, and how many bytes the last states of all logs are.
func (s *Store) backlogs() (dirty []backlog, states int64) {
	for _, l := range s.openLogs() {
		l.mu.Lock()
		states += int64(len(l.state.blob))
		if l.dirtyLocked() {
			b := backlog{log: l}
			if l.failed == nil {
				b.bytes = l.unfiled
			}
			if n := l.filedSlabsLocked(); n < len(l.slabs) {
				b.seq = l.slabs[n].seq
			}
			dirty = append(dirty, b)
		}
		l.mu.Unlock()
	}
	return dirty, states
}

// oldestPart chooses the logs to file, and returns how many bytes the others leave. With large states it
// chooses more, because each checkpoint writes all of them.
func oldestPart(dirty []backlog, states int64) (chosen map[*Log]bool, left int64) {
	chosen = make(map[*Log]bool)
	slices.SortFunc(dirty, func(a, b backlog) int { return cmp.Compare(a.seq, b.seq) })
	total := sum(dirty)
	want := max(total/filedPart, states*stateSet)
	for left = total; len(dirty) > 0 && (len(chosen) == 0 || total-left < want); dirty = dirty[1:] {
		chosen[dirty[0].log] = true
		left -= dirty[0].bytes
	}
	return chosen, left
}

// sum returns how many bytes the logs have to file.
func sum(dirty []backlog) (bytes int64) {
	for _, b := range dirty {
		bytes += b.bytes
	}
	return bytes
}
