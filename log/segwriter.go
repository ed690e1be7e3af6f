package log

import (
	"errors"
	"fmt"
	"path"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// allocateFirst and allocateMost bound how much space a segment reserves ahead. In between it is as much as
	// the segment has already, so that many small partitions take little.
	allocateFirst = 64 << 10
	allocateMost  = 8 << 20
)

// segmentWriter writes entries of one log behind the valid part of its segments. What it writes counts only when the
// checkpoint covers it. After an error all of it can be written again.
type segmentWriter struct {
	fs     FS
	dir    string // of the log
	id     wire.Identity
	limit  int64 // bytes at which a segment is sealed, once it has as many bytes of entries as its header
	most   int64 // bytes at which it is sealed in any case
	nowMs  int64
	spanMs int64 // range of append times at which a segment is sealed
	state  snapshot
	piece  func() int  // see Store.piece
	halted func() bool // says that the next segment is not begun: nobody waits for it any more

	trim     bool       // active may have bytes behind its end whose flush failed; see open
	active   *segment   // the last of segments; nil before the first
	segments []*segment // to replace the log's active segment: a copy of it, and new ones
	created  []string   // paths of new files

	file      File // of active; nil when it is not open
	unnamed   bool // it has a temporary name
	allocated int64

	sealed []openSegment // files in front of active that are not durable yet
	bytes  int64         // of them
	unseen bool          // the directory is not flushed since files got their names
}

// openSegment is a file with all of its bytes that is not durable, or has no name yet.
type openSegment struct {
	path    string
	file    File
	unnamed bool
}

// use makes s the active segment.
func (w *segmentWriter) use(s *segment) {
	w.active = s
	w.segments = append(w.segments, s)
}

// write writes the entries of one span, with one write to each segment.
func (w *segmentWriter) write(p span) error {
	b := p.bytes()
	at := p.start
	from, pos := 0, 0
	for pos < len(b) {
		var st wire.Stamp
		st.View(b[pos:])
		if w.mustRoll(int64(pos-from), &st) {
			if err := w.put(b[from:pos], at); err != nil {
				return err
			}
			if err := w.roll(at); err != nil {
				return err
			}
			from = pos
		}
		w.note(&st, int64(pos-from))
		at = after(&st)
		pos += st.Size()
	}
	return w.put(b[from:], at)
}

// mustRoll reports whether the entry with stamp st starts a new segment. pending bytes in front of it are not written
// yet. The header holds the owner's state: with a large one, small segments would hold an entry each.
func (w *segmentWriter) mustRoll(pending int64, st *wire.Stamp) bool {
	s := w.active
	if s == nil {
		return true
	}
	used := s.size + pending
	if used == s.data {
		return false
	}
	limit := min(max(w.limit, 2*s.data), w.most)
	return used+int64(st.Size()) > limit || s.first != 0 && st.Time-s.first > w.spanMs
}

// note adds the entry to the index of the active segment if it is due. pending bytes in front of it are not written yet.
func (w *segmentWriter) note(st *wire.Stamp, pending int64) {
	s := w.active
	pos := s.size + pending
	if markDue(s.marks, pos) {
		s.marks = append(s.marks, markOf(st, pos))
	}
	if s.first == 0 {
		s.first = st.Time
	}
}

// put writes whole entries, the last of which ends at end, to the active segment.
func (w *segmentWriter) put(b []byte, end place) error {
	if len(b) == 0 {
		return nil
	}
	if err := w.open(); err != nil {
		return err
	}
	s := w.active
	need := s.size + int64(len(b))
	if need > w.allocated {
		ahead := min(max(need, allocateFirst), allocateMost)
		w.allocated = max(need, min(need+ahead, w.limit+footerTrailer))
		if err := w.file.Allocate(w.allocated); err != nil {
			return err
		}
	}
	if err := writePieces(w.file, b, s.size, w.piece); err != nil {
		return err
	}
	s.size, s.end = need, end
	return nil
}

// open opens the active segment for writing. Where an earlier plan has written and a flush has failed, the kernel may hold
// bytes that do not get to the device even when they are written again: ext4 does not note that blocks have content when
// the write failed for which they were reserved. So those bytes are cut off first.
func (w *segmentWriter) open() error {
	if w.file != nil {
		return nil
	}
	f, err := w.fs.Open(w.active.path, true, false)
	if err != nil {
		return err
	}
	if w.trim {
		if err := f.Truncate(w.active.size); err != nil {
			return errors.Join(err, f.Close())
		}
		w.trim = false
	}
	if w.allocated, err = f.Size(); err != nil {
		return errors.Join(err, f.Close())
	}
	w.file = f
	return nil
}

