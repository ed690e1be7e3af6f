package wire

// Thin sets the builder to a copy of b with only those records for which keep returns true. b must be
// uncompressed or unpacked. i is the index of the record; the record is valid during the call. The other records
// become Removed ones, so that the records behind them keep their offsets. Thin leaves out the producer's
// position, because no producer sends the batch again. It returns how many records it kept; with none there is
// no batch to store. The error is ErrBatch when b is malformed.
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
