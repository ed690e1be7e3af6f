package log

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// fileAge is how many checkpoint intervals entries may stay in memory and the commit log before they are filed.
const fileAge = 6

// filesAtOnce bounds the segment files that are made durable together, bytesAtOnce what they have to send to the device,
// behind which a round may have to wait. One log may add up to as much again.
const (
	filesAtOnce = 32
	bytesAtOnce = 8 << 20

	// groupsAtOnce is how many times as much is filed before others are let in, for which the checkpoint file has to be
	// replaced: with 10,000 partitions that takes as long as one or two groups.
	groupsAtOnce = 8

	// dirsAtOnce is how many directories are made together: a flush of the one above costs as much as making a few.
	dirsAtOnce = 256
)

// plan is one log's part of a checkpoint. It takes effect when the checkpoint file is replaced.
type plan struct {
	log    *Log
	spans  []span
	bytes  int64 // of the spans
	target place
	state  snapshot
	low    uint64 // the log's lowLsn before the plan
	writer segmentWriter
	drop   bool // nothing is kept of the log but the state, so no file is written; see planDropLocked
	err    error
}

// runCheckpoints makes checkpoints until the store closes: when the commit log is long, when memory runs short, and on
// a timer for entries that are nowhere but in memory or that have waited long.
func (s *Store) runCheckpoints() {
	tick := time.NewTicker(s.options.CheckpointInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-s.stop:
			return
		case <-tick.C:
			err = s.checkpoint((*Log).dueLocked)
			s.dropIdle()
		case <-s.checkpoints:
			if s.full.Load() { // whatever gives space back
				err = s.checkpoint((*Log).dirtyLocked)
			} else {
				err = s.fileOldest()
			}
		case <-s.pool.press:
			err = s.relieve()
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			s.logger.Error("checkpoint failed", "err", err)
		}
	}
}

// dirtyLocked reports whether the log has something to file.
func (l *Log) dirtyLocked() bool { return l.filed.index < l.next.index }

// dueLocked reports whether the log has entries that are nowhere but in memory, or that have been in the commit log
// for fileAge ticks.
func (l *Log) dueLocked() bool {
	if !l.dirtyLocked() {
		l.rounds = 0
		return l.outdated
	}
	l.rounds++
	return l.walNext.index < l.next.index || l.rounds > fileAge
}

// Checkpoint files everything that was appended so far, so that a restart does not replay it. It waits for the disk.
// It returns the errors of all logs that could not be filed, joined.
func (s *Store) Checkpoint() error {
	if s.memoryOnly() {
		return nil
	}
	return s.checkpoint((*Log).unsavedLocked)
}

// unsavedLocked reports whether a checkpoint would change what is stored of the log.
func (l *Log) unsavedLocked() bool { return l.dirtyLocked() || l.outdated }

