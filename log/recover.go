package log

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/rafka-mq/rafka/wire"
)

const lockName = "LOCK"

// recover opens the directory. The checkpoint says which segments count, and the commit log has the rest. recover reads
// no segment unless the checkpoint was lost.
func (s *Store) recover() error {
	f, dir := s.options.FS, s.options.Dir
	if err := s.makeDirs(); err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	err := s.options.fitDisk()
	if err == nil {
		err = s.options.checkFileLimit()
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	s.commits = newCommitLog(&s.options)
	if s.lock, err = f.Lock(path.Join(dir, lockName)); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	root, known, err := s.readRoot()
	if err != nil {
		return fmt.Errorf("open checkpoint: %w", err)
	}
	s.removed = root.removed
	if s.removed == nil { // there is no checkpoint
		s.removed = tombstones{}
	}
	for i := range root.logs {
		s.restore(&root.logs[i])
	}
	if err := s.findSegments(known); err != nil {
		return err
	}
	if err := s.refuse(); err != nil {
		return err
	}
	s.replaying = true
	defer func() { s.replaying = false }()
	if err := s.replayCommits(&root, known); err != nil {
		return err
	}
	if err := s.removeStale(); err != nil {
		s.logger.Warn("remove what was deleted", "err", err)
	}
	if err := s.commits.keepReserve(); err != nil {
		if !isFull(err) {
			return fmt.Errorf("reserve %d MiB of disk for the commit log: %w", s.commits.size>>20, err)
		}
		s.noteFull()
	}
	if s.commits.redo {
		s.runRound()
	}
	return nil
}

// refuse asks the owners of the logs about their states.
func (s *Store) refuse() error {
	for _, l := range s.logs {
		if err := s.options.RefuseState(l.id, l.state.blob); err != nil {
			return fmt.Errorf("open the state of %s: %w", logDir(l.id), err)
		}
	}
	return nil
}

// readRoot reads the checkpoint and reports whether it exists and is intact. It creates the checkpoint of a new
// directory at once, so that a missing one means that it was lost.
func (s *Store) readRoot() (root checkpoint, known bool, err error) {
	f, dir := s.options.FS, s.options.Dir
	root, damaged, err := readCheckpoint(f, dir)
	switch {
	case err == nil:
		if damaged {
			s.reportDamage(path.Join(dir, checkpointName), 0, errCheckpoint)
		}
		return root, true, nil
	case missing(err):
		fresh, err := isFresh(f, dir)
		if err != nil {
			return root, false, err
		}
		if fresh {
			if err := flushAbove(f, dir); err != nil {
				return root, false, err
			}
			root = checkpoint{floor: 1, lsn: 1, file: 1, created: s.nowMs()}
			_, err := root.write(f, dir)
			return root, true, err
		}
	case !errors.Is(err, errCheckpoint):
		return root, false, err
	}
	s.reportDamage(path.Join(dir, checkpointName), 0, errCheckpoint)
	return checkpoint{}, false, nil
}

// isFresh reports whether a directory never held a log: a start failed before it wrote the checkpoint.
func isFresh(f FS, dir string) (bool, error) {
	for _, part := range []string{commitDir, partitionsDir} {
		list, err := f.ReadDir(path.Join(dir, part))
		if missing(err) {
			return false, nil // it is no data directory
		}
		if err != nil || len(list) > 0 {
			return false, err
		}
	}
	return true, nil
}

// makeDirs creates the directory and its fixed subdirectories.
func (s *Store) makeDirs() error {
	f, dir := s.options.FS, s.options.Dir
	if err := makeAll(f, dir); err != nil {
		return err
	}
	return errors.Join(f.MakeDir(path.Join(dir, commitDir)), f.MakeDir(path.Join(dir, partitionsDir)), f.SyncDir(dir))
}

// makeAll creates a directory and those above it.
func makeAll(f FS, dir string) error {
	err := f.MakeDir(dir)
	if parent := path.Dir(dir); missing(err) && parent != dir {
		return cmp.Or(makeAll(f, parent), f.MakeDir(dir))
	}
	return err
}

// flushAbove makes the name of a directory durable, and those of all directories above it: this process may have created
// them, or one that was killed before it came here. One above that the process may not read, or whose file system knows no
// flush of directories, was there before.
func flushAbove(f FS, dir string) error {
	for parent := path.Dir(dir); parent != dir; dir, parent = parent, path.Dir(parent) {
		err := f.SyncDir(parent)
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return nil
}

// restore creates a log from its record in the checkpoint.
func (s *Store) restore(r *logRecord) {
	l := newLog(s, r.id)
	l.first, l.prev, l.state = r.first, r.prev, r.state
	l.state.blob = slices.Clone(r.state.blob)
	l.filed, l.next, l.walNext, l.written, l.durable = r.filed, r.filed, r.filed, r.filed, r.filed
	if r.active.index != 0 {
		name := path.Join(l.dir(), segmentName(r.active))
		l.segments = []*segment{{path: name, start: r.active, end: r.filed, size: r.size}}
		l.spoiled = r.size == 0
	}
	s.logs[r.id] = l
}

// findSegments lists the directories of the logs. A directory that
// the checkpoint does not know is salvaged when the checkpoint was lost, and otherwise an orphan.
func (s *Store) findSegments(known bool) error {
	dir := path.Join(s.options.Dir, partitionsDir)
	dirs, err := s.options.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		id, ok := parseLogDir(d.Name)
		if !ok || !d.Dir {
			s.stranger(path.Join(dir, d.Name))
			continue
		}
		files, _, err := s.readLogDir(path.Join(dir, d.Name))
		if err != nil {
			return err
		}
		l := s.logs[id]
		_, removed := s.removed[id]
		switch {
		case l != nil:
			l.adopt(files)
		case removed:
			s.gone = append(s.gone, path.Join(dir, d.Name))
		case known:
			s.orphan(id, files)
		default:
			err = s.salvage(id, files)
		}
		if err != nil {
			return err
		}
	}
	for _, l := range s.logs {
		l.checkActive()
	}
	return nil
}

// stranger tells of a file that no broker of this version makes. It stays where it is: it may be somebody's copy of a
// damaged file, or belong to a later version.
func (s *Store) stranger(name string) {
	s.logger.Warn("unknown file in the data directory", "path", name)
}

// readLogDir lists the files in a log's directory: segments, and files that are being made. It tells of all others, and
// reports whether there are any.
func (s *Store) readLogDir(dir string) (files []DirEntry, others bool, err error) {
	list, err := s.options.FS.ReadDir(dir)
	for _, d := range list {
		_, _, ok := parseSegmentName(d.Name)
		ext := path.Ext(d.Name)
		if d.Dir || !ok && ext != tempExt && ext != compactExt {
			s.stranger(path.Join(dir, d.Name))
			others = true
			continue
		}
		files = append(files, d)
	}
	return files, others, err
}

// adopt gives the log those of the listed segments that count. The others were written by checkpoints that did not
// complete, or were dropped already. They must be removed before the next file is created, because among later segments
// they would seem to count.
func (l *Log) adopt(files []DirEntry) {
	var active *segment
	sealed := l.spoiled
	if len(l.segments) > 0 {
		active = l.segments[0]
		l.segments, l.spoiled = nil, true
	}
	segments, junk := listSegments(l.dir(), files)
	l.junk = append(l.junk, junk...)
	for _, seg := range segments {
		switch at := seg.start; {
		case active == nil || at.index < l.prev.index || at.index > active.start.index:
			l.junk = append(l.junk, seg.path)
		case at.index < active.start.index:
			l.segments = append(l.segments, seg)
		case sealed:
			seg.end.index = l.filed.index
			l.segments = append(l.segments, seg)
		case seg.size < active.size:
			l.segments = append(l.segments, seg)
		default:
			l.segments = append(l.segments, active)
			l.spoiled = false
		}
	}
}

// checkActive reports a log whose last segment is missing or too short.
func (l *Log) checkActive() {
	if n := len(l.segments); n > 0 && l.segments[n-1].end.index == l.filed.index {
		return
	}
	if l.filed.index > l.prev.index {
		l.store.reportDamage(l.dir(), 0, errMissing)
		l.segments = slices.DeleteFunc(l.segments, func(s *segment) bool { return s.start.index >= l.filed.index })
		l.spoiled = len(l.segments) > 0
	}
}

// orphan handles a directory that an intact checkpoint does not know: the process died before the first checkpoint of
// the log. All acknowledged entries are in the commit log, so the files do not count. They are deleted when the log is
// filed, and stay when nobody opens it.
func (s *Store) orphan(id wire.Identity, files []DirEntry) {
	if len(files) == 0 {
		return // what others put there kept the directory when its log was removed
	}
	l := newLog(s, id)
	for _, d := range files {
		l.junk = append(l.junk, path.Join(l.dir(), d.Name))
	}
	s.logs[id] = l
	s.logger.Warn("directory of a log that is not in the checkpoint", "path", l.dir())
}

// salvage creates a log from its segments after the checkpoint was lost.
func (s *Store) salvage(id wire.Identity, files []DirEntry) error {
	l := newLog(s, id)
	l.segments, l.junk = listSegments(l.dir(), files)
	if len(l.segments) == 0 {
		return nil
	}
	s.logger.Warn("checkpoint is lost: using all segments", "path", l.dir())
	s.logs[id] = l
	err := s.options.FS.SyncDir(l.dir()) // a process that was killed may have named them a moment ago
	if err != nil {
		return err
	}
	if l.prev, err = l.startOf(l.segments[0]); err != nil {
		return err
	}
	l.first = l.prev.offset
	end, err := l.salvageLast()
	if err != nil {
		return err
	}
	l.filed, l.next, l.walNext, l.written, l.durable = end, end, end, end, end
	for i := len(l.segments) - 1; i >= 0; i-- {
		h, ok, err := s.readHeader(l.segments[i].path)
		if err != nil {
			return err
		}
		if ok && h.state.index < end.index {
			l.state = h.state
			break
		}
	}
	return nil
}

// salvageLast makes the last segment durable and finds its end. Only the last one can have bytes that were never
// flushed, because a segment is flushed before the next one gets its name.
func (l *Log) salvageLast() (place, error) {
	last := l.segments[len(l.segments)-1]
	f, err := l.store.options.FS.Open(last.path, true, false)
	if err != nil {
		return place{}, err
	}
	defer f.Close()
	if err := writeAgain(l.store.options.FS, f, last.path, last.size); err != nil {
		return place{}, err
	}
	end := last.start
	last.data = segmentHeader
	h, headErr := readSegmentHeader(f)
	if headErr == nil {
		end, last.data = h.start, h.data
	}
	info, footErr := readFooter(f, last.size)
	switch {
	case headErr != nil && !tells(headErr), footErr != nil && !tells(footErr):
		return place{}, errors.Join(headErr, footErr)
	case errors.Is(headErr, ErrVersion), errors.Is(footErr, ErrVersion): // damaged, it would be cut
		return place{}, fmt.Errorf("open %s: %w", last.path, ErrVersion)
	case footErr == nil:
		l.spoiled, last.end, last.data = true, info.next, 0
		return info.next, nil
	}
	w := walker{file: f, seed: l.seed, pos: last.data, end: last.size, index: last.start.index, zero: true}
	last.size = last.data
	for {
		st, ok, err := w.next()
		if err != nil {
			return place{}, err
		}
		if !ok {
			break
		}
		if !st.bad {
			end, last.size = after(&st.entry.Stamp), st.end
		}
	}
	last.end = end
	return end, nil
}

// writeAgain overwrites size bytes of a file with themselves and makes them durable. A flush alone is not enough: after
// a failed one, the kernel may consider bytes clean that never reached the device. For the reason given for
// segmentWriter.open it writes past the page cache.
func writeAgain(disk FS, f File, name string, size int64) error {
	direct, err := disk.OpenDirect(name)
	if err != nil {
		return err
	}
	defer direct.Close() // f is flushed
	mem, err := mapMemory(againBytes)
	if err != nil {
		return err
	}
	defer unmapMemory(mem)
	for pos := int64(0); pos < size; pos += againBytes {
		n := min(againBytes, size-pos)
		if err := readFull(f, mem[:n], pos); err != nil {
			return err
		}
		end := pageEnd(n)
		clear(mem[n:end])
		if err := writeFull(direct, mem[:end], pos); err != nil {
			return err
		}
	}
	return errors.Join(f.Truncate(size), f.Sync())
}

// againBytes is how much writeAgain writes at once.
const againBytes = 1 << 20
