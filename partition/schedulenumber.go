package partition

import "github.com/rafka-mq/rafka/wire"

// A client may number the messages it schedules, apart from those it publishes. The companion log remembers the last
// requests of each client, so that a request that is sent again because its reply was lost is not carried out again.
// The entries carry the numbers; before entries are removed, an entry at the end sums up what they said. The entries of
// a request that needs several are numbered, too, so that after a crash all of them count, or none.

// numbering stands at the front of the entries of a request.
type numbering struct {
	producer wire.Producer // number of the first message; with an ID of 0 the client did not number the request
	before   uint64        // messages of the request in earlier entries
	count    uint64        // messages of the request; 0 when the entry has no numbering
}

// numberingOf returns the numbering of a request. A request that is one entry and that the client did not number needs
// none.
func numberingOf(pr wire.Producer, items []ScheduleItem) numbering {
	if pr.ID == 0 && runLength(items) == len(items) {
		return numbering{}
	}
	return numbering{producer: pr, count: countMessages(items)}
}

// append appends the numbering, which is the start of an entry's body, if there is one.
func (n *numbering) append(dst []byte) []byte {
	if n.count == 0 {
		return dst
	}
	return appendUvarints(append(dst, entryNumbered), n.producer.ID, n.producer.Epoch, n.producer.Sequence, n.before, n.count)
}

// splitNumbering splits a body into its numbering, zero when there is none, and the rest.
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

// request is a request with a numbering while its entries are loaded.
type request struct {
	numbering
	base uint64 // offset of its first message
	next uint64 // offset behind the last message seen
}

// loadNumbering tracks the requests in the log. A request whose last entry is missing was never answered: its other
// entries do not count, because the client may send all of it again.
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
		l.open = request{} // one of its entries is damaged
		return
	}
	if l.open.next += uint64(e.Count); l.open.next-l.open.base == n.count {
		if n.producer.ID != 0 {
			s.producers.note(n.producer, uint32(n.count), l.open.base, e.Index)
		}
		l.open = request{}
	}
}

// endRequest drops the messages of a request that is not complete. at is the offset of the entry that is not its
// next one. When that does not follow the request directly, an entry of the request was damaged: then its other
// messages stay.
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

// notedProducers is the place of the entry that sums up the producers of the entries in front of it.
type notedProducers struct {
	index uint64 // of the entry; 0 for none
	next  uint64 // offset behind the entries it sums up
}

// below returns an offset below which the entries are not needed for the producers. The entry that sums them up has no
// records: a segment that ends with it is kept only for the record in front of it.
func (n *notedProducers) below() uint64 { return max(n.next, 1) - 1 }

// noteProducers logs an entry that sums up the producers, unless that was done. ok reports that the entry is on the
// disk: then the entries below the returned offset are not needed for the producers any more.
func (s *schedule) noteProducers() (below uint64, ok bool) {
	if s.noted.index != 0 {
		return s.noted.below(), s.store.Reached(s.noted.index, s.store.stateLevel)
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
	s.noted = notedProducers{index: index, next: next}
	s.store.Flush(s.store.stateLevel)
	return 0, false
}
