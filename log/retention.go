package log

import (
	"cmp"
	"errors"
	"path"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// retain enforces retention on all logs, idle ones too.
func (s *Store) retain() error {
	if s.memoryOnly() {
		s.retainMemory()
		return nil
	}
	s.filing.Lock()
	defer s.filing.Unlock()
	return s.retainFilesLocked()
}

// retainMemory enforces retention in a memory-only store, and counts the logs that hold something.
func (s *Store) retainMemory() {
	holders := 0
	for _, l := range s.openLogs() {
		l.mu.Lock()
		l.retainMemoryLocked(s.nowMs())
		if len(l.slabs) > 0 {
			holders++
		}
		l.mu.Unlock()
	}
	s.holders.Store(int64(holders))
	s.pool.fit(holders, 0)
}

// retainMemoryLocked drops the oldest slabs of a log in a memory-only store, as retention says.
func (l *Log) retainMemoryLocked(nowMs int64) {
	for len(l.slabs) > 0 {
		s := l.slabs[0]
		if !l.purgedLocked(s.end) && !l.expiredLocked(s.end, int64(s.used), l.unfiled, nowMs) {
			return
		}
		l.unfiled -= int64(s.used)
		l.prev = s.end
		l.popSlabLocked()
		l.first = max(l.first, l.prev.offset)
	}
}

// purgedLocked reports whether TruncatePrefix cut off all records in front of end. It is false for a log whose
// entries have no records.
func (l *Log) purgedLocked(end place) bool { return l.first > 0 && end.offset <= l.first }

// expiredLocked reports whether retention allows to drop the first size of held bytes, which end at end. What is left is
// at least what the limits of bytes and records say.
func (l *Log) expiredLocked(end place, size, held, nowMs int64) bool {
	r := l.config.Retention
	switch {
	case r.Age > 0 && end.time+r.Age.Milliseconds() < nowMs:
		return true
	case r.Bytes > 0 && held-size >= r.Bytes:
		return true
	case r.Count > 0 && l.next.offset-end.offset >= uint64(r.Count):
		return true
	}
	return false
}

// outdatedLocked reports whether every entry is older than retention keeps them.
func (l *Log) outdatedLocked(nowMs int64) bool {
	age := l.config.Retention.Age.Milliseconds()
	return age > 0 && l.next.time+age < nowMs
}

// retainFilesLocked drops the oldest segments of all logs, as retention says. The caller holds filing.
func (s *Store) retainFilesLocked() error {
	now := s.nowMs()
	needed := func(l *Log) bool { return l.mustFileLocked(now) }
	var filed error
	for _, l := range s.openLogs() {
		l.mu.Lock()
		need := l.dirtyLocked() && needed(l)
		l.mu.Unlock()
		if need {
			filed = s.checkpointLocked(needed)
			break
		}
	}
	if filed != nil && !isFull(filed) { // a full disk gets space by what follows
		return filed
	}
	return errors.Join(filed, s.dropHeadsLocked(s.openLogs(), now))
}

// dropHeadsLocked drops the oldest segments of logs, as retention says: first from the checkpoint, then their files.
// The caller holds filing.
func (s *Store) dropHeadsLocked(logs []*Log, nowMs int64) error {
	for _, l := range logs {
		if err := l.dropHead(nowMs); err != nil {
			s.logger.Warn("retention", "path", l.dir(), "err", err)
		}
	}
	if !s.rootChanged {
		return nil
	}
	return s.checkpointLocked(func(*Log) bool { return false })
}

// mustFileLocked reports whether retention or compaction needs entries to be filed first.
func (l *Log) mustFileLocked(nowMs int64) bool {
	r := l.config.Retention
	if !l.dirtyLocked() || l.failed != nil {
		return false
	}
	return l.outdatedLocked(nowMs) || l.purgedLocked(l.next) ||
		(r.Bytes > 0 || r.Count > 0 || l.config.Compact) && l.unfiled >= l.config.SegmentBytes
}

// dropHead removes the segments from the log that retention allows to drop. The next checkpoint removes their files. The
// caller holds filing.
func (l *Log) dropHead(nowMs int64) error {
	l.mu.Lock()
	segments := l.segments
	held := l.unfiled
	l.mu.Unlock()
	for _, s := range segments {
		held += s.size
	}
	n := 0
	for ; n < len(segments); n++ {
		end, err := l.segmentEnd(segments, n)
		if err != nil {
			return err
		}
		l.mu.Lock()
		drop := l.mayDropLocked(end, n == len(segments)-1) &&
			(l.purgedLocked(end) || l.expiredLocked(end, segments[n].size, held, nowMs))
		l.mu.Unlock()
		if !drop {
			break
		}
		held -= segments[n].size
	}
	if n == 0 {
		return nil
	}
	return l.dropSegments(segments, n)
}

// mayDropLocked reports whether the segment that ends at end is not needed to rebuild the owner's state. The last segment
// may be dropped only when it has everything that was appended.
func (l *Log) mayDropLocked(end place, last bool) bool {
	if last && l.dirtyLocked() {
		return false
	}
	return l.coveredLocked(end, l.state)
}

// coveredLocked reports whether the owner's state has whatever stands before end, or the owner has none. Nobody knows that
// before the owner has opened the log.
func (l *Log) coveredLocked(end place, state snapshot) bool {
	return end.index <= state.index+1 || l.opened && l.config.State == nil
}

// segmentEnd returns where segment i ends, with the time of its last entry.
func (l *Log) segmentEnd(segments []*segment, i int) (place, error) {
	at := l.segmentAt(segments, i)
	end := at.end
	if i+1 < len(segments) {
		end.time = cmp.Or(at.seg.end.time, l.lastTime(at.seg))
	}
	if end.time != 0 {
		return end, nil
	}
	v, err := l.store.view(at.seg, l.seed, at.bound)
	if err = l.store.checkMissing(err); err != nil && !missing(err) {
		return end, err
	}
	if err == nil {
		end.time = v.next.time
		l.store.views.release(v)
	}
	if i+1 < len(segments) {
		l.keepLastTime(at.seg, end.time)
	}
	if end.time == 0 { // it is missing, or holds nothing intact
		end.time, err = l.timeBehind(segments, i)
		return end, err
	}
	return end, nil
}

// lastTime returns the time of the last entry of a sealed segment that keepLastTime was told, or 0.
func (l *Log) lastTime(seg *segment) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return seg.last
}

