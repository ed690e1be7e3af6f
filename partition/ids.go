package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// maxIDs is how many message ids a partition remembers, at 100 bytes of memory each. When the window has more, the
	// oldest are forgotten early.
	maxIDs = 1 << 20
	// forgetAtOnce bounds the ids that one call of forget drops, because publishers wait meanwhile: for 0.2 ms.
	forgetAtOnce = 1024
	// idChunk bounds the ids that are copied when there is no room for another.
	idChunk = 4096
)

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

// ids remembers the message ids that were stored within the topic's dedupe window, and some older ones. They are
// numbered in the order in which they were stored. The zero value is ready.
type ids struct {
	numbers    map[digest]uint64 // of the last place of each id
	chunks     [][]storedID      // a queue, in pieces of idChunk
	base       uint64            // number of the first one in chunks
	head, next uint64            // those with the numbers [head, next) are remembered; an element never changes, see live
}

// storedID is a message id with its place.
type storedID struct {
	id digest
	at place
	ms int64 // append time of its entry, in milliseconds since 1970
}

// find forgets some of the ids that are older than windowMs milliseconds and then looks for the others among those of b,
// which must not be compressed. known is the place of the first record whose id is known. again is the first id that occurs twice
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
		if n, ok := s.numbers[key]; ok && s.stored(n).ms >= nowMs-windowMs {
			return &s.stored(n).at, nil, nil
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

// stored returns the id of a number that is in the queue.
func (s *ids) stored(n uint64) *storedID {
	n -= s.base
	return &s.chunks[n/idChunk][n%idChunk]
}

func (s *ids) add(id digest, at place, ms int64) {
	if s.numbers == nil {
		s.numbers = map[digest]uint64{}
	}
	if s.next-s.head >= maxIDs {
		s.drop()
	}
	if s.next-s.base == uint64(len(s.chunks))*idChunk {
		s.chunks = append(s.chunks, nil)
	}
	last := &s.chunks[len(s.chunks)-1]
	*last = append(*last, storedID{id, at, ms})
	s.numbers[id] = s.next
	s.next++
}

// forget drops some of the ids that were stored before a time in milliseconds since 1970. It reports whether there are
// more of them.
func (s *ids) forget(beforeMs int64) (more bool) {
	for range forgetAtOnce {
		if !s.outdated(beforeMs) {
			return false
		}
		s.drop()
	}
	return s.outdated(beforeMs)
}

// outdated reports whether the oldest id was stored before a time.
func (s *ids) outdated(beforeMs int64) bool { return s.head < s.next && s.stored(s.head).ms < beforeMs }

// drop forgets the oldest id, which must exist. An id that was stored again since keeps its newer place: a restart
// reads both.
func (s *ids) drop() {
	if id := s.stored(s.head).id; s.numbers[id] == s.head {
		delete(s.numbers, id)
	}
	s.head++
	switch {
	case s.head == s.next: // the map has the memory of the most ids that it ever had
		*s = ids{}
	case s.head-s.base == idChunk:
		s.chunks[0] = nil
		s.chunks, s.base = s.chunks[1:], s.head
	}
}

// live returns the ids that are remembered now, oldest first. They stay valid and unchanged whatever happens to s later.
func (s *ids) live() [][]storedID {
	list := slices.Clone(s.chunks)
	if len(list) > 0 {
		list[0] = list[0][s.head-s.base:]
	}
	return list
}

// storedBytes is about the size of an id in a snapshot.
const storedBytes = 32

// appendIDs appends ids to a snapshot: uvarint count, then for each 16 bytes of hash and uvarint offset, index and
// append time.
func appendIDs(dst []byte, chunks [][]storedID) []byte {
	n := 0
	for _, list := range chunks {
		n += len(list)
	}
	dst = slices.Grow(dst, n*storedBytes+binary.MaxVarintLen64)
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, list := range chunks {
		for i := range list {
			o := &list[i]
			dst = append(dst, o.id[:]...)
			dst = appendUvarints(dst, o.at.offset, o.at.index, uint64(o.ms))
		}
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
