package log

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// Cut is what Store.Truncate removes from one log: all records below Before, which becomes the start of the log.
type Cut struct {
	Log    *Log
	Before uint64
}

// truncation is a call of Truncate.
type truncation struct {
	cuts []Cut
	done bool
	err  error
}

// TruncatePrefix is Store.Truncate for one log.
func (l *Log) TruncatePrefix(before uint64) error { return l.store.Truncate(Cut{l, before}) }

// Truncate removes records from logs of this store. A file is deleted when all its records are removed. Truncate waits
// for the disk, with one or two checkpoints for all calls that wait at the same time. The error is ErrOutOfRange for a
// cut behind Next and ErrClosed for a log that was removed: the other cuts are made all the same. It is that of the
// checkpoint when a new start may not be durable, and that of a file when the disk is too full to remove it.
func (s *Store) Truncate(cuts ...Cut) error {
	t := &truncation{cuts: cuts}
	s.cutMu.Lock()
	s.cutting = append(s.cutting, t)
	s.cutMu.Unlock()
	s.ask()
	defer s.filing.Unlock()
	if !t.done { // by a call that came first
		s.truncateLocked()
	}
	return t.err
}

// BytesBelow returns how many of LogStats.Bytes TruncatePrefix(offset) would give back about, in whole files and slabs.
// It does not wait for the disk.
func (l *Log) BytesBelow(offset uint64) (size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.segments {
		end := l.filed.offset
		if i+1 < len(l.segments) {
			end = l.segments[i+1].start.offset
		}
		if end > offset {
			return size
		}
		size += s.size
	}
	for _, s := range l.slabs {
		if s.end.offset <= offset && s.start.index >= l.filed.index {
			size += int64(s.used)
		}
	}
	return size
}

// truncateLocked does what all calls of Truncate wait for. The caller holds filing.
func (s *Store) truncateLocked() {
	s.cutMu.Lock()
	calls := s.cutting
	s.cutting = nil
	s.cutMu.Unlock()
	cut := map[*Log]bool{}
	for _, t := range calls {
		t.done = true
		for _, c := range t.cuts {
			err := c.Log.cut(c.Before)
			t.err = cmp.Or(t.err, err)
			if err == nil {
				cut[c.Log] = true
			}
		}
	}
	if len(cut) == 0 || s.memoryOnly() {
		return
	}
	err := s.dropPurgedLocked(cut)
	if isFull(err) { // there is space where the files were
		err = s.dropPurgedLocked(cut)
	}
	if err == nil {
		return
	}
	for _, t := range calls {
		if !isFull(err) || s.rootChanged || t.keepsPurged() {
			t.err = errors.Join(t.err, err)
		} // else others took the space: what is left is filed later
	}
}

// cut moves the start of the log.
func (l *Log) cut(before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case before > l.next.offset:
		return ErrOutOfRange
	}
	l.first = max(l.first, before)
	if l.store.memoryOnly() {
		l.retainMemoryLocked(l.store.nowMs())
	}
	return nil
}

// keepsPurged reports whether a file is left, all records of which were purged.
func (t *truncation) keepsPurged() bool {
	return slices.ContainsFunc(t.cuts, func(c Cut) bool { return c.Log.keepsPurged() })
}

func (l *Log) keepsPurged() bool {
	l.mu.Lock()
	segments := l.segments
	l.mu.Unlock()
	if len(segments) == 0 {
		return false
	}
	end, err := l.segmentEnd(segments, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	return err != nil || l.purgedLocked(end)
}

// dropPurgedLocked files the logs that were cut and removes what was purged. On a full disk it may remove files
// although it returns an error. The caller holds filing.
func (s *Store) dropPurgedLocked(cut map[*Log]bool) error {
	s.rootChanged = true
	err := s.checkpointLocked(func(l *Log) bool { return cut[l] && l.dirtyLocked() })
	if err != nil && !isFull(err) {
		return err
	}
	return errors.Join(err, s.dropHeadsLocked(slices.Collect(maps.Keys(cut)), s.nowMs()))
}
