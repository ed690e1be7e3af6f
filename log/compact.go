package log

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// Compaction keeps the latest record of every key. It rewrites sealed segments and replaces each run of them by
// one file. Offsets and indexes stay the same: a superseded record leaves a byte that marks its place, and entries
// whose records are all superseded leave a wire.KindGap.
//
// Only entries that the owner's durable state includes are compacted, so a restart never replays them.

// maxCompactKeys bounds the keys of one pass, which takes about 60 bytes of memory for each. A log with more new
// keys takes several passes.
const maxCompactKeys = 2 << 20

// keyHash is the hash of a key. It is cryptographic, because a collision would lose a record.
type keyHash [16]byte

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash(sum[:16])
}

// errBarred ends a pass that found damage. The damaged segment is not compacted any more.
var errBarred = errors.New("log: damage in a segment to be compacted")

// Compact makes one pass over every log whose Config asks for compaction and that has enough new segments. The
// store calls it every Options.CompactionInterval. It waits for the disk.
func (s *Store) Compact() error {
	if s.memoryOnly() {
		return nil
	}
	s.compacting.Lock()
	defer s.compacting.Unlock()
	var errs []error
	for _, l := range s.openLogs() {
		err := l.compact()
		if err == nil || errors.Is(err, errBarred) || errors.Is(err, errReplaced) || errors.Is(err, ErrClosed) || l.removed() {
			continue
		}
		errs = append(errs, fmt.Errorf("compact %s: %w", l.dir(), err))
	}
	return errors.Join(errs...)
}

// stopping reports whether Close was called.
func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// input is a segment to be compacted, with the place behind its last entry.
type input struct {
	seg *segment
	end place
}

// compaction is one pass over one log. It holds no lock of the log while it reads and writes.
type compaction struct {
	log    *Log
	inputs []input
	dirty  int   // index of the first input that was not compacted before
	now    int64 // in ms since 1970
	// tombstones is a time in ms since 1970: tombstones appended before are dropped; 0 drops none.
	tombstones int64
	latest     map[keyHash]uint64 // offsets

	limit   int64 // bytes of an output
	builder wire.BatchBuilder
	unpack  []byte
	packed  []byte
}

// compact makes a pass over the log when it is worth one.
func (l *Log) compact() error {
	c := l.planCompaction()
	if c == nil {
		return nil
	}
	if err := c.clean(); err != nil {
		return err
	}
	if err := c.scan(); err != nil {
		return err
	}
	for from := 0; from < len(c.inputs); {
		to, err := c.rewrite(from)
		if err != nil {
			return err
		}
		from = to
	}
	l.store.compactions.Add(1)
	return nil
}

// clean removes the junk of the log first: an unfinished output of an earlier process may have the name of a new one,
// which would then be removed in its place.
func (c *compaction) clean() error {
	c.log.store.filing.Lock()
	defer c.log.store.filing.Unlock()
	return c.log.removeJunk()
}

// planCompaction returns a pass over the sealed segments, or nil when it is not worth it. A pass rewrites what was
// compacted before, so at least half as much must be new.
func (l *Log) planCompaction() *compaction {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.config.Compact || l.closed || len(l.segments) < 2 {
		return nil
	}
	c := &compaction{log: l, now: l.store.nowMs(), dirty: -1, limit: l.config.SegmentBytes}
	c.tombstones = max(0, c.now-l.config.TombstoneAge.Milliseconds())
	var clean, fresh int64
	for i, seg := range l.segments[:len(l.segments)-1] {
		end := l.segments[i+1].start
		if l.config.State != nil && end.index > l.state.index+1 {
			break
		}
		switch {
		case seg.barred:
			c.tombstones = 0 // it may hold records that a tombstone deletes
		case !seg.compacted && c.dirty < 0:
			c.dirty = len(c.inputs)
			fresh += seg.size
		case c.dirty >= 0:
			fresh += seg.size
		default:
			clean += seg.size
		}
		c.inputs = append(c.inputs, input{seg, end})
	}
	if c.dirty < 0 || 2*fresh < clean {
		return nil
	}
	return c
}