// roll seals the active segment, if there is one, and creates the one that starts at at.
func (w *segmentWriter) roll(at place) error {
	if w.halted() {
		return ErrClosed
	}
	if w.active != nil {
		if err := w.seal(); err != nil {
			return err
		}
	}
	s := &segment{path: path.Join(w.dir, segmentName(at)), start: at, end: at, indexed: true}
	header := appendSegmentHeader(nil, w.id, at, w.nowMs, w.state)
	w.created = append(w.created, s.path+tempExt) // even if it is not completed
	f, err := w.fs.Open(s.path+tempExt, true, true)
	if err != nil {
		return err
	}
	s.data, s.size = int64(len(header)), int64(len(header))
	w.allocated = s.size + min(allocateFirst, w.limit)
	err = f.Truncate(0) // it may exist, from a process that did not finish it
	if err == nil {
		err = f.Allocate(w.allocated)
	}
	if err == nil {
		err = writeFull(f, header, 0)
	}
	if err != nil {
		return fmt.Errorf("create segment: %w", errors.Join(err, f.Close()))
	}
	w.file, w.unnamed = f, true
	w.use(s)
	return nil
}

// seal writes the footer of the active segment. The file is made durable with those of other segments, because the first
// flush writes the journal of the file system for all of them, and they need only one flush of the directory.
func (w *segmentWriter) seal() error {
	if err := w.open(); err != nil {
		return err
	}
	s := w.active
	footer := appendFooter(nil, footerInfo{dataEnd: s.size, next: s.end, first: s.first, marks: s.marks})
	end := s.size + int64(len(footer))
	if err := w.file.Truncate(s.size); err != nil {
		return err
	}
	if err := w.file.Allocate(end); err != nil {
		return err
	}
	if err := writeFull(w.file, footer, s.size); err != nil {
		return err
	}
	s.size, s.marks, s.indexed = end, nil, false
	w.bytes += end
	w.setAside()
	if len(w.sealed) < filesAtOnce && w.bytes < bytesAtOnce {
		return w.sealed[len(w.sealed)-1].file.StartOut()
	}
	return w.finish()
}

// setAside adds the open file to those that are complete.
func (w *segmentWriter) setAside() {
	if w.file == nil {
		return
	}
	w.sealed = append(w.sealed, openSegment{path: w.active.path, file: w.file, unnamed: w.unnamed})
	w.file, w.unnamed = nil, false
}

// files returns how many files are open.
func (w *segmentWriter) files() int {
	if w.file != nil {
		return len(w.sealed) + 1
	}
	return len(w.sealed)
}

// finishing makes the open files durable and closes them, and gives new ones their names. None gets its name before all
// are durable: after a lost checkpoint only the last segment may have bytes that were never flushed.
var finishing = [...]func(*segmentWriter) error{
	(*segmentWriter).flush, (*segmentWriter).name, (*segmentWriter).appear,
}

// finish takes the steps of finishing.
func (w *segmentWriter) finish() error {
	for _, step := range finishing {
		if err := step(w); err != nil {
			return err
		}
	}
	return nil
}

// flush makes the open files durable and closes them.
func (w *segmentWriter) flush() error {
	w.setAside()
	for i := range w.sealed {
		f := w.sealed[i].file
		w.sealed[i].file = nil
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// name gives new files their names, in their order: what a file system with a journal keeps of them after a power cut has
// no hole. They must be durable.
func (w *segmentWriter) name() error {
	for _, s := range w.sealed {
		if !s.unnamed {
			continue
		}
		w.unseen = true
		w.created = append(w.created, s.path)
		if err := w.fs.Rename(s.path+tempExt, s.path); err != nil {
			return err
		}
	}
	w.sealed, w.bytes = w.sealed[:0], 0
	return nil
}

// appear makes the new names durable.
func (w *segmentWriter) appear() error {
	if !w.unseen {
		return nil
	}
	w.unseen = false
	return w.fs.SyncDir(w.dir)
}

// abort closes the open files after an error.
func (w *segmentWriter) abort() {
	w.setAside()
	for _, s := range w.sealed {
		if s.file != nil {
			_ = s.file.Close() // an error was reported already
		}
	}
	w.sealed = nil
}
