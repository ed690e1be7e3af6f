package partition

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// runBytes bounds the batches that share an entry: whoever reads one of them walks over half of the others. That
// is cheap up to here, and one stamp for so many bytes is, too.
const runBytes = 4 << 10

// runLength returns how many of the first items share an entry; one, when nothing may stand beside it.
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
	base, end uint64 // offsets of its batches
	at        uint64 // of the next one
	due       int64  // of the one before
	rest      uvarints
}

// open begins at the first batch of a body that stands at offset base and has count records.
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
		return errScheduleEntry
	}
	if w.rest.bad || n != uint64(count) {
		return errScheduleEntry
	}
	return nil
}

// next sets e to the next batch, as views. It returns false behind the last one.
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

// scheduleReader reads batches of the companion log. Neighbours are cheap one after the other. It may
// wait for the disk.
type scheduleReader struct {
	s    *schedule
	c    log.Chunk
	walk scheduledWalk  // of the entry in c
	last scheduledEntry // the one before walk.at
	part []byte         // scratch space
}

// read returns the entry of messages, as views, and a batch of them alone. Both are valid until the next call.
func (r *scheduleReader) read(it scheduled) (*scheduledEntry, wire.Batch, error) {
	if err := r.seek(it.at()); err != nil {
		r.walk, r.last = scheduledWalk{}, scheduledEntry{}
		return nil, wire.Batch{}, err
	}
	view := wire.ViewBatch
	if r.walk.isRun() {
		view = wire.ParseBatch // find did not check it
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

// seek has last be the entry with an offset.
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

// find reads the entry with an offset and checks it, but for the batches of a run: they are read one by one, from
// all over the log when they are due at different times, and each has a checksum of its own.
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

// release gives back what was read last.
func (r *scheduleReader) release() { r.c.Release() }
