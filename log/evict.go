package log

import (
	"cmp"
	"slices"
)

// evict drops the oldest slabs whose entries are filed, surplus bytes of them. The others remain as the cache for reads.
func (s *Store) evict(surplus int64) {
	if surplus <= 0 {
		return
	}
	type victim struct {
		log *Log
		seq uint64
	}
	var victims []victim
	for _, l := range s.openLogs() {
		l.mu.Lock()
		for _, b := range l.slabs[:l.filedSlabsLocked()] {
			victims = append(victims, victim{log: l, seq: b.seq})
		}
		l.mu.Unlock()
	}
	slices.SortFunc(victims, func(a, b victim) int { return cmp.Compare(a.seq, b.seq) })
	for _, v := range victims {
		if surplus <= 0 {
			return
		}
		surplus -= v.log.dropOldest(v.seq)
	}
}

// filedSlabsLocked returns how many of the oldest slabs hold only entries that are filed.
func (l *Log) filedSlabsLocked() int {
	n := 0
	for n < len(l.slabs) && l.slabs[n].end.index <= l.filed.index {
		n++
	}
	return n
}

// dropOldest drops the oldest slab if it still is the one numbered seq, and returns its size in bytes.
func (l *Log) dropOldest(seq uint64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filedSlabsLocked() == 0 || l.slabs[0].seq != seq {
		return 0
	}
	n := len(l.slabs[0].mem)
	l.popSlabLocked()
	return int64(n)
}

// popSlabLocked drops the oldest slab.
func (l *Log) popSlabLocked() {
	s := l.slabs[0]
	copy(l.slabs, l.slabs[1:])
	l.slabs[len(l.slabs)-1] = nil
	l.slabs = l.slabs[:len(l.slabs)-1]
	s.release()
}

// dropIdle drops the slabs of logs that are filed and have had no append for a while, so that many idle partitions
// take little memory. Their newest entries are then read from the file.
func (s *Store) dropIdle() {
	for _, l := range s.openLogs() {
		l.mu.Lock()
		if l.quiet != l.next.index {
			l.quiet, l.quietRounds = l.next.index, 0
		}
		if l.quietRounds++; l.quietRounds > fileAge && !l.dirtyLocked() {
			for len(l.slabs) > 0 {
				l.popSlabLocked()
			}
			l.grown = 0
		}
		l.mu.Unlock()
	}
}