// keepLastTime keeps the time of the last entry of a sealed segment: retention asks for it every second.
func (l *Log) keepLastTime(seg *segment, ms int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seg.last = ms
}

// timeBehind returns a time that no entry of segment i is behind, from what follows the segment.
func (l *Log) timeBehind(segments []*segment, i int) (int64, error) {
	for _, next := range segments[i+1:] {
		if start, err := l.startOf(next); err != nil || start.time != 0 {
			return start.time, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.filed.time, nil
}

// dropSegments removes the first n segments from the log.
func (l *Log) dropSegments(segments []*segment, n int) error {
	var start place
	if n < len(segments) {
		var err error
		if start, err = l.startOf(segments[n]); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == len(segments) {
		start = l.filed
	}
	for _, s := range segments[:n] {
		l.stale = append(l.stale, s.path)
	}
	l.segments = l.segments[n:len(l.segments):len(l.segments)]
	l.spoiled = l.spoiled && len(l.segments) > 0
	l.prev = start
	l.first = max(l.first, start.offset)
	for len(l.slabs) > 0 && l.slabs[0].end.index <= start.index {
		l.popSlabLocked()
	}
	l.store.rootChanged = true
	return nil
}

// startOf returns where a segment starts, with what its header says about the entry before.
func (l *Log) startOf(seg *segment) (place, error) {
	if seg.start.term != 0 {
		return seg.start, nil
	}
	h, ok, err := l.store.readHeader(seg.path)
	if !ok {
		return seg.start, err
	}
	return h.start, nil
}

// readHeader returns the header of a segment, and false when it cannot be used: it is damaged or missing, or of a newer
// version. The error is one of reading.
func (s *Store) readHeader(name string) (h headerInfo, ok bool, err error) {
	f, err := s.options.FS.Open(name, false, false)
	if err == nil {
		h, err = readSegmentHeader(f)
		_ = f.Close() // read only
	}
	if err = s.checkMissing(err); missing(err) || tells(err) {
		return h, false, nil
	}
	return h, err == nil, err
}

// RemoveLogs deletes logs with all their entries. It returns nil when that is durable. With an error, for example on a full
// disk, the logs are gone for this process all the same, and the next checkpoint completes the deletion. Before a log of
// the same identity is opened again, RemoveLogs must have returned nil.
func (s *Store) RemoveLogs(ids ...wire.Identity) error {
	s.ask()
	defer s.filing.Unlock()
	left := false
	for _, id := range ids {
		left = s.forgetLog(id) || left
	}
	if !left {
		return nil
	}
	s.rootChanged = true
	return s.checkpointLocked(func(*Log) bool { return false })
}

// forgetLog removes a log from memory. It reports whether there is something of it that only a checkpoint removes. The
// caller holds filing.
func (s *Store) forgetLog(id wire.Identity) bool {
	s.mu.Lock()
	l := s.logs[id]
	delete(s.logs, id)
	s.mu.Unlock()
	dir := path.Join(s.options.Dir, partitionsDir, logDir(id))
	if l == nil && !slices.Contains(s.gone, dir) {
		return false
	}
	if l != nil {
		l.close()
		if s.memoryOnly() {
			return false
		}
		s.round.Lock() // from here on no chunk of this log is written
		s.removed[id] = s.commits.lsn
		s.round.Unlock()
		s.gone = append(s.gone, dir)
	}
	delete(s.stuck, dir)
	return true
}

// removeDir removes a log's directory, which the checkpoint no longer needs. The directory stays when others put files
// there. Otherwise the caller makes the removal durable.
func (s *Store) removeDir(dir string) error {
	s.views.forget(func(name string) bool { return path.Dir(name) == dir })
	list, others, err := s.readLogDir(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range list {
		if err := removeQuietly(s.options.FS, path.Join(dir, d.Name)); err != nil {
			return err
		}
	}
	if others {
		return s.options.FS.SyncDir(dir)
	}
	return removeQuietly(s.options.FS, dir)
}
