package wire

// Thin makes in the builder a batch like b, which must not be compressed or was unpacked, with the records for which
// keep returns true; i counts from 0. Of the others only their place is left, so that the records
// behind keep their offsets. The producer's position is left out: no producer sends the batch again.
// It returns how many records were kept; with none there is nothing to store. The record is valid
// during the call. ErrBatch says that b is malformed.
func (b *Batch) Thin(to *BatchBuilder, keep func(i int, r *Record) bool) (kept int, err error) {
	to.Reset()
	to.buf = append(to.buf, make([]byte, builderRoom)...)
	to.timed, to.baseTime = b.raw[4]&attrTime != 0, b.baseTime
	to.ids, to.ttl, to.thinned = b.HasIDs(), b.ttl, b.Thinned()
	rest := b.records
	for i := range int(b.count) {
		body, next, ok := lengthPrefixed(rest, MaxFrameBytes)
		var r Record
		if !ok || !r.parse(body, b.baseTime) {
			return 0, ErrBatch
		}
		if r.Removed || !keep(i, &r) {
			to.buf = append(to.buf, 1, recordRemoved)
			to.thinned = true
		} else {
			to.buf = append(to.buf, rest[:len(rest)-len(next)]...)
			kept++
		}
		to.count++
		rest = next
	}
	if len(rest) != 0 {
		return 0, ErrBatch
	}
	return kept, nil
}
