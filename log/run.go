package log

import "github.com/rafka-mq/rafka/wire"

// Run is data entries that are appended together.
type Run struct {
	Payloads [][]byte // encoded batches; AppendRun copies them
	Counts   []uint32 // how many records each of them has, at least 1
}

// AppendRun appends data entries in order, like as many calls of Append, but locks the log once. It returns the offset
// of the first record and how many entries were appended. When that is fewer than all, err is the error of Append for
// the next one. timeMs is in ms since 1970.
func (l *Log) AppendRun(run Run, term uint64, timeMs int64) (base uint64, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	base = l.next.offset
	if err := l.refuseLocked(wire.KindData); err != nil {
		return base, 0, err
	}
	l.ready = true
	st := wire.Stamp{Kind: wire.KindData, Term: term, Time: l.appendTimeLocked(timeMs)}
	for n < len(run.Payloads) {
		if size := len(run.Payloads[n]); size < 4 || size > wire.MaxFrameBytes {
			return base, n, ErrPayload
		}
		s, err := l.roomLocked(wire.StampBytes + len(run.Payloads[n]))
		if err != nil {
			return base, n, err
		}
		n += l.fillLocked(s, run.Payloads[n:], run.Counts[n:], &st)
	}
	return base, n, nil
}

// fillLocked appends entries to s until it is full or the next one is invalid, and returns how many. The first one must
// fit.
func (l *Log) fillLocked(s *slab, payloads [][]byte, counts []uint32, st *wire.Stamp) (n int) {
	used, due, streamed := s.used, s.markDueAt(), false
	st.Index, st.BaseOffset = l.next.index, l.next.offset
	for n < len(payloads) {
		payload := payloads[n]
		short := len(payload) >= shortLeast && len(payload) <= shortMost
		if short {
			if many, at := fillShort(s.mem, used, due, payloads[n:], counts[n:], st); many > 0 {
				n, used = n+many, at
				continue
			}
		}
		end := used + wire.StampBytes + len(payload)
		if end > len(s.mem) || len(payload) < 4 {
			break
		}
		st.Length, st.Count = uint32(len(payload)), counts[n]
		if used >= due {
			s.noteLocked(st, used)
			due = s.markDueAt()
		}
		entry := s.mem[used:end]
		st.PutFields(entry)
		if dst := entry[wire.StampBytes:]; short {
			copyWords(dst, payload) // here, because a call takes as long
		} else {
			streamed = copyIn(dst, payload) || streamed
		}
		st.Index++
		st.BaseOffset += uint64(st.Count)
		used = end
		n++
	}
	if streamed {
		streamFence()
	}
	wire.SealStamps(s.mem[s.used:used], l.seed)
	grown := int64(used - s.used)
	s.used = used
	l.next = place{offset: st.BaseOffset, index: st.Index, term: st.Term, time: st.Time}
	s.end = l.next
	l.grown += grown
	l.unfiled += grown
	return n
}