// checkpoint files the logs for which which returns true, and replaces the checkpoint file. Whoever asks for filing
// meanwhile is let in between.
func (s *Store) checkpoint(which func(*Log) bool) error {
	var errs []error
	logs := s.chosen(which)
	for first := true; first || len(logs) > 0; first = false {
		var err error
		s.filing.Lock()
		logs, err = s.checkpointPart(logs, s.asking.Load)
		s.filing.Unlock()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ask locks filing for a caller whose user waits.
func (s *Store) ask() {
	s.asking.Add(1)
	s.filing.Lock()
	s.asking.Add(-1)
}

// chosen returns the logs for which which returns true.
func (s *Store) chosen(which func(*Log) bool) []*Log {
	return slices.DeleteFunc(s.openLogs(), func(l *Log) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !which(l)
	})
}

// checkpointLocked files the logs for which which returns true and replaces the checkpoint file.
func (s *Store) checkpointLocked(which func(*Log) bool) error {
	_, err := s.checkpointPart(s.chosen(which), func() int32 { return 0 })
	return err
}

// checkpointPart files logs and replaces the checkpoint file. It returns those that it leaves to the next one, because
// others are asking for filing.
func (s *Store) checkpointPart(logs []*Log, asking func() int32) (left []*Log, err error) {
	if s.broken != nil {
		return nil, s.broken
	}
	s.round.Lock()
	lsn, bytes := s.commits.lsn, s.commits.bytes
	s.round.Unlock()
	dirty, _ := s.backlogs()
	unfiled := sum(dirty)
	plans, left, errs := s.fileLogs(logs, asking)
	if len(plans) == 0 && !s.rootChanged {
		return left, errors.Join(append(errs, s.removeStale())...)
	}
	if err := s.replaceRoot(plans, lsn); err != nil {
		for _, p := range plans {
			p.undo()
		}
		return nil, errors.Join(append(errs, err)...)
	}
	s.round.Lock()
	s.commits.bytes -= covered(plans, unfiled, bytes)
	s.walBytes.Store(s.commits.bytes)
	s.round.Unlock()
	for _, p := range plans {
		p.log.notify(nil)
	}
	return left, errors.Join(append(errs, s.removeStale())...)
}

// covered returns how much of the bytes in the commit log is not needed any more after the plans, of unfiled
// bytes that all logs had. The commit log does not say whose its bytes are.
func covered(plans []*plan, unfiled, bytes int64) int64 {
	var filed int64
	for _, p := range plans {
		filed += p.bytes
	}
	if filed >= unfiled {
		return bytes
	}
	return int64(float64(bytes) * float64(filed) / float64(unfiled))
}

// filing is what fileLogs has done so far. It writes the files of several logs before it flushes the first of them: see
// Store.finish. The device works meanwhile.
type filing struct {
	store  *Store
	plans  []*plan // whose segments are durable
	errs   []error // of the others
	groups int     // that were made durable

	written []*plan // the next group
	files   int     // of it
	bytes   int64   // of it
}

// fileLogs writes and flushes the segments of those of the logs that have something to file. It returns the plans whose
// segments are durable, and the logs that it leaves because others are asking for filing.
func (s *Store) fileLogs(logs []*Log, asking func() int32) (plans []*plan, left []*Log, errs []error) {
	f, dirs := filing{store: s}, error(nil)
	logs = slices.DeleteFunc(logs, (*Log).settled)
	for i, l := range logs {
		if s.hurry.Load() {
			f.errs = append(f.errs, ErrClosed)
			break
		}
		if f.groups >= groupsAtOnce && asking() > 0 {
			left = logs[i:]
			break
		}
		if i%dirsAtOnce == 0 {
			dirs = s.houseLogs(logs[i:min(i+dirsAtOnce, len(logs))])
		}
		f.add(l, dirs)
	}
	f.finish()
	return f.plans, left, f.errs
}

// add writes the segments of a log. dirs is why it may have no directory.
func (f *filing) add(l *Log, dirs error) {
	p := l.writeAll(dirs)
	if isFull(p.err) && f.store.releaseSpares() {
		p.undo()
		p = l.writeAll(dirs)
	}
	if p.err != nil {
		f.errs = append(f.errs, p.fail())
		return
	}
	f.written, f.files, f.bytes = append(f.written, p), f.files+p.writer.files(), f.bytes+p.bytes
	if f.files >= filesAtOnce || f.bytes >= bytesAtOnce {
		f.finish()
	}
}

// finish makes durable what was written.
func (f *filing) finish() {
	f.store.finish(f.written)
	for _, p := range f.written {
		if p.err != nil {
			f.errs = append(f.errs, p.fail())
			continue
		}
		f.plans = append(f.plans, p)
	}
	f.written, f.files, f.bytes, f.groups = f.written[:0], 0, 0, f.groups+1
}

// settled reports whether the log has nothing to file any more, and no state to refresh.
func (l *Log) settled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || !l.unsavedLocked()
}

