package log

import "time"

// StoreStats are the counters of a store since it was opened, and its current figures.
type StoreStats struct {
	Logs           int
	ReadOnly       int    // logs that refuse appends after a storage failure, or because their owner cannot read them
	Full           bool   // the disk is full, so data is refused
	MemoryUsed     int64  // bytes of slabs in use
	MemoryPeak     int64  // highest value of MemoryUsed
	MemoryMapped   int64  // bytes of all slabs, with those kept ready
	MemoryBudget   int64  // Options.MemoryBytes
	ColdSlabs      uint64 // slabs that were mapped while an append waited
	CommitLogBytes int64  // written since the last checkpoint
	Syncs          uint64 // fsyncs of the commit log
	Checkpoints    uint64
	Failures       uint64 // failed writes and fsyncs
	Damage         uint64 // damaged headers, footers, checkpoints and chunks that were found
	LostEntries    uint64 // entries that were damaged in the commit log
	TornTails      uint64 // torn tails cut when the store was opened
	Compactions    uint64 // passes of compaction over a log
	Reclaimed      int64  // bytes by which compaction made segments smaller
}

// Stats returns the store's counters.
func (s *Store) Stats() StoreStats {
	st := StoreStats{
		Full: s.full.Load(), Syncs: s.syncs.Load(), Checkpoints: s.saved.Load(), Failures: s.failures.Load(),
		Damage: s.damage.Load(), LostEntries: s.lost.Load(), TornTails: s.torn.Load(),
		Compactions: s.compactions.Load(), Reclaimed: s.reclaimed.Load(),
	}
	for _, l := range s.openLogs() {
		l.mu.Lock()
		st.Logs++
		if l.failed != nil || l.unread {
			st.ReadOnly++
		}
		l.mu.Unlock()
	}
	p := s.pool
	p.mu.Lock()
	st.MemoryUsed, st.MemoryPeak, st.MemoryMapped = p.used, p.peak, p.mapped
	st.MemoryBudget, st.ColdSlabs = p.budget, p.cold
	p.mu.Unlock()
	if !s.memoryOnly() {
		st.CommitLogBytes = s.walBytes.Load()
	}
	return st
}

// LogStats describes one log.
type LogStats struct {
	Bytes    int64     // of all stored entries, with the overhead of files
	Records  uint64    // that can be read
	Segments int       // files
	Unfiled  int64     // bytes that are only in memory and in the commit log
	Oldest   time.Time // append time of the oldest entry; zero when it is not known without reading a file
	Corrupt  int       // distinct ranges of lost records that were found
	Lost     uint64    // records in those ranges
	ReadOnly bool
	Err      error // the failure that made it read-only
	Full     bool  // the disk is full, so data is refused
}

// Stats returns the log's figures. It does not wait for the disk.
func (l *Log) Stats() LogStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := LogStats{
		Bytes: l.unfiled, Records: l.next.offset - l.first,
		Segments: len(l.segments), Unfiled: l.unfiled, Corrupt: len(l.corrupt),
		ReadOnly: l.failed != nil || l.unread, Err: l.failed, Full: l.store.full.Load(),
	}
	for _, s := range l.segments {
		st.Bytes += s.size
	}
	for _, r := range l.corrupt {
		st.Lost += max(r.next, l.first) - max(r.first, l.first) // the others are not stored any more
	}
	switch {
	case len(l.segments) > 0:
		st.Oldest = msTime(l.segments[0].first)
	case len(l.slabs) > 0 && len(l.slabs[0].marks) > 0:
		st.Oldest = msTime(l.slabs[0].marks[0].time)
	}
	return st
}

func msTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
