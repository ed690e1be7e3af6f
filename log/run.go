package log

import "github.com/rafka-mq/rafka/wire"

// Data is one data entry of a run.
type Data struct {
	Payload []byte // an encoded batch; AppendRun copies it
	Count   uint32 // records in it, at least 1
}

// AppendRun appends data entries in order, like as many calls of Append, but locks the log once. It returns the offset
// of the first record and how many entries were appended. When that is fewer than all, err is the error of Append for
// the next one. timeMs is in ms since 1970.
func (l *Log) AppendRun(run []Data, term uint64, timeMs int64) (base uint64, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	base = l.next.offset
	if err := l.refuseLocked(&Batch{Kind: wire.KindData}); err != nil {
		return base, 0, err
	}
	l.ready = true
	st := wire.Stamp{Kind: wire.KindData, Term: term, Time: l.appendTimeLocked(timeMs)}
	stamps := wire.NewStampRun(l.seed)
	for n < len(run) {
		if size := len(run[n].Payload); size < 4 || size > wire.MaxFrameBytes {
			return base, n, ErrPayload
		}
		s, err := l.roomLocked(wire.StampBytes + len(run[n].Payload))
		if err != nil {
			return base, n, err
		}
		n += l.fillLocked(s, run[n:], &st, &stamps)
	}
	return base, n, nil
}

// fillLocked appends entries to s until it is full or the next one is invalid, and returns how many. The first one must
// fit.
func (l *Log) fillLocked(s *slab, run []Data, st *wire.Stamp, stamps *wire.StampRun) int {
	used := s.used
	st.Index, st.BaseOffset = l.next.index, l.next.offset
	i := 0
	for ; i < len(run); i++ {
		payload := run[i].Payload
		end := used + wire.StampBytes + len(payload)
		if end > len(s.mem) || len(payload) < 4 {
			break
		}
		st.Length, st.Count = uint32(len(payload)), run[i].Count
		s.noteLocked(st, used)
		entry := s.mem[used:end]
		copy(entry[wire.StampBytes:], payload)
		stamps.Put(entry, st, le.Uint32(payload))
		st.Index++
		st.BaseOffset += uint64(st.Count)
		used = end
	}
	grown := int64(used - s.used)
	s.used = used
	l.next = place{offset: st.BaseOffset, index: st.Index, term: st.Term, time: st.Time}
	s.end = l.next
	l.grown += grown
	l.unfiled += grown
	return i
}
