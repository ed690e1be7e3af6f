package partition

import (
	"iter"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
	"github.com/rafka-mq/rafka/wire/keyhash"
)

// entries iterates over the entries of a chunk, which are views of it. A malformed entry is yielded as an error and ends
// the iteration.
func entries(c *log.Chunk) iter.Seq2[wire.Entry, error] {
	return func(yield func(wire.Entry, error) bool) {
		for _, b := range c.Slices {
			for len(b) > 0 {
				e, rest, err := wire.ViewEntry(b)
				if !yield(e, err) || err != nil {
					return
				}
				b = rest
			}
		}
	}
}

// recordAt returns the record at offset in a chunk, after checking the batch it is in. The record is a view of the
// chunk or, from a compressed batch, of new memory.
func recordAt(c *log.Chunk, offset uint64) (wire.Record, error) {
	for e, err := range entries(c) {
		if err != nil {
			return wire.Record{}, err
		}
		if e.Kind == wire.KindData && offset >= e.BaseOffset && offset < e.NextOffset() {
			return recordIn(e, offset)
		}
	}
	return wire.Record{}, outOfRange(offset, c.Next, c.Next)
}

// recordIn is recordAt for the entry that holds the offset.
func recordIn(e wire.Entry, offset uint64) (wire.Record, error) {
	batch, err := wire.ParseBatch(e.Payload)
	if err != nil {
		return wire.Record{}, err
	}
	if batch, err = codec.Unpack(batch, nil); err != nil {
		return wire.Record{}, err
	}
	at := e.BaseOffset
	for rec, err := range batch.Records() {
		if err != nil {
			return wire.Record{}, err
		}
		if at == offset && rec.Removed {
			break
		}
		if at == offset {
			return rec, nil
		}
		at++
	}
	return wire.Record{}, outOfRange(offset, offset+1, e.NextOffset())
}

// Place returns the partition of a key, by the topic's hash.
func (t *Topic) Place(key []byte) *Partition {
	parts := t.Partitions()
	return parts[keyhash.Partition(t.Config().Hash, key, len(parts))]
}