// RefreshState has the next checkpoint ask the owner for its state even if nothing is appended: the one that is stored is
// of no use any more, and large.
func (l *Log) RefreshState() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outdated = l.ready && len(l.state.blob) > 0
}

// finish makes what the plans have written durable, and sets their errors. It takes each step for all of them before the
// next one. The first flush of a step writes the journal of the file system for all, which makes the others cheap.
func (s *Store) finish(plans []*plan) {
	for _, step := range finishing {
		for _, p := range plans {
			if p.err == nil {
				p.err = step(&p.writer)
			}
		}
	}
}

// makeLogDirs makes the directories of logs, and makes them durable with one flush, before anything is created in them.
// The caller holds filing.
func (s *Store) makeLogDirs(logs []*Log) error {
	fresh := slices.DeleteFunc(slices.Clone(logs), (*Log).housed)
	if len(fresh) == 0 {
		return nil
	}
	for _, l := range fresh {
		if err := s.options.FS.MakeDir(l.dir()); err != nil {
			return err
		}
	}
	if err := s.options.FS.SyncDir(path.Join(s.options.Dir, partitionsDir)); err != nil {
		return err
	}
	for _, l := range fresh {
		l.hasDir = true
	}
	return nil
}

// houseLogs is makeLogDirs, and makes room on a full disk.
func (s *Store) houseLogs(logs []*Log) error {
	err := s.makeLogDirs(logs)
	if isFull(err) && s.releaseSpares() {
		err = s.makeLogDirs(logs)
	}
	return err
}

// housed reports whether the directory of the log is durable. The caller holds filing.
func (l *Log) housed() bool { return l.hasDir || len(l.segments) > 0 }

// writeAll makes a plan that files all entries of the log, and writes its segments. dirs is why the log may have no
// directory.
func (l *Log) writeAll(dirs error) *plan {
	p := l.plan()
	if p.err == nil && !p.drop && !l.housed() {
		p.err = dirs
	}
	if p.err == nil {
		p.err = p.write()
	}
	return p
}

// replaceRoot replaces the checkpoint file by one with the plans, and commits them.
func (s *Store) replaceRoot(plans []*plan, lsn uint64) error {
	root := s.root(plans, lsn)
	size, err := root.write(s.options.FS, s.options.Dir)
	for _, release := range [...]func() bool{s.releaseSpares, s.releaseRootReserve, s.releaseReserve} {
		if isFull(err) && !errors.Is(err, errUncertain) && release() {
			size, err = root.write(s.options.FS, s.options.Dir)
		}
	}
	if isFull(err) {
		s.noteFull()
	}
	if errors.Is(err, errUncertain) {
		s.failAll(err)
	}
	if err != nil {
		s.failures.Add(1)
		return err
	}
	for _, p := range plans {
		p.commit()
	}
	s.rootChanged = false
	s.saved.Add(1)
	maps.DeleteFunc(s.removed, func(_ wire.Identity, lsn uint64) bool { return lsn <= root.floor })
	if s.replaying {
		return nil
	}
	s.keepRootReserve(size)
	s.round.Lock()
	defer s.round.Unlock()
	if err := s.commits.recycle(root.floor, root.open); err != nil {
		s.logger.Warn("recycle commit log", "err", err)
	}
	return nil
}

// failAll makes every log read-only and ends all checkpoints, because a restart may find either of two checkpoints:
// no file that one of them needs may change. The caller holds filing.
func (s *Store) failAll(err error) {
	s.broken = errors.Join(ErrReadOnly, err)
	s.logger.Error("store is read-only", "err", err)
	for _, l := range s.openLogs() {
		l.fail(s.broken)
		l.notify(s.broken)
	}
}

// releaseReserve removes the reserve file from a full disk, and reports whether there was one.
func (s *Store) releaseReserve() bool {
	s.round.Lock()
	defer s.round.Unlock()
	return s.commits.dropReserve()
}

