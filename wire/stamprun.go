package wire

import "github.com/rafka-mq/rafka/wire/crc32c"

// StampRun writes the stamps of entries that follow each other and have the same kind, flags, skip, term and
// time. Between two of them mostly four numbers of small difference change, and a checksum is linear:
// that of the difference turns the one into the other. Where a batch is a single small record the
// checksum of its stamp is a third of the work, and this halves it.
type StampRun struct {
	seed  uint32
	begun bool
	sum   uint32 // checksum of the last stamp
	batch uint32 // the checksum it ends with
	last  Stamp
}

// NewStampRun returns a run in the partition with this Identity.Seed.
func NewStampRun(seed uint32) StampRun { return StampRun{seed: seed} }

// Put is Stamp.Put. batch is what the payload begins with, its checksum, from where it was copied: what was
// just written to b is slower to read.
func (r *StampRun) Put(b []byte, s *Stamp, batch uint32) {
	index, offset := s.Index^r.last.Index, s.BaseOffset^r.last.BaseOffset
	if !r.begun || index|offset > 0xff || s.Length != r.last.Length || s.Count != r.last.Count {
		s.Put(b, r.seed)
		r.begun, r.sum, r.batch, r.last = true, le.Uint32(b), batch, *s
		return
	}
	s.putFields(b)
	t, d := &stampDeltas, batch^r.batch
	r.sum ^= t.index[index] ^ t.offset[offset] ^
		t.batch[0][d&0xff] ^ t.batch[1][d>>8&0xff] ^ t.batch[2][d>>16&0xff] ^ t.batch[3][d>>24]
	le.PutUint32(b, r.sum)
	r.batch, r.last.Index, r.last.BaseOffset = batch, s.Index, s.BaseOffset
}

// stampDeltas says how a difference in one byte of what a stamp's checksum covers changes the checksum.
var stampDeltas = newStampDeltas()

type deltas [256]uint32

type stampTables struct {
	index, offset deltas    // lowest bytes
	batch         [4]deltas // of the batch's checksum
}

func newStampDeltas() (t stampTables) {
	t.index, t.offset = newDeltas(24), newDeltas(32)
	for i := range t.batch {
		t.batch[i] = newDeltas(StampBytes + i)
	}
	return t
}

// newDeltas returns the checksum changes of the byte at a position of the entry.
func newDeltas(at int) (d deltas) {
	for v := range d {
		var covered [StampBytes]byte // bytes 4 to 52
		covered[at-4] = byte(v)
		d[v] = ^crc32c.Update(^uint32(0), covered[:])
	}
	return d
}