// scan notes the latest offset of every key in the segments that are new since the last pass. It stops at
// maxCompactKeys and leaves the other segments to the next pass.
func (c *compaction) scan() error {
	c.latest = map[keyHash]uint64{}
	for i := c.dirty; i < len(c.inputs); i++ {
		if i > c.dirty && len(c.latest) >= maxCompactKeys {
			c.inputs = c.inputs[:i]
			break
		}
		if c.inputs[i].seg.barred {
			continue
		}
		err := c.each(c.inputs[i], func(e *wire.Entry) error {
			batch, ok := c.open(e)
			if !ok {
				return nil
			}
			offset := e.BaseOffset
			for r, err := range batch.Records() {
				if err != nil {
					return nil // damaged, which its readers are told
				}
				if r.Key != nil {
					c.latest[hashKey(r.Key)] = offset
				}
				offset++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// open returns the batch of a data entry, decompressed, and false for other entries and damaged batches.
func (c *compaction) open(e *wire.Entry) (wire.Batch, bool) {
	if e.Kind != wire.KindData {
		return wire.Batch{}, false
	}
	batch, err := wire.ViewBatch(e.Payload)
	if err != nil || batch.Count() != e.Count {
		return wire.Batch{}, false
	}
	if batch, err = codec.Unpack(batch, c.unpack); err != nil {
		return wire.Batch{}, false
	}
	if batch.Codec() != wire.CodecNone {
		c.unpack, _ = batch.Packed()
	}
	return batch, true
}

// each calls fn for the entries of a segment. With damage it returns errBarred and bars the segment. The error is
// errReplaced when the segment is gone.
func (c *compaction) each(in input, fn func(e *wire.Entry) error) error {
	l := c.log
	if l.store.stopping() {
		return ErrClosed
	}
	v, err := l.store.view(in.seg, l.seed, in.end.index)
	if err != nil {
		return c.unreadable(in.seg, err)
	}
	defer l.store.views.release(v)
	w := walker{file: v.file, seed: l.seed, pos: v.data, end: v.end, index: in.seg.start.index, bound: in.end.index}
	for {
		st, ok, err := w.next()
		switch {
		case err != nil:
			return err
		case !ok && w.index != in.end.index, ok && st.bad:
			return c.bar(in.seg)
		case !ok:
			return nil
		}
		if err := fn(&st.entry); err != nil {
			return err
		}
	}
}

// unreadable returns why a pass ends that cannot open a segment. If its file is missing although nobody has removed it, it
// is damaged.
func (c *compaction) unreadable(seg *segment, err error) error {
	switch err = c.log.store.checkMissing(err); {
	case !missing(err):
		return err
	case c.log.removed() || !c.log.has(seg): // deleted, or purged
		return errReplaced
	}
	return c.bar(seg)
}

// removed reports whether the log was deleted.
func (l *Log) removed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (c *compaction) bar(seg *segment) error {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	seg.barred = true
	c.log.store.logger.Warn("damaged segment is not compacted", "path", seg.path)
	return errBarred
}

// rewrite writes one file from as many inputs as fit, from the one at index from on, and returns the index behind them.
func (c *compaction) rewrite(from int) (to int, err error) {
	if c.inputs[from].seg.barred {
		return from + 1, nil
	}
	w := compactWriter{c: c, seed: c.log.seed}
	if err := w.create(c.inputs[from].seg); err != nil {
		return 0, errors.Join(err, w.abandon())
	}
	for to = from; to < len(c.inputs) && !c.inputs[to].seg.barred; to++ {
		if to > from && w.size() >= c.limit/2 {
			break
		}
		if err := c.each(c.inputs[to], w.entry); err != nil {
			return 0, errors.Join(err, w.abandon())
		}
	}
	out, err := w.finish(c.inputs[to-1].end)
	if err != nil {
		return 0, errors.Join(err, w.abandon())
	}
	return to, c.replace(c.inputs[from:to], out, w.temp)
}

// replace replaces the inputs by the finished file.
func (c *compaction) replace(inputs []input, out *segment, temp string) error {
	l, s := c.log, c.log.store
	fs := s.options.FS
	s.filing.Lock()
	defer s.filing.Unlock()
	l.mu.Lock()
	at := slices.Index(l.segments, inputs[0].seg)
	still := !l.closed && at >= 0 && len(l.segments) > at+len(inputs)
	for i := range inputs {
		still = still && l.segments[at+i] == inputs[i].seg
	}
	l.mu.Unlock()
	if !still { // retention, a purge or a deletion has removed some of them
		return removeQuietly(fs, temp)
	}
	if err := fs.Rename(temp, out.path); err != nil {
		return errors.Join(err, removeQuietly(fs, temp))
	}
	synced := fs.SyncDir(l.dir())
	var gone []string
	var before int64
	l.mu.Lock()
	l.segments = slices.Concat(l.segments[:at], []*segment{out}, l.segments[at+len(inputs):])
	l.hidden = max(l.hidden, out.end.offset)
	for len(l.slabs) > 0 && l.slabs[0].end.index <= out.end.index {
		l.popSlabLocked()
	}
	l.mu.Unlock()
	for _, in := range inputs {
		before += in.seg.size
		if in.seg.path != out.path {
			gone = append(gone, in.seg.path)
		}
	}
	s.views.forget(func(name string) bool { return name == out.path || slices.Contains(gone, name) })
	if synced != nil { // after a power loss the old names may be all there is
		return synced
	}
	s.reclaimed.Add(before - out.size)
	var errs []error
	left := s.discard(gone, func(name string) error { return removeQuietly(fs, name) }, &errs)
	l.mu.Lock()
	l.stale = append(l.stale, left...) // the next checkpoint tries again
	l.mu.Unlock()
	return errors.Join(append(errs, fs.SyncDir(l.dir()))...)
}

// keeps reports whether compaction keeps a record.
func (c *compaction) keeps(r *wire.Record, offset uint64, ms int64) bool {
	if r.Key == nil {
		return true
	}
	if at, ok := c.latest[hashKey(r.Key)]; ok && at != offset {
		return false
	}
	return r.Value != nil || ms >= c.tombstones
}

// compactedPath returns the path of the output with this start and end.
func (c *compaction) compactedPath(start, end place) string {
	return path.Join(c.log.dir(), compactedName(start, end.index))
}
