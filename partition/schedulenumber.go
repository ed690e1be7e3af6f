package partition

import (
	"encoding/binary"

	"github.com/rafka-mq/rafka/wire"
)

// Clients number the messages they schedule, apart from what they publish. The companion log remembers the last
// requests of each, so that one that is sent again, because its reply was lost, is not taken again:
// its entries carry the numbers, and before entries are removed what they said is written down at the end.
// The entries of a request that needs several say so, too: after a crash all of them count, or none.

// numbering stands in front of the entries of a request.
type numbering struct {
	producer wire.Producer // of the first message of the request; without an ID it is not numbered
	before   uint64        // messages of the request in earlier entries
	count    uint64        // messages of the request; 0 for no numbering
}

// numberingOf returns what is to be said about a request: nothing about one without numbers that is one
// entry.
func numberingOf(pr wire.Producer, items []ScheduleItem) numbering {
	if pr.ID == 0 && runLength(items) == len(items) {
		return numbering{}
	}
	return numbering{producer: pr, count: messages(items)}
}

// append begins the body of an entry.
func (n *numbering) append(dst []byte) []byte {
	if n.count == 0 {
		return dst
	}
	return appendUvarints(append(dst, entryNumbered), n.producer.ID, n.producer.Epoch, n.producer.Sequence, n.before, n.count)
}

// splitNumbering returns the body behind a numbering; n is zero when there is none.
func splitNumbering(body []byte) (n numbering, rest []byte, err error) {
	if len(body) == 0 || body[0] != entryNumbered {
		return n, body, nil
	}
	r := uvarints{b: body[1:]}
	n.producer = wire.Producer{ID: r.next(), Epoch: r.next(), Sequence: r.next()}
	n.before, n.count = r.next(), r.next()
	if r.bad || n.before >= n.count {
		return n, nil, errScheduleEntry
	}
	return n, r.b, nil
}

// request is a request of several entries, or with numbers, while its entries are read after a restart.
type request struct {
	numbering
	base uint64 // offset of its first message
	next uint64 // behind the last one that was seen
}

// loadNumbering follows the requests in the log. A request of which the end was not written was never
// answered: what is there of it does not count, because all of it may come again.
func (s *schedule) loadNumbering(l *loading, n numbering, e *wire.Entry) {
	if o := &l.open; o.count > 0 && (n.producer != o.producer || n.before != o.next-o.base) {
		s.endRequest(l, e.BaseOffset)
	}
	switch {
	case n.count == 0:
		return
	case n.before == 0:
		l.open = request{numbering: n, base: e.BaseOffset, next: e.BaseOffset}
	case l.open.count == 0 || l.open.next != e.BaseOffset:
		l.open = request{} // an entry of it is damaged
		return
	}
	if l.open.next += uint64(e.Count); l.open.next-l.open.base == n.count {
		if n.producer.ID != 0 {
			s.producers.note(n.producer, uint32(n.count), l.open.base, e.Index)
		}
		l.open = request{}
	}
}

// endRequest ends a request that is not complete. at is where the log goes on: elsewhere when an entry
// is damaged, and then what is there of it stays.
func (s *schedule) endRequest(l *loading, at uint64) {
	for id := l.open.base + 1; at == l.open.next && id <= at; {
		next := id + 1
		if it := l.take(id, at+1-id); it != nil {
			it.due, next = gone, it.end()
		}
		delete(s.crons, id)
		id = next
	}
	l.open = request{}
}

// remembered is where it was written down what the entries before said of producers.
type remembered struct {
	index, next uint64 // of the entry, and the offset behind what it knows; 0 for none
}

// remember writes down what is known of producers, and reports whether it is on the disk: then entries
// below the returned offset are not needed for it.
func (s *schedule) remember() (below uint64, ok bool) {
	if s.noted.index != 0 {
		return s.noted.next, s.store.Reached(s.noted.index, s.store.stateLevel)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.store.Next()
	if len(s.producers.byID) == 0 {
		return next, true
	}
	s.body = s.producers.append(append(s.room(), entryProducers))
	_, index, err := s.writeLocked(wire.KindState, 0, s.all.clock.Now())
	if err != nil {
		return 0, false
	}
	s.noted = remembered{index, next}
	s.store.Flush(s.store.stateLevel)
	return 0, false
}

// append appends what is known of every producer, in the order of their last batches.
func (ps *producers) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ps.byID)))
	for _, id := range ps.byUse() {
		p := ps.byID[id]
		dst = appendUvarints(dst, id, p.epoch, p.next, uint64(len(p.runs)))
		for _, r := range p.runs {
			dst = appendUvarints(dst, r.first, r.count, r.base, r.index)
		}
	}
	return dst
}

// restore reads what append wrote.
func (ps *producers) restore(r *uvarints) {
	for n := r.next(); n > 0 && !r.bad; n-- {
		id, p := r.next(), &producer{epoch: r.next(), next: r.next()}
		for runs := min(r.next(), rememberedRuns); runs > 0; runs-- {
			p.runs = append(p.runs, run{r.next(), r.next(), r.next(), r.next()})
		}
		ps.turn++
		p.used = ps.turn
		*ps.add(id) = *p
	}
}
