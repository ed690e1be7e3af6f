package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// maxIDs is how many message ids a partition remembers, at 116 bytes of memory each. When the window has more, the
// oldest are forgotten early.
const maxIDs = 1 << 20

// digest is the hash of a message id or a key. It is cryptographic, because a collision would lose a message.
type digest [16]byte

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:16])
}

// place is where a message was stored.
type place struct {
	offset, index uint64
}

// ids remembers the message ids that were stored within the topic's dedupe window. The zero value is ready.
type ids struct {
	places map[digest]place
	order  []storedID // a queue, oldest first: those before head are forgotten; an element never changes, see live
	head   int
}

// storedID is a message id with its place.
type storedID struct {
	id digest
	at place
	ms int64 // append time of its entry, in milliseconds since 1970
}

// find forgets ids that are older than windowMs milliseconds and then looks for the ids of b, which must not be
// compressed. known is the place of the first record whose id is known. again is the first id that occurs twice
// within b, a view of b. At most one of the results is set. The error is a *wire.Error.
func (s *ids) find(b *wire.Batch, nowMs, windowMs int64) (known *place, again []byte, err error) {
	s.forget(nowMs - windowMs)
	var seen map[digest]struct{}
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
		key := digestOf(id)
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
			seen = make(map[digest]struct{}, b.Count())
		}
		seen[key] = struct{}{}
	}
	return nil, nil, nil
}

// note remembers the ids of a batch that was stored at base at time ms. It ignores compressed batches, and records
// behind damage.
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
			s.add(digestOf(id), place{offset, index}, ms)
		}
		offset++
	}
}

func (s *ids) add(id digest, at place, ms int64) {
	if s.places == nil {
		s.places = map[digest]place{}
	}
	if len(s.order)-s.head >= maxIDs {
		s.drop()
	}
	s.places[id] = at
	s.order = append(s.order, storedID{id, at, ms})
}

// forget drops the ids that were stored before a time in milliseconds since 1970.
func (s *ids) forget(beforeMs int64) {
	for s.head < len(s.order) && s.order[s.head].ms < beforeMs {
		s.drop()
	}
}

// drop forgets the oldest id, which must exist. An id that was stored again since keeps its newer place: a restart
// reads both.
func (s *ids) drop() {
	if o := &s.order[s.head]; s.places[o.id] == o.at {
		delete(s.places, o.id)
	}
	s.head++
	if s.head == len(s.order) { // the map has the memory of the most ids that it ever had
		s.places, s.order, s.head = nil, nil, 0
	} else if s.head > 4096 && 2*s.head > len(s.order) {
		s.order, s.head = slices.Clone(s.order[s.head:]), 0
	}
}

// live returns the ids that are remembered now, oldest first. The slice stays valid and unchanged whatever happens
// to s later.
func (s *ids) live() []storedID { return s.order[s.head:len(s.order):len(s.order)] }

// storedBytes is about the size of an id in a snapshot.
const storedBytes = 32

// appendIDs appends ids to a snapshot: uvarint count, then for each 16 bytes of hash and uvarint offset, index and
// append time.
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

// restore reads what appendIDs wrote.
func (s *ids) restore(r *uvarints) {
	for n := r.next(); n > 0 && !r.bad; n-- {
		if id := r.bytes(16); id != nil {
			s.add(digest(id), place{r.next(), r.next()}, int64(r.next()))
		}
	}
}
