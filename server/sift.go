package server

import (
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

const (
	// siftBytes is how much a filter reads at once.
	siftBytes = 256 << 10
	// maxSift is how much it reads before it says how far it got: a worker serves others, too.
	maxSift = 16 << 20
)

// sieve collects the records of a partition that pass a filter. It opens batches, so it runs on a
// worker.
type sieve struct {
	filter  wire.Filter
	seed    uint32
	out     []byte // whole entries
	records int    // in out that pass
	read    int    // bytes that were read and opened
	next    uint64 // offset to read on
	builder wire.BatchBuilder
	unpack  []byte
}

// sift reads from an offset on until maxOut bytes pass, or much was read in vain. An error comes only
// when nothing was found before it.
func sift(p *partition.Partition, f wire.Filter, offset uint64, maxOut int) (*sieve, error) {
	s := &sieve{filter: f, seed: p.Identity().Seed(), next: offset}
	var c log.Chunk
	for s.read < maxSift && s.next < p.Visible() {
		err := p.ReadCold(&c, s.next, siftBytes)
		if err != nil {
			if len(s.out) > 0 {
				return s, nil
			}
			return s, err
		}
		full, stuck := s.chunk(&c, maxOut), c.Next == s.next && c.Bytes == 0
		if !full {
			s.next = max(s.next, c.Next)
		}
		c.Release()
		if full || stuck {
			break
		}
	}
	return s, nil
}

// chunk adds the entries of a chunk and reports whether there is no room for more.
func (s *sieve) chunk(c *log.Chunk, maxOut int) (full bool) {
	for _, b := range c.Slices {
		for len(b) > 0 {
			e, rest, err := wire.ViewEntry(b)
			if err != nil {
				return true
			}
			if s.read >= maxSift || !s.fits(&e, b[:len(b)-len(rest)], maxOut) {
				return true
			}
			s.next = max(s.next, e.NextOffset())
			b = rest
		}
	}
	return false
}

// fits adds what passes of an entry, unless that is more than there is room for. There is always room for the first.
func (s *sieve) fits(e *wire.Entry, raw []byte, maxOut int) bool {
	had, records := len(s.out), s.records
	if had > 0 && had+e.Size() > maxOut {
		return false
	}
	s.read += len(raw)
	s.entry(e, raw)
	if had > 0 && len(s.out) > maxOut {
		s.out, s.records = s.out[:had], records
		return false
	}
	return true
}

// entry adds what passes of an entry: all of it as it is stored, or a cut one in which only the places
// of the other records are left. What cannot be opened passes: its readers are told that it is damaged.
func (s *sieve) entry(e *wire.Entry, raw []byte) {
	stored, err := wire.ViewBatch(e.Payload)
	var plain wire.Batch
	if err == nil {
		plain, err = codec.Unpack(stored, s.unpack)
	}
	if err != nil {
		s.out = append(s.out, raw...)
		return
	}
	if stored.Codec() != wire.CodecNone {
		s.unpack, _ = plain.Packed()
		s.read += len(s.unpack)
	}
	passed, err := plain.Thin(&s.builder, func(i int, r *wire.Record) bool {
		return e.BaseOffset+uint64(i) >= s.next && s.filter.Match(r.Headers)
	})
	switch {
	case err != nil:
		s.out = append(s.out, raw...)
	case passed == int(e.Count):
		s.out = append(s.out, raw...)
		s.records += passed
	case passed > 0:
		payload := s.payload(stored.Codec())
		if len(payload) > wire.MaxFrameBytes { // the producer compressed better than we do
			s.out = append(s.out, raw...)
			s.records += passed
			return
		}
		st := e.Stamp
		st.Flags |= wire.StampCut
		st.Length = uint32(len(payload))
		at := len(s.out)
		s.out = append(append(s.out, make([]byte, wire.StampBytes)...), payload...)
		st.Put(s.out[at:], s.seed)
		s.records += passed
	}
}

// payload returns the batch in the builder, compressed only when it does not fit an entry otherwise.
func (s *sieve) payload(c wire.Codec) []byte {
	b := s.builder.Bytes()
	if len(b) <= wire.MaxFrameBytes || c == wire.CodecNone {
		return b
	}
	return s.builder.AppendCompressed(nil, c, codec.Compress(nil, c, s.builder.Records()))
}

// sendSifted writes a frame with what passed a filter.
func (b *binary) sendSifted(op wire.Op, correlation uint32, p *partition.Partition, s *sieve) {
	body := wire.Entries{First: p.First(), Visible: p.Visible(), Next: s.next}
	out := b.s.buffer()
	out.B = wire.AppendHeader(out.B, op, 0, correlation, wire.EntriesFixed+len(s.out))
	out.B = append(body.AppendFixed(out.B), s.out...)
	if s.records > 0 {
		b.s.loop.delivered(p, s.records, len(s.out))
	}
}

// serveSifted is serve of a fetch with a filter: a worker reads.
func (r *fetchRequest) serveSifted(least int) (done bool, err error) {
	if r.offset >= r.p.Visible() {
		if least > 0 {
			return false, nil
		}
		r.b.sendSifted(wire.OpFetch|wire.OpReply, r.correlation, r.p, &sieve{next: r.offset})
		return true, nil
	}
	return true, r.escaped().sift()
}

func (r *fetchRequest) sift() error {
	return r.b.workCold(wire.OpFetch, r.correlation, func() (func(time.Time) error, error) {
		s, err := sift(r.p, r.filter, r.offset, r.maxBytes)
		for r.passed(err) {
			s, err = sift(r.p, r.filter, r.offset, r.maxBytes)
		}
		return func(now time.Time) error {
			if len(s.out) == 0 && r.wait > 0 && now.Before(r.deadline) {
				r.offset = s.next
				return r.start(now)
			}
			r.b.sendSifted(wire.OpFetch|wire.OpReply, r.correlation, r.p, s)
			return nil
		}, err
	})
}

// pushSifted has a worker read what passes the subscription's filter, and goes on from there.
func (sub *subscription) pushSifted() {
	cursor, room := sub.cursor, sub.room()
	sub.work(func() (then func()) {
		s, err := sift(sub.p, sub.filter, cursor, room)
		return func() { sub.sifted(s, err) }
	})
}

func (sub *subscription) sifted(s *sieve, err error) {
	switch {
	case sub.ended():
		return
	case err != nil:
		sub.fail(asWireError(err))
		return
	case len(s.out) > 0:
		if !sub.covers(len(s.out)) {
			return // more credit reads it again
		}
		sub.b.sendSifted(wire.OpDeliver, sub.correlation, sub.p, s)
		sub.credit -= int64(len(s.out))
		sub.cursor = s.next
	case s.next == sub.cursor:
		return
	default:
		if sub.cursor = s.next; sub.cursor >= sub.p.Visible() { // as skip does
			sub.b.sendSifted(wire.OpDeliver, sub.correlation, sub.p, s)
		}
	}
	sub.push()
}
