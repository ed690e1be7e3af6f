package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// cursor walks over the records of stored entries and decodes them one at a time. A record is a
// view of the entries, or of the cursor's own memory when its batch was compressed. It is valid
// until the cursor opens the next batch.
type cursor struct {
	entries []byte
	seed    uint32
	from    uint64            // records before this offset are skipped
	records wire.RecordReader // of the open batch
	record  wire.Record       // the current one
	current bool              // record is valid
	end     uint64            // offset behind the open batch
	next    uint64            // offset of the record to decode next
	time    int64             // append time of the batch, Unix ms
	ttl     time.Duration
	unpack  []byte // memory for decompression
	keep    bool   // decompress every batch into new memory, so that its records stay valid
}

// reset starts again with other entries. It keeps the memory for decompression.
func (c *cursor) reset(entries []byte, seed uint32, from uint64) {
	c.entries, c.seed, c.from = entries, seed, from
	c.records, c.current = wire.RecordReader{}, false
}

// more makes the next record current. It returns false at the end of the entries. An error for which
// undecodable returns true names records that are lost; the next call goes on behind them. After any
// other nothing more can be read: the entries are damaged.
func (c *cursor) more() (bool, error) {
	for {
		if ok, err := c.read(); ok || err != nil {
			return ok, err
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
		c.next, c.end = e.BaseOffset, e.NextOffset()
		if err := c.open(&e); err != nil {
			return false, c.lost(err)
		}
	}
}

// read makes the next record of the open batch current. It returns false at the end of the batch.
func (c *cursor) read() (bool, error) {
	for !c.current {
		ok, err := c.records.Next(&c.record)
		if err != nil {
			return false, c.lost(err)
		}
		if !ok {
			return false, nil
		}
		c.current = c.next >= c.from && !c.record.Removed
		c.next++
	}
	return true, nil
}

// lost returns the error for the rest of a batch that cannot be decoded because of err. The broker does
// not open compressed batches, so the producer may have sent it like this.
func (c *cursor) lost(err error) error {
	we := wire.Errorf(wire.CodeCorruptRange, "received batch cannot be decoded: %v", err)
	we.First, we.Next = max(c.next, c.from), c.end
	return we
}

// undecodable reports whether err, from a cursor, names records that are lost.
func undecodable(err error) bool { return errors.Is(err, wire.CodeCorruptRange) }

// open begins a batch.
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
	c.records, c.current = b.Reader(), false
	c.time = e.Time
	c.ttl = time.Duration(b.TTL()) * time.Millisecond
	return nil
}

// offset returns the offset of the current record.
func (c *cursor) offset() uint64 { return c.next - 1 }

// take fills m from the current record and steps over it. more must have returned true.
func (c *cursor) take(m *Message) {
	m.fill(&c.record, c.time)
	m.Offset, m.TTL = c.offset(), c.ttl
	c.current = false
}

// skip steps over the current record.
func (c *cursor) skip() { c.current = false }

// drain appends the current record and the rest of its batch to ms.
func (c *cursor) drain(ms []Message, topic string, partition int) ([]Message, error) {
	ms = slices.Grow(ms, 1+c.records.Left())
	for {
		ok, err := c.read()
		if !ok {
			return ms, err
		}
		ms = append(ms, Message{Topic: topic, Partition: partition})
		c.take(&ms[len(ms)-1])
	}
}
