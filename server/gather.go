package server

import (
	"errors"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// gatherer collects the entries that hold leased messages. It cuts an entry of which only a part is leased, unless that
// is compressed, so that workers that share a batch do not each get all of it.
type gatherer struct {
	out  []byte
	sent []group.Lease  // parts of the leases whose messages are in out
	gone []group.Settle // parts of the leases that have no message to deliver any more
	left []group.Lease  // parts of the leases that are in neither
	last uint64         // index of the last whole entry in out

	id      wire.Identity // of the partition
	seed    uint32        // of id
	checked *checkedEntry // the entry that was cut last; nil to remember none
}

// checkedEntry is an entry whose batch's checksum was checked.
type checkedEntry struct {
	id    wire.Identity
	index uint64
}

// maxGathered bounds the gathered bytes, so that the reply fits a frame. An entry that is larger is gathered alone.
const maxGathered = wire.MaxFrameBytes - leaseReserve

// errGathered says that the next entry does not fit into the reply.
var errGathered = errors.New("server: the reply is full")

// readFunc is a partition's Read or ReadCold.
type readFunc func(c *log.Chunk, offset uint64, maxBytes int) error

// gather appends the entries of the leases, which must be in offset order, until the reply is full. How many messages are
// leased comes from their average size, and those that come next may be much larger.
func (g *gatherer) gather(p *partition.Partition, leases []group.Lease, read readFunc) error {
	g.id = p.Identity()
	g.seed = g.id.Seed()
	for i, l := range leases {
		if i > 0 && len(g.out) >= maxGathered {
			g.left = leases[i:]
			return nil
		}
		if from, err := g.lease(p, l, read); err != nil {
			rest := group.Lease{First: from, Count: l.Count - uint32(from-l.First), Attempt: l.Attempt}
			g.left = append([]group.Lease{rest}, leases[i+1:]...)
			if errors.Is(err, errGathered) {
				return nil
			}
			return err
		}
	}
	return nil
}

// lease is gather for one lease. With an error it returns the offset up to which it got.
func (g *gatherer) lease(p *partition.Partition, l group.Lease, read readFunc) (uint64, error) {
	var c log.Chunk
	defer c.Release()
	from, to := l.First, l.First+uint64(l.Count)
	for from < to {
		c.Release()
		if err := read(&c, from, deliverBytes); err != nil {
			return from, err
		}
		if c.Next <= from {
			return from, outOfRange(p, from)
		}
		at, err := g.chunk(&c, l, from, to)
		if err != nil {
			return at, err
		}
		from = min(to, c.Next)
		g.leave(l, at, from)
	}
	return to, nil
}

// take notes that the messages [from, to) of a lease are in out.
func (g *gatherer) take(l group.Lease, from, to uint64) {
	if n := len(g.sent); n > 0 {
		if s := &g.sent[n-1]; s.First+uint64(s.Count) == from && s.Attempt == l.Attempt {
			s.Count += uint32(to - from)
			return
		}
	}
	g.sent = append(g.sent, group.Lease{First: from, Count: uint32(to - from), Attempt: l.Attempt})
}

// leave notes that there is nothing to deliver for [from, to) of a lease.
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

// chunk appends the messages [from, to) of a lease from c, and returns the offset up to which it got.
func (g *gatherer) chunk(c *log.Chunk, l group.Lease, from, to uint64) (uint64, error) {
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
				if err := g.part(l, &e, b[:len(b)-len(rest)], from, next); err != nil {
					return from, err
				}
				from = next
			}
			b = rest
		}
	}
	return from, nil
}

// part appends the messages [first, next) of a lease from the entry e. It notes those that compaction removed as gone.
func (g *gatherer) part(l group.Lease, e *wire.Entry, raw []byte, first, next uint64) error {
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil {
		return err
	}
	if batch.Thinned() {
		if g.full(e.Index, len(raw)) { // before anything is noted
			return errGathered
		}
		kept, err := g.thinned(l, &batch, e.BaseOffset, first, next)
		if err != nil || !kept {
			return err
		}
		return g.entry(e, raw, first, next)
	}
	if err := g.entry(e, raw, first, next); err != nil {
		return err
	}
	g.take(l, first, next)
	return nil
}

// thinned notes which of the messages [first, next) of a lease compaction left in a batch, and reports whether it left any.
func (g *gatherer) thinned(l group.Lease, batch *wire.Batch, base, first, next uint64) (kept bool, err error) {
	plain, err := codec.Unpack(*batch, nil)
	if err != nil {
		return false, err
	}
	at := base
	for rec, err := range plain.Records() {
		switch {
		case err != nil:
			return false, err
		case at < first || at >= next:
		case rec.Removed:
			g.leave(l, at, at+1)
		default:
			g.take(l, at, at+1)
			kept = true
		}
		at++
	}
	return kept, nil
}

// entry appends the entry e, or a new one with its records [first, next) alone when that can be made.
func (g *gatherer) entry(e *wire.Entry, raw []byte, first, next uint64) error {
	if first != e.BaseOffset || next != e.NextOffset() {
		batch, err := g.open(e)
		if err != nil {
			return err
		}
		if batch.Codec() == wire.CodecNone {
			return g.cut(e, &batch, first, next)
		}
	}
	if g.full(e.Index, len(raw)) {
		return errGathered
	}
	if g.last != e.Index { // leases share one copy of a compressed entry
		g.out = append(g.out, raw...)
		g.last = e.Index
	}
	return nil
}

// full reports whether the entry with an index has no room in the reply. The first one always has.
func (g *gatherer) full(index uint64, size int) bool {
	return len(g.out) > 0 && g.last != index && len(g.out)+size > maxGathered
}

// open returns the batch of an entry that is to be cut, after checking its checksum, because a damaged batch must not get
// a new one. It checks an entry once for consecutive leases.
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

// cut appends a new entry with the records [first, next) of e.
func (g *gatherer) cut(e *wire.Entry, batch *wire.Batch, first, next uint64) error {
	at := len(g.out)
	out, err := batch.Cut(append(g.out, make([]byte, wire.StampBytes)...), uint32(first-e.BaseOffset), uint32(next-e.BaseOffset))
	if err != nil {
		return err
	}
	if at > 0 && len(out) > maxGathered {
		g.out = out[:at]
		return errGathered
	}
	g.out = out
	st := e.Stamp
	st.Flags |= wire.StampCut
	st.Length = uint32(len(g.out) - at - wire.StampBytes)
	st.Count, st.BaseOffset = uint32(next-first), first
	st.Put(g.out[at:], g.seed)
	return nil
}