// releaseSpares removes all spares from a full disk, and reports whether there were any.
func (s *Store) releaseSpares() bool {
	s.round.Lock()
	defer s.round.Unlock()
	had := len(s.commits.spares)+len(s.commits.waste) > 0
	if err := s.commits.dropSpares(0); err != nil {
		s.logger.Warn("remove spare commit log files", "err", err)
	}
	return had
}

// root returns the checkpoint with the plans in it.
func (s *Store) root(plans []*plan, lsn uint64) *checkpoint {
	planned := make(map[*Log]*plan, len(plans))
	for _, p := range plans {
		planned[p.log] = p
	}
	root := &checkpoint{floor: lsn, created: s.nowMs(), removed: s.removed}
	for _, l := range s.openLogs() {
		l.mu.Lock()
		if l.lowLsn != 0 {
			root.floor = min(root.floor, l.lowLsn)
		}
		r, removed := l.recordLocked(), l.closed
		l.mu.Unlock()
		if p := planned[l]; p != nil {
			p.amend(&r)
		}
		if !removed {
			root.logs = append(root.logs, r)
		}
	}
	root.logs = slices.DeleteFunc(root.logs, func(r logRecord) bool { // never filed, nor purged: not worth a record
		return r.filed.index <= firstIndex && r.first == 0
	})
	s.round.Lock()
	root.lsn, root.file, root.open = s.commits.lsn, s.commits.next, s.commits.newest(root.floor)
	s.round.Unlock()
	slices.SortFunc(root.logs, func(a, b logRecord) int { return compareIdentity(a.id, b.id) })
	return root
}

// recordLocked returns the log's record without a plan.
func (l *Log) recordLocked() logRecord {
	r := logRecord{id: l.id, first: l.first, prev: l.prev, filed: l.filed, state: l.state}
	if n := len(l.segments); n > 0 {
		a := l.segments[n-1]
		r.active, r.size = a.start, a.size
		if l.spoiled {
			r.size = 0
		}
	}
	return r
}

// amend changes the log's record as the plan says.
func (p *plan) amend(r *logRecord) {
	r.filed, r.state = p.target, p.state
	if p.drop {
		r.prev, r.first, r.active, r.size = p.target, max(r.first, p.target.offset), place{}, 0
	}
	if a := p.writer.active; a != nil {
		r.active, r.size = a.start, a.size
	}
}

