package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// cursor walks the records of stored entries, one decoded batch at a time. Its records are views of
// the entries, or of the cursor's own memory when the batch was compressed; they are valid until the
// next batch is opened.
type cursor struct {
	entries []byte
	seed    uint32
	from    uint64 // records before this offset are skipped
	records []wire.Record
	next    int    // index in records
	base    uint64 // offset of records[0]
	time    int64  // append time of the batch
	ttl     time.Duration
	unpack  []byte // memory for decompression
	keep    bool   // decompress every batch into memory of its own, which stays valid
}

// reset starts over with other entries and keeps the memory.
func (c *cursor) reset(entries []byte, seed uint32, from uint64) {
	c.entries, c.seed, c.from = entries, seed, from
	c.records, c.next = c.records[:0], 0
}

// more makes sure that the current record exists. It returns false at the end of the entries. An
// error says that the entries are damaged: nothing can be read behind it.
func (c *cursor) more() (bool, error) {
	for {
		for c.next < len(c.records) && c.records[c.next].Removed {
			c.next++
		}
		if c.next < len(c.records) {
			return true, nil
		}
		e, rest, err := wire.ParseEntry(c.entries, c.seed)
		if errors.Is(err, wire.ErrEnd) && len(c.entries) == 0 {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("received entries: %w", err)
		}
		c.entries = rest
		if e.Kind != wire.KindData || e.NextOffset() <= c.from {
			continue
		}
		if err := c.open(&e); err != nil {
			return false, fmt.Errorf("received batch at offset %d: %w", e.BaseOffset, err)
		}
	}
}

// open decodes one batch.
func (c *cursor) open(e *wire.Entry) error {
	b, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return err
	}
	if b.Count() != e.Count {
		return wire.ErrBatch
	}
	if b.Codec() != wire.CodecNone {
		if c.keep {
			c.unpack = nil
		}
		if b, err = codec.Unpack(b, c.unpack); err != nil {
			return err
		}
		c.unpack, _ = b.Packed()
	}
	c.records = c.records[:0]
	for r, err := range b.Records() {
		if err != nil {
			return err
		}
		c.records = append(c.records, r)
	}
	c.base, c.time, c.next = e.BaseOffset, e.Time, 0
	c.ttl = time.Duration(b.TTL()) * time.Millisecond
	if c.from > c.base {
		c.next = int(c.from - c.base)
	}
	return nil
}

// offset returns the offset of the current record.
func (c *cursor) offset() uint64 { return c.base + uint64(c.next) }

// take fills m from the current record and steps to the next one. more must have returned true.
func (c *cursor) take(m *Message) {
	m.fill(&c.records[c.next], c.time)
	m.Offset, m.TTL = c.offset(), c.ttl
	c.next++
}

// skip steps over the current record.
func (c *cursor) skip() { c.next++ }

// drain appends the rest of the current batch to ms.
func (c *cursor) drain(ms []Message, topic string, partition int) []Message {
	ms = slices.Grow(ms, len(c.records)-c.next)
	for c.next < len(c.records) {
		if c.records[c.next].Removed {
			c.next++
			continue
		}
		ms = append(ms, Message{Topic: topic, Partition: partition})
		c.take(&ms[len(ms)-1])
	}
	return ms
}
