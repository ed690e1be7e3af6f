package server

import (
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// gatherer collects the entries that hold leased messages. An entry of which only a part is leased
// is cut when it is not compressed, so that workers who share a batch do not each get all of it.
type gatherer struct {
	out  []byte
	sent []group.Lease  // what of the leases is in out
	gone []group.Settle // what of them is not to be delivered any more
	done int            // leases that were dealt with
	last uint64         // index of the last whole entry in out

	id      wire.Identity // of the partition
	checked *checkedEntry // the one that was cut last; nil remembers none
}

// checkedEntry is an entry of which the batch's checksum is right.
type checkedEntry struct {
	id    wire.Identity
	index uint64
}

// maxGathered is where gathering stops: the reply must fit a frame.
const maxGathered = wire.MaxFrameBytes - leaseReserve

// gather appends the entries of the leases, which are in offset order. read is the partition's Read
// or ReadCold.
func (g *gatherer) gather(p *partition.Partition, leases []group.Lease, read func(c *log.Chunk, offset uint64, maxBytes int) error) error {
	var c log.Chunk
	defer c.Release()
	g.id = p.Identity()
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
			at, err := g.chunk(&c, l, from, to, g.id.Seed())
			if err != nil {
				return err
			}
			from = min(to, c.Next)
			g.leave(l, at, from)
		}
		g.done++
	}
	return nil
}

// take notes that [from, to) of a lease is in out.
func (g *gatherer) take(l group.Lease, from, to uint64) {
	if n := len(g.sent); n > 0 {
		if s := &g.sent[n-1]; s.First+uint64(s.Count) == from && s.Attempt == l.Attempt {
			s.Count += uint32(to - from)
			return
		}
	}
	g.sent = append(g.sent, group.Lease{First: from, Count: uint32(to - from), Attempt: l.Attempt})
}

// leave notes that [from, to) of a lease has nothing to deliver.
func (g *gatherer) leave(l group.Lease, from, to uint64) {
	if from >= to {
		return
	}
	if n := len(g.gone); n > 0 {
		if s := &g.gone[n-1]; s.First+uint64(s.Count) == from && s.Attempt == l.Attempt {
			s.Count += uint32(to - from)
			return
		}
	}
	g.gone = append(g.gone, group.Settle{First: from, Count: uint32(to - from), Attempt: l.Attempt})
}

func outOfRange(p *partition.Partition, offset uint64) *wire.Error {
	e := wire.Errorf(wire.CodeOffsetOutOfRange, "offset %d of %s is gone", offset, p)
	e.First, e.Next = p.First(), p.Visible()
	return e
}

// chunk appends what of c lies in [from, to) of a lease, and returns the offset behind.
func (g *gatherer) chunk(c *log.Chunk, l group.Lease, from, to uint64, seed uint32) (uint64, error) {
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return from, err
			}
			if e.BaseOffset >= to {
				return from, nil
			}
			if e.NextOffset() > from {
				g.leave(l, from, e.BaseOffset)
				from = max(from, e.BaseOffset)
				next := min(to, e.NextOffset())
				if err := g.part(l, e, b[:len(b)-len(rest)], from, next, seed); err != nil {
					return from, err
				}
				from = next
			}
			b = rest
		}
	}
	return from, nil
}

// part appends the entry e with [first, next) of a lease, without what compaction removed.
func (g *gatherer) part(l group.Lease, e wire.Entry, raw []byte, first, next uint64, seed uint32) error {
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return err
	}
	had := len(g.sent)
	if !batch.Thinned() {
		g.take(l, first, next)
	} else if err := g.thinned(l, &batch, e.BaseOffset, first, next); err != nil || len(g.sent) == had {
		return err
	}
	return g.entry(e, raw, first, next, seed)
}

// thinned tells the records of [first, next) that are left from those that were removed.
func (g *gatherer) thinned(l group.Lease, batch *wire.Batch, base, first, next uint64) error {
	plain, err := codec.Unpack(*batch, nil)
	if err != nil {
		return err
	}
	at := base
	for rec, err := range plain.Records() {
		switch {
		case err != nil:
			return err
		case at < first || at >= next:
		case rec.Removed:
			g.leave(l, at, at+1)
		default:
			g.take(l, at, at+1)
		}
		at++
	}
	return nil
}

func (g *gatherer) entry(e wire.Entry, raw []byte, from, to uint64, seed uint32) error {
	first, next := max(from, e.BaseOffset), min(to, e.NextOffset())
	whole := first == e.BaseOffset && next == e.NextOffset()
	if !whole {
		batch, err := g.open(&e)
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

// open returns the batch of an entry that is to be cut: what is damaged must not get a new checksum. Workers
// who share a batch come one after the other, so that the checksum of all of it is looked at once.
func (g *gatherer) open(e *wire.Entry) (wire.Batch, error) {
	this := checkedEntry{g.id, e.Index}
	if g.checked != nil && *g.checked == this {
		return wire.ViewBatch(e.Payload)
	}
	batch, err := wire.ParseBatch(e.Payload)
	if err == nil && g.checked != nil {
		*g.checked = this
	}
	return batch, err
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
