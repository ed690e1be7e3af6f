package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// maxIDs is how many message ids a partition remembers: 116 bytes of memory each. With more of them
// within the window the oldest are forgotten early.
const maxIDs = 1 << 20

// messageID stands for a message id. The hash is a cryptographic one: two ids with the same value
// would be a message lost.
type messageID [16]byte

func newMessageID(id []byte) messageID {
	sum := sha256.Sum256(id)
	return messageID(sum[:16])
}

// place is where a message was stored.
type place struct {
	offset, index uint64
}

// ids remembers the message ids that were stored within the window of the topic, the oldest first. The
// zero value is ready.
type ids struct {
	places map[messageID]place
	order  []storedID // a queue: the entries before head were forgotten, and none ever changes
	head   int
}

// storedID is where an id was stored and when, by the append time of its entry in milliseconds.
type storedID struct {
	id messageID
	at place
	ms int64
}

// find returns where the first record of b, which is not compressed, is whose id is known. again is such a record's id when it
// stands twice in b. The error is a *wire.Error. Ids older than window milliseconds are forgotten first.
func (s *ids) find(b *wire.Batch, nowMs, windowMs int64) (known *place, again []byte, err error) {
	s.forget(nowMs - windowMs)
	var seen map[messageID]struct{}
	for rec, err := range b.Records() {
		if err != nil {
			return nil, nil, wire.Errorf(wire.CodeCorruptBatch, "%v", err)
		}
		id := rec.Headers.ID()
		if len(id) > wire.MaxMessageID {
			return nil, nil, wire.Errorf(wire.CodeTooLarge, "a message id has at most %d bytes", wire.MaxMessageID)
		}
		if id == nil {
			continue
		}
		key := newMessageID(id)
		if p, ok := s.places[key]; ok {
			return &p, nil, nil
		}
		if b.Count() == 1 {
			return nil, nil, nil
		}
		if _, twice := seen[key]; twice {
			return nil, id, nil
		}
		if seen == nil {
			seen = make(map[messageID]struct{}, b.Count())
		}
		seen[key] = struct{}{}
	}
	return nil, nil, nil
}

// note remembers the ids of a stored batch. One that is damaged or compressed has none.
func (s *ids) note(b *wire.Batch, base, index uint64, ms int64) {
	if b.Codec() != wire.CodecNone {
		return
	}
	offset := base
	for rec, err := range b.Records() {
		if err != nil {
			return
		}
		if id := rec.Headers.ID(); id != nil {
			s.add(newMessageID(id), place{offset, index}, ms)
		}
		offset++
	}
}

func (s *ids) add(id messageID, at place, ms int64) {
	if s.places == nil {
		s.places = map[messageID]place{}
	}
	if len(s.order)-s.head >= maxIDs {
		s.drop()
	}
	s.places[id] = at
	s.order = append(s.order, storedID{id, at, ms})
}

// forget drops the ids that were stored before a moment.
func (s *ids) forget(beforeMs int64) {
	for s.head < len(s.order) && s.order[s.head].ms < beforeMs {
		s.drop()
	}
}

// drop forgets the oldest id. Where it was stored again meanwhile stays known: a restart reads both.
func (s *ids) drop() {
	if o := &s.order[s.head]; s.places[o.id] == o.at {
		delete(s.places, o.id)
	}
	s.head++
	if s.head == len(s.order) {
		s.order, s.head = nil, 0
	} else if s.head > 4096 && 2*s.head > len(s.order) {
		s.order, s.head = slices.Clone(s.order[s.head:]), 0
	}
}

// live returns the ids as they are now, the oldest first. They stay as they are whatever happens to s.
func (s *ids) live() []storedID { return s.order[s.head:len(s.order):len(s.order)] }

// storedBytes is about what an id takes in a snapshot.
const storedBytes = 32

// appendIDs appends ids to a snapshot: uvarint count, and for each 16 bytes and uvarint offset, index
// and time.
func appendIDs(dst []byte, list []storedID) []byte {
	dst = slices.Grow(dst, len(list)*storedBytes+binary.MaxVarintLen64)
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for i := range list {
		o := &list[i]
		dst = append(dst, o.id[:]...)
		dst = appendUvarints(dst, o.at.offset, o.at.index, uint64(o.ms))
	}
	return dst
}

// restore reads what append wrote.
func (s *ids) restore(r *uvarints) {
	for n := r.next(); n > 0 && !r.bad; n-- {
		if id := r.bytes(16); id != nil {
			s.add(messageID(id), place{r.next(), r.next()}, int64(r.next()))
		}
	}
}
