package partition

import (
	"cmp"
	"errors"
	"sync"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// maxLatest bounds the keys of a partition that latest keeps, at about 60 bytes of memory each.
const maxLatest = 4 << 20

// lookBytes is about how much a look-up reads at once.
const lookBytes = 4 << 20

// ErrMore is returned by Latest when it has read as much as one call should: the next call goes on there.
var ErrMore = errors.New("partition: more has to be read to look up a key")

// maxUnpackKept bounds the scratch space that a partition keeps between look-ups: a small batch may unpack to 64 MiB.
const maxUnpackKept = 1 << 20

// latest maps every key of a compacted partition to its newest record. The first look-up builds it from the whole log,
// and every later one adds what was appended since.
type latest struct {
	mu      sync.Mutex        // guards the fields below; held while lookBytes of the log are read
	offsets map[digest]uint64 // offset of the newest record, by the hash of the key
	next    uint64            // records below were looked at
	unpack  []byte            // scratch space for compressed batches
	most    int               // keys; 0 means maxLatest, which only a test changes
	full    uint64            // the last time there were too many keys: the visible offset from which on startOver tries again
}

// Latest fills c with the entry of the newest visible record of a key, and returns the record's offset. It may wait for
// the disk, and takes long the first time, so it must not be called on an event loop. The error is a *wire.Error:
// CodeKeyNotFound when the key has no record or its newest is a tombstone, CodeInvalid when the topic is not compacted,
// CodeLimit when the partition has too many keys; or it is ErrMore. The caller must Release c.
func (p *Partition) Latest(c *log.Chunk, key []byte) (offset uint64, err error) {
	if err := p.Err(); err != nil {
		return 0, err
	}
	if !p.topic.Config().Compact {
		return 0, wire.Errorf(wire.CodeInvalid, "topic %q has no latest records: its cleanup is not compact", p.topic.name)
	}
	offset, ok, err := p.latest.find(p, key)
	if err != nil {
		return 0, err
	}
	if !ok || offset < p.First() {
		return 0, keyNotFound(p, key)
	}
	if err := p.ReadCold(c, offset, 1); err != nil {
		return 0, err
	}
	rec, err := recordAt(c, offset)
	if err != nil || rec.Value == nil { // removed since by compaction or its time to live
		c.Release()
		return 0, keyNotFound(p, key)
	}
	return offset, nil
}

func keyNotFound(p *Partition, key []byte) *wire.Error {
	return wire.Errorf(wire.CodeKeyNotFound, "%s has no record with key %.80q", p, key)
}

// find returns the offset of the newest record of a key, and false when there is none. The error may be ErrMore.
func (l *latest) find(p *Partition, key []byte) (offset uint64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offsets == nil {
		l.offsets = map[digest]uint64{}
	}
	if err := l.follow(p); err != nil {
		return 0, false, err
	}
	if cap(l.unpack) > maxUnpackKept {
		l.unpack = nil
	}
	offset, ok = l.offsets[digestOf(key)]
	return offset, ok, nil
}

// follow looks at the records that became visible since the last time. A record past its time to live counts: it has
// replaced the earlier ones of its key. The error is ErrMore after about lookBytes. The caller holds mu.
func (l *latest) follow(p *Partition) error {
	var c log.Chunk
	read := 0
	l.next = max(l.next, p.First())
	for visible := p.Visible(); l.next < visible; visible = p.Visible() {
		if read >= lookBytes {
			return ErrMore
		}
		err := p.log.ReadCold(&c, l.next, visible, 1<<20) // not Partition.ReadCold, which leaves expired records out
		if err != nil {
			err = p.readError(l.next, err)
		}
		if damage := (*wire.Error)(nil); errors.As(err, &damage) && damage.Next > l.next {
			l.next = damage.Next // damaged, or removed by retention meanwhile
			continue
		}
		if err != nil {
			return err
		}
		for _, b := range c.Slices {
			read += len(b)
		}
		next := max(l.next, c.Next)
		err = l.noteChunk(&c)
		c.Release()
		if errors.Is(err, wire.CodeLimit) { // all calls end here: without these keys they would find older records
			return l.startOver(visible, err)
		}
		moved := next > l.next
		l.next = next
		if err != nil || !moved {
			return err
		}
	}
	return nil
}

// startOver forgets all keys and returns ErrMore, because many of them may be of records that are gone: their time to
// live is over, or they were purged. When that was done a short while ago, there are too many: it returns err.
func (l *latest) startOver(visible uint64, err error) error {
	if visible < l.full {
		return err
	}
	l.offsets, l.next, l.full = map[digest]uint64{}, 0, visible+uint64(l.limit())
	return ErrMore
}

func (l *latest) limit() int { return cmp.Or(l.most, maxLatest) }

// put notes the newest record of a key.
func (l *latest) put(key digest, offset uint64) error {
	if _, known := l.offsets[key]; !known && len(l.offsets) >= l.limit() {
		return wire.Errorf(wire.CodeLimit, "the partition has over %d keys: too many to look one up", l.limit())
	}
	l.offsets[key] = offset
	return nil
}

func (l *latest) noteChunk(c *log.Chunk) error {
	for e, err := range entries(c) {
		if err != nil {
			return err
		}
		if err := l.noteEntry(&e); err != nil {
			return err
		}
	}
	return nil
}

// noteEntry notes the records of an entry. It skips a damaged batch, which readers of the batch are told.
func (l *latest) noteEntry(e *wire.Entry) error {
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return nil
	}
	if batch, err = codec.Unpack(batch, l.unpack); err != nil {
		return nil
	}
	if batch.Codec() != wire.CodecNone {
		l.unpack, _ = batch.Packed()
	}
	offset := e.BaseOffset
	for rec, err := range batch.Records() {
		if err != nil {
			return nil
		}
		switch {
		case rec.Key == nil || rec.Removed:
		case rec.Value == nil:
			delete(l.offsets, digestOf(rec.Key))
		default:
			if err := l.put(digestOf(rec.Key), offset); err != nil {
				return err
			}
		}
		offset++
	}
	return nil
}
