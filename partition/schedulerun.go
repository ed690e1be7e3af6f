package partition

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// runBytes bounds the bytes of batches that share an entry. A reader of one batch walks over half of the others on
// average; up to this size that is cheap, and the cost of the entry's stamp is small.
const runBytes = 4 << 10

// runLength returns how many of the first items share an entry. A recurring item, or one with several records, has an
// entry of its own.
func runLength(items []ScheduleItem) (n int) {
	size := 0
	for ; n < len(items); n++ {
		size += len(items[n].Batch.Raw())
		apart := items[n].Cron != "" || items[n].Batch.Count() > 1
		if n > 0 && (apart || size > runBytes) {
			return n
		}
		if apart {
			return 1
		}
	}
	return n
}

// appendRun appends the body of a run entry.
func appendRun(dst []byte, items []ScheduleItem) []byte {
	dst = binary.AppendUvarint(append(dst, entryRun), uint64(len(items)))
	prev := int64(0)
	for i := range items {
		raw := items[i].Batch.Raw()
		dst = binary.AppendVarint(dst, items[i].Due-prev)
		dst = append(binary.AppendUvarint(dst, uint64(len(raw))), raw...)
		prev = items[i].Due
	}
	return dst
}

// scheduledWalk walks the batches of one entry of the companion log.
type scheduledWalk struct {
	body      []byte
	base, end uint64   // offsets of its messages: [base, end)
	at        uint64   // offset of the next batch
	due       int64    // of the batch before
	rest      uvarints // of a run
}

// open starts the walk over the body of an entry at offset base with count records. It keeps body.
func (w *scheduledWalk) open(body []byte, base uint64, count uint32) error {
	_, body, err := splitNumbering(body)
	if err != nil {
		return err
	}
	*w = scheduledWalk{body: body, base: base, at: base, end: base + uint64(count)}
	if len(body) == 0 {
		return errScheduleEntry
	}
	w.rest.b = body[1:]
	n := uint64(1)
	switch body[0] {
	case entryScheduled:
	case entryGroup:
		n = uint64(count)
	case entryRun:
		n = w.rest.next()
	default:
		return newerEntry(body[0])
	}
	if w.rest.bad || n != uint64(count) {
		return errScheduleEntry
	}
	return nil
}

// next sets e to the next batch, whose fields are views of the body. It returns false behind the last one.
func (w *scheduledWalk) next(e *scheduledEntry) (bool, error) {
	if w.at == w.end {
		return false, nil
	}
	at := w.at
	if !w.isRun() {
		w.at = w.end
		return true, e.parse(w.body, at, uint32(w.end-w.base))
	}
	w.at++
	due := w.due + w.rest.signed()
	*e = scheduledEntry{id: at + 1, count: 1, due: due, batch: w.rest.bytes(w.rest.next())}
	if w.rest.bad || due < 0 || due > math.MaxInt64/2 || w.at == w.end && len(w.rest.b) > 0 {
		return false, errScheduleEntry
	}
	w.due = due
	return true, nil
}

func (w *scheduledWalk) isRun() bool { return w.body[0] == entryRun }

// scheduleReader reads batches of the companion log. Reading in the order of offsets is cheap. It may wait for the
// disk. Release it after use.
type scheduleReader struct {
	s    *schedule
	c    log.Chunk
	walk scheduledWalk  // over the entry in c
	last scheduledEntry // the batch in front of walk.at
	part []byte         // scratch space
}

// read returns the entry of an item and a batch of the item's messages alone. Both are valid until the next call.
func (r *scheduleReader) read(it scheduled) (*scheduledEntry, wire.Batch, error) {
	if err := r.seek(it.at()); err != nil {
		r.walk, r.last = scheduledWalk{}, scheduledEntry{}
		return nil, wire.Batch{}, err
	}
	view := wire.ViewBatch
	if r.walk.isRun() {
		view = wire.ParseBatch // find did not check its checksum
	}
	batch, err := view(r.last.batch)
	if err != nil || it.count() >= r.last.count {
		return &r.last, batch, err
	}
	first := uint32(it.at() - (r.walk.at - r.last.count))
	if r.part, err = batch.Cut(r.part[:0], first, first+uint32(it.count())); err == nil {
		batch, err = wire.ViewBatch(r.part)
	}
	return &r.last, batch, err
}

// seek sets last to the batch that holds an offset.
func (r *scheduleReader) seek(at uint64) error {
	if at < r.walk.at-r.last.count || at >= r.walk.end {
		r.last = scheduledEntry{}
		if err := r.find(at); err != nil {
			return err
		}
	}
	for r.walk.at <= at {
		if _, err := r.walk.next(&r.last); err != nil {
			return err
		}
	}
	return nil
}

// find reads the entry that holds an offset and checks its checksum. It does not check the batches of a run: each has
// a checksum of its own, and when they are due at different times each is read separately.
func (r *scheduleReader) find(at uint64) error {
	r.c.Release()
	l := r.s.store.log
	next := l.Positions().Next
	err := l.Read(&r.c, at, next, 1)
	if errors.Is(err, log.ErrCold) {
		r.c.Release()
		err = l.ReadCold(&r.c, at, next, 1)
	}
	if err != nil {
		return err
	}
	if len(r.c.Slices) == 0 {
		return errScheduleEntry
	}
	entry, _, err := wire.ViewEntry(r.c.Slices[0])
	if err != nil {
		return err
	}
	if at < entry.BaseOffset || at >= entry.NextOffset() {
		return errScheduleEntry
	}
	if err := r.walk.open(entry.Payload[4:], entry.BaseOffset, entry.Count); err != nil {
		return err
	}
	if !r.walk.isRun() && !wire.PayloadOK(entry.Payload) {
		return errScheduleEntry
	}
	return nil
}

// release releases the entry that was read last. The reader can be used again.
func (r *scheduleReader) release() { r.c.Release() }
