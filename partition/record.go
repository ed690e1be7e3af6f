package partition

import (
	"fmt"
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
// chunk or, from a compressed batch, of new memory. The error is a *wire.Error, CodeCorruptRange when the batch cannot
// be decoded.
func recordAt(c *log.Chunk, offset uint64) (wire.Record, error) {
	for e, err := range entries(c) {
		if err != nil {
			return wire.Record{}, wire.Errorf(wire.CodeInternal, "read entries: %v", err)
		}
		if e.Kind == wire.KindData && offset >= e.BaseOffset && offset < e.NextOffset() {
			return recordIn(e, offset)
		}
	}
	return wire.Record{}, outOfRange(offset, c.Next, c.Next)
}

// recordIn is recordAt for the entry that holds the offset.
func recordIn(e wire.Entry, offset uint64) (wire.Record, error) {
	batch, err := Unpacked(&e)
	if err != nil {
		return wire.Record{}, err
	}
	at := e.BaseOffset
	for rec, err := range batch.Records() {
		if err != nil {
			return wire.Record{}, Undecodable(&e, err)
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

// Unpacked checks the batch of a data entry and returns it decompressed. The error is a *wire.Error.
func Unpacked(e *wire.Entry) (wire.Batch, error) {
	batch, err := wire.ParseBatch(e.Payload)
	if err == nil {
		batch, err = codec.Unpack(batch, nil)
	}
	if err != nil {
		return wire.Batch{}, Undecodable(e, err)
	}
	return batch, nil
}

// Undecodable returns the error for an entry whose batch cannot be decoded, because of err: its records are lost. The
// broker does not open compressed batches when they are published, so the publisher may have sent it like this.
func Undecodable(e *wire.Entry, err error) *wire.Error {
	return &wire.Error{
		Code: wire.CodeCorruptRange, First: e.BaseOffset, Next: e.NextOffset(),
		Detail: fmt.Sprintf("records [%d, %d) cannot be decoded: %v", e.BaseOffset, e.NextOffset(), err),
	}
}

// Place returns the partition of a key, by the topic's hash.
func (t *Topic) Place(key []byte) *Partition {
	parts := t.Partitions()
	return parts[keyhash.Partition(t.Config().Hash, key, len(parts))]
}
