package log

import (
	"errors"
	"math"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// compactBuffer is how much is collected for one write.
const compactBuffer = 256 << 10

// compactWriter writes the output of a compaction: a sealed segment under a temporary name.
type compactWriter struct {
	c    *compaction
	seed uint32
	temp string
	file File
	seg  segment
	last place // behind the last entry that was written
	buf  []byte
	gap  wire.Stamp // of the entries dropped since the last one that was written
	open bool       // gap stands for at least one entry
}

// create creates the file and writes its header. It starts where the first input starts.
func (w *compactWriter) create(first *segment) error {
	s := w.c.log.store
	f, err := s.options.FS.Open(first.path, false, false)
	if err != nil {
		return w.c.unreadable(first, err)
	}
	h, err := readSegmentHeader(f)
	_ = f.Close() // read only
	if errors.Is(err, errSegmentHeader) {
		return w.c.bar(first)
	}
	if err != nil {
		return err
	}
	w.seg = segment{start: h.start, compacted: true}
	w.last = h.start
	w.temp = first.path + compactExt
	if w.file, err = s.options.FS.Open(w.temp, true, true); err != nil {
		return err
	}
	w.buf = appendSegmentHeader(make([]byte, 0, 2*compactBuffer), w.c.log.id, h.start, s.nowMs(), h.state)
	w.seg.data = int64(len(w.buf))
	return w.file.Truncate(0) // it may exist, from a process that did not finish it
}

// compactExt is the suffix of the names of unfinished outputs.
const compactExt = ".compact"

// size returns the size of the output so far in bytes.
func (w *compactWriter) size() int64 { return w.seg.size + int64(len(w.buf)) }

// entry adds the records of an entry that compaction keeps.
func (w *compactWriter) entry(e *wire.Entry) error {
	switch e.Kind {
	case wire.KindState, wire.KindGap:
		return w.drop(&e.Stamp)
	case wire.KindData:
		return w.data(e)
	}
	return w.add(&e.Stamp, e.Payload)
}

func (w *compactWriter) data(e *wire.Entry) error {
	c := w.c
	stored, err := wire.ViewBatch(e.Payload)
	if err == nil && stored.TTL() != 0 && e.Time+stored.TTL() <= c.now {
		return w.drop(&e.Stamp)
	}
	batch, ok := c.open(e)
	if !ok {
		return w.add(&e.Stamp, e.Payload)
	}
	removed := false
	kept, err := batch.Thin(&c.builder, func(i int, r *wire.Record) bool {
		keep := c.keeps(r, e.BaseOffset+uint64(i), e.Time)
		removed = removed || !keep
		return keep
	})
	switch {
	case err != nil || kept > 0 && !removed:
		return w.add(&e.Stamp, e.Payload)
	case kept == 0:
		return w.drop(&e.Stamp)
	}
	st := e.Stamp
	payload := c.builder.Bytes()
	if k := stored.Codec(); k != wire.CodecNone {
		records := c.builder.Records()
		c.packed = codec.Compress(c.packed[:0], k, records)
		if n := len(c.packed); n < len(records) {
			c.packed = c.builder.AppendCompressed(c.packed, k, c.packed[:n])
			payload = c.packed[n:]
		}
	}
	if len(payload) > wire.MaxFrameBytes { // the producer compressed better than we do
		payload = e.Payload
	}
	return w.add(&st, payload)
}

// drop adds an entry without such records to the gap.
func (w *compactWriter) drop(st *wire.Stamp) error {
	entries := uint64(st.Skip) + 1
	g := &w.gap
	if w.open && (uint64(g.Skip)+entries > math.MaxUint16 || uint64(g.Count)+uint64(st.Count) > math.MaxUint32) {
		if err := w.close(); err != nil {
			return err
		}
	}
	if !w.open {
		*g = wire.Stamp{Kind: wire.KindGap, Count: st.Count, Skip: st.Skip, Index: st.Index, BaseOffset: st.BaseOffset}
		w.open = true
	} else {
		g.Skip += uint16(entries)
		g.Count += st.Count
	}
	g.Term, g.Time = st.Term, st.Time
	return nil
}

// close writes the gap, if there is one.
func (w *compactWriter) close() error {
	if !w.open {
		return nil
	}
	w.open = false
	return w.put(&w.gap, wire.AppendPayload(nil, nil))
}

// add writes the gap, if there is one, and an entry.
func (w *compactWriter) add(st *wire.Stamp, payload []byte) error {
	if err := w.close(); err != nil {
		return err
	}
	return w.put(st, payload)
}

func (w *compactWriter) put(st *wire.Stamp, payload []byte) error {
	pos := w.size()
	if markDue(w.seg.marks, pos) {
		w.seg.marks = append(w.seg.marks, markOf(st, pos))
	}
	if w.seg.first == 0 {
		w.seg.first = st.Time
	}
	st.Length = uint32(len(payload))
	at := len(w.buf)
	w.buf = append(append(w.buf, make([]byte, wire.StampBytes)...), payload...)
	st.Put(w.buf[at:], w.seed)
	w.last = after(st)
	if len(w.buf) < compactBuffer {
		return nil
	}
	return w.flush()
}

func (w *compactWriter) flush() error {
	if err := writePieces(w.file, w.buf, w.seg.size, w.c.log.store.piece); err != nil {
		return err
	}
	w.seg.size += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish seals the file, whose last entry ends at end, and returns its segment.
func (w *compactWriter) finish(end place) (*segment, error) {
	if err := w.close(); err != nil {
		return nil, err
	}
	end.term, end.time = w.last.term, w.last.time
	w.seg.end = end
	w.buf = appendFooter(w.buf, footerInfo{dataEnd: w.size(), next: end, first: w.seg.first, marks: w.seg.marks})
	if err := w.flush(); err != nil {
		return nil, err
	}
	err := errors.Join(w.file.Sync(), w.file.Close())
	w.file = nil
	if err != nil {
		return nil, err
	}
	out := w.seg
	out.path = w.c.compactedPath(out.start, end)
	out.marks, out.indexed = nil, false
	return &out, nil
}

// abandon removes the file after an error.
func (w *compactWriter) abandon() error {
	if w.file != nil {
		_ = w.file.Close() // an error was reported already
	}
	if w.temp == "" {
		return nil
	}
	return removeQuietly(w.c.log.store.options.FS, w.temp)
}
