package wire

import "github.com/rafka-mq/rafka/wire/crc32c"

// StampRun writes the stamps of consecutive entries with the same kind, flags, skip, term and time. From one
// stamp to the next only the index, the base offset and the batch's checksum usually change. CRC is linear, so
// the next checksum is the last one XOR that of the difference, which tables give. When a batch is a single
// small record, computing the stamp's checksum is a third of the work of an append, and this halves it.
type StampRun struct {
	seed  uint32
	begun bool
	sum   uint32 // checksum of the last stamp
	batch uint32 // checksum of the batch of the last stamp
	last  Stamp
}

// NewStampRun returns a run for the partition with this Identity.Seed.
func NewStampRun(seed uint32) StampRun { return StampRun{seed: seed} }

// Put is Stamp.Put. batch is the payload's checksum, its first four bytes, read from the source of the copy:
// reading them back from b, where they were just written, is slower.
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

// stampDeltas gives the change of a stamp's checksum for a difference in one of the bytes that it covers.
var stampDeltas = newStampDeltas()

type deltas [256]uint32

type stampTables struct {
	index, offset deltas    // of their lowest bytes
	batch         [4]deltas // of the bytes of the batch's checksum
}

func newStampDeltas() (t stampTables) {
	t.index, t.offset = newDeltas(24), newDeltas(32)
	for i := range t.batch {
		t.batch[i] = newDeltas(StampBytes + i)
	}
	return t
}

// newDeltas returns the changes of the checksum for differences in the byte at a position of the entry.
func newDeltas(at int) (d deltas) {
	for v := range d {
		var covered [StampBytes]byte // bytes 4 to 52
		covered[at-4] = byte(v)
		d[v] = ^crc32c.Update(^uint32(0), covered[:])
	}
	return d
}