// plan makes a plan that files all entries. It takes the owner's state before the entries, so that the state never
// includes an entry that the plan does not file.
func (l *Log) plan() *plan {
	l.mu.Lock()
	hook, ready := l.config.State, l.ready
	state := l.state
	l.outdated = false // if the plan fails, the state is refreshed when something was appended
	l.mu.Unlock()
	if hook != nil && ready {
		state = l.renewed(state, hook)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.planDropLocked(state); p != nil {
		return p
	}
	return l.planLocked(state)
}

// renewed returns the owner's state, or old when the owner's is too large to be stored. The log then keeps the entries
// behind the old one, which a restart replays: retention waits, but nothing fails and nothing is lost.
func (l *Log) renewed(old snapshot, hook func() ([]byte, uint64)) snapshot {
	blob, index := hook()
	if len(blob) <= maxStateBytes {
		return snapshot{blob: blob, index: index}
	}
	l.store.logger.Warn("state is too large for a checkpoint: the old one stays", "path", l.dir(), "bytes", len(blob))
	return old
}

// planLocked makes a plan that files all entries that are not filed.
func (l *Log) planLocked(state snapshot) *plan {
	p := &plan{log: l, target: l.next, state: state, low: l.lowLsn}
	if state.index >= l.next.index {
		p.err = fmt.Errorf("log: the state of %s is impossible", logDir(l.id))
		return p
	}
	s := l.store
	p.spans = l.spansLocked(nil, l.filed.index)
	for _, sp := range p.spans {
		p.bytes += int64(sp.to - sp.from)
	}
	l.lowLsn = 0
	p.writer = segmentWriter{
		fs: s.options.FS, dir: l.dir(), id: l.id,
		limit: l.config.SegmentBytes, most: s.options.segmentLimit(), nowMs: s.nowMs(), state: state,
		spanMs: l.config.SegmentAge.Milliseconds(), piece: s.piece, halted: s.hurry.Load, trim: !l.trimmed,
	}
	if n := len(l.segments); n > 0 && !l.spoiled {
		active := *l.segments[n-1]
		p.writer.use(&active)
	}
	return p
}

// planDropLocked returns a plan that drops all entries when all records were purged or are too old, and the state has
// whatever else they hold; otherwise nil. On a disk without a free byte this is how a purge or retention makes space:
// entries that are not filed yet keep the last segment from being removed, and there is no space to file them.
func (l *Log) planDropLocked(state snapshot) *plan {
	if state.index >= l.next.index || !l.coveredLocked(l.next, state) {
		return nil
	}
	if !l.purgedLocked(l.next) && !l.outdatedLocked(l.store.nowMs()) || l.prev.offset == l.next.offset {
		return nil
	}
	p := &plan{log: l, target: l.next, state: state, low: l.lowLsn, bytes: l.unfiled, drop: true}
	l.lowLsn = 0
	return p
}

// commitDropLocked makes the drop take effect in memory, after the checkpoint file was replaced.
func (p *plan) commitDropLocked() {
	l := p.log
	for _, s := range l.segments {
		l.stale = append(l.stale, s.path)
	}
	l.segments, l.spoiled, l.trimmed = nil, false, false
	l.prev = p.target
	l.first = max(l.first, p.target.offset)
}

// write writes the entries to segment files and leaves the last one open.
func (p *plan) write() error {
	w := &p.writer
	if len(p.spans) == 0 {
		return nil
	}
	if err := p.log.removeJunk(); err != nil {
		return err
	}
	if err := p.continueActive(); err != nil {
		return err
	}
	if w.active == nil {
		if err := p.log.store.makeLogDirs([]*Log{p.log}); err != nil {
			return err
		}
	}
	for _, sp := range p.spans {
		if err := w.write(sp); err != nil {
			return err
		}
	}
	return w.file.StartOut()
}

// continueActive prepares the active segment, if there is one, for what is written behind its end. If it cannot be read,
// which may pass, the entries go to a new one: nothing failed that anybody waits for.
func (p *plan) continueActive() error {
	w, l := &p.writer, p.log
	if w.active == nil {
		return nil
	}
	err := l.store.indexActive(w.active, l.seed)
	if err == nil || isShort(err) || missing(err) || errors.Is(err, ErrVersion) {
		return err
	}
	l.store.logger.Warn("segment cannot be read: entries go to a new one", "path", w.active.path, "err", err)
	w.active, w.segments = nil, nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoiled = true
	return nil
}

func (p *plan) release() {
	releaseSpans(p.spans)
	p.spans = nil
}

// undo gives up the plan. What it wrote never counts.
func (p *plan) undo() {
	p.writer.abort()
	p.release()
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.low != 0 {
		l.lowLsn = p.low
	}
	l.junk = append(l.junk, p.writer.created...)
	l.trimmed = false
}

// fail undoes the plan and returns its error. After a full disk, or too many open files, the log can be filed later, and
// nothing failed when the store closes. Any other error makes the log read-only, and its last segment is not written again.
func (p *plan) fail() error {
	p.undo()
	l := p.log
	if isFull(p.err) {
		l.store.noteFull()
		return p.err
	}
	if errors.Is(p.err, ErrClosed) {
		return p.err
	}
	l.store.failures.Add(1)
	if isShort(p.err) {
		return p.err
	}
	l.mu.Lock()
	l.spoiled = true
	if l.failed == nil {
		l.failed = errors.Join(ErrReadOnly, p.err)
	}
	err := l.failed
	l.mu.Unlock()
	l.notify(err)
	return fmt.Errorf("file %s: %w", logDir(l.id), p.err)
}

// commit makes the plan take effect in memory, after the checkpoint file was replaced.
func (p *plan) commit() {
	p.release()
	l := p.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.drop {
		p.commitDropLocked()
	}
	l.addSegmentsLocked(p.writer.segments)
	l.filed, l.state = later(l.filed, p.target), p.state
	if later(l.walNext, l.written).index <= l.filed.index { // also what a round has written since the plan was made
		l.lowLsn = 0
	}
	l.walNext = later(l.walNext, l.filed)
	l.written = later(l.written, l.filed)
	l.durable = later(l.durable, l.filed)
	l.rounds = 0
	l.recountLocked()
	if l.walNext.index <= l.filed.index {
		l.lastLsn = 0
	}
}

// addSegmentsLocked adds segments, the first of which replaces the active one unless that is spoiled.
func (l *Log) addSegmentsLocked(segments []*segment) {
	if len(segments) == 0 {
		return
	}
	keep := len(l.segments)
	if keep > 0 && !l.spoiled {
		keep--
	}
	l.segments = append(l.segments[:keep:keep], segments...)
	l.spoiled, l.trimmed = false, true
}

// removeJunk removes files that do not count. What compaction has put in the place of some of them has its name for good
// first: a process that was killed may not have flushed it. The caller holds filing.
func (l *Log) removeJunk() error {
	l.mu.Lock()
	junk := l.junk
	l.mu.Unlock()
	if len(junk) == 0 {
		return nil
	}
	f := l.store.options.FS
	if err := f.SyncDir(l.dir()); err != nil {
		return err
	}
	for _, name := range junk {
		if err := removeQuietly(f, name); err != nil {
			return err
		}
	}
	if err := f.SyncDir(l.dir()); err != nil {
		return err
	}
	l.mu.Lock()
	l.junk = nil
	l.mu.Unlock()
	return nil
}

// removeStale removes segment files and directories that the checkpoint on the disk no longer needs. The caller holds
// filing.
func (s *Store) removeStale() error {
	var errs []error
	if len(s.gone) > 0 {
		s.gone = s.discard(s.gone, s.removeDir, &errs)
		errs = append(errs, s.options.FS.SyncDir(path.Join(s.options.Dir, partitionsDir)))
	}
	var changed []*Log // the first flush of a directory writes the journal of the file system for all
	for _, l := range s.openLogs() {
		if l.removeStale(&errs) {
			changed = append(changed, l)
		}
	}
	for _, l := range changed {
		errs = append(errs, s.options.FS.SyncDir(l.dir()))
	}
	return errors.Join(errs...)
}

// removeStale removes the log's part, and reports whether its directory has to be flushed.
func (l *Log) removeStale(errs *[]error) bool {
	s := l.store
	l.mu.Lock()
	stale := l.stale
	l.stale = nil
	for _, seg := range l.segments {
		stale = slices.DeleteFunc(stale, func(name string) bool { return name == seg.path })
	}
	l.mu.Unlock()
	if len(stale) == 0 {
		return false
	}
	s.views.forget(func(name string) bool { return slices.Contains(stale, name) })
	left := s.discard(stale, func(name string) error { return removeQuietly(s.options.FS, name) }, errs)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stale = append(l.stale, left...)
	return len(left) < len(stale)
}

// discard calls remove for each name, and returns those for which that failed: the next checkpoint tries again. It adds
// only the first error about a name to errs, because later callers want something else.
func (s *Store) discard(names []string, remove func(name string) error, errs *[]error) (left []string) {
	for _, name := range names {
		err := remove(name)
		if err == nil {
			delete(s.stuck, name)
			continue
		}
		left = append(left, name)
		if !s.stuck[name] {
			s.stuck[name] = true
			*errs = append(*errs, err)
		}
	}
	return left
}
