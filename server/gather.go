package server

import (
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// gatherer collects the entries that hold leased messages. An entry of which only a part is leased
// is cut when it is not compressed, so that workers who share a batch do not each get all of it.
type gatherer struct {
	out  []byte
	done int    // leases whose messages are all in out
	last uint64 // index of the last whole entry in out
}

// maxGathered is where gathering stops: the reply must fit a frame.
const maxGathered = wire.MaxFrameBytes - leaseReserve

// gather appends the entries of the leases, which are in offset order. read is the partition's Read
// or ReadCold.
func (g *gatherer) gather(p *partition.Partition, leases []group.Lease, read func(c *log.Chunk, offset uint64, maxBytes int) error) error {
	var c log.Chunk
	defer c.Release()
	for _, l := range leases {
		if g.done > 0 && len(g.out) >= maxGathered {
			return nil
		}
		from, to := l.First, l.First+uint64(l.Count)
		for from < to {
			c.Release()
			if err := read(&c, from, deliverBytes); err != nil {
				return err
			}
			if c.Next <= from {
				return outOfRange(p, from)
			}
			if err := g.chunk(&c, from, to, p.Identity().Seed()); err != nil {
				return err
			}
			from = c.Next
		}
		g.done++
	}
	return nil
}

func outOfRange(p *partition.Partition, offset uint64) *wire.Error {
	e := wire.Errorf(wire.CodeOffsetOutOfRange, "offset %d of %s is gone", offset, p)
	e.First, e.Next = p.First(), p.Visible()
	return e
}

// chunk appends what of c lies in [from, to).
func (g *gatherer) chunk(c *log.Chunk, from, to uint64, seed uint32) error {
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return err
			}
			if e.BaseOffset >= to {
				return nil
			}
			if e.NextOffset() > from {
				if err := g.entry(e, b[:len(b)-len(rest)], from, to, seed); err != nil {
					return err
				}
			}
			b = rest
		}
	}
	return nil
}

func (g *gatherer) entry(e wire.Entry, raw []byte, from, to uint64, seed uint32) error {
	first, next := max(from, e.BaseOffset), min(to, e.NextOffset())
	whole := first == e.BaseOffset && next == e.NextOffset()
	if !whole {
		batch, err := wire.ParseBatch(e.Payload)
		if err != nil {
			return err
		}
		if batch.Codec() == wire.CodecNone {
			return g.cut(e, &batch, first, next, seed)
		}
	}
	if g.last != e.Index { // leases of one compressed entry share it
		g.out = append(g.out, raw...)
		g.last = e.Index
	}
	return nil
}

// cut appends an entry of the broker's own making that holds the records [first, next) of e.
func (g *gatherer) cut(e wire.Entry, batch *wire.Batch, first, next uint64, seed uint32) error {
	at := len(g.out)
	g.out = append(g.out, make([]byte, wire.StampBytes)...)
	out, err := batch.Cut(g.out, uint32(first-e.BaseOffset), uint32(next-e.BaseOffset))
	if err != nil {
		return err
	}
	g.out = out
	st := e.Stamp
	st.Flags |= wire.StampCut
	st.Length = uint32(len(g.out) - at - wire.StampBytes)
	st.Count, st.BaseOffset = uint32(next-first), first
	st.Put(g.out[at:], seed)
	return nil
}
