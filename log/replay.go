package log

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

var (
	errTorn  = errors.New("torn tail")
	errChunk = errors.New("commit log chunk is damaged")
	errShort = errors.New("the end of the file is missing")
	errName  = errors.New("the file has the name of another one")
)

// replayFile is a commit log file that was found at a restart.
type replayFile struct {
	name   string
	header commitHeader
	limit  uint64 // chunks from this lsn on do not count: a later file says that they were given up
	size   int64
	reach  int64  // nothing that counts is behind; see putReach
	short  bool   // the file is shorter than its reach: its end was cut off
	end    uint64 // lsn behind its last chunk
}

// replay rebuilds the logs in memory from the commit log.
type replay struct {
	store    *Store
	files    []replayFile
	unused   []string // files of no use
	floor    uint64
	synced   uint64      // chunks below were durable, so damage there is not a torn tail
	start    uint64      // lsn of the first chunk that counts
	expected uint64      // lsn behind the last chunk that was applied
	highest  uint64      // lsn behind the highest chunk seen
	buf      []byte      // memory of load
	loaded   *replayFile // the file in buf
	cut      bool        // a torn tail was found: nothing behind it counts

	again map[*Log]place // start of the entries that are not known to be durable, which are written again
}

// replayCommits reads the commit log twice: first for the highest synced position, then to apply the chunks. known says
// that the checkpoint was read.
func (s *Store) replayCommits(root *checkpoint, known bool) error {
	r := &replay{store: s, floor: root.floor, synced: root.floor, again: map[*Log]place{}}
	defer r.release()
	if err := r.list(known); err != nil {
		return err
	}
	if err := r.each(r.survey); err != nil {
		return err
	}
	r.sort() // by the numbers in the headers, as a file may have been renamed
	r.synced = max(r.synced, limitFiles(r.files))
	r.expected = max(r.floor, 1)
	r.start = r.expected
	if r.missing(root, known) {
		s.reportDamage(s.commits.dir, 0, errMissing)
	}
	if err := r.each(r.apply); err != nil {
		return err
	}
	if err := r.tidy(); err != nil {
		return err
	}
	r.finish(root)
	return nil
}

// limitFiles sets the limits of files, which are in the order of their numbers. It returns the highest lsn from which on
// one of them gave up the chunks before it: those below were durable.
func limitFiles(files []replayFile) (synced uint64) {
	limit := ^uint64(0)
	for i := len(files) - 1; i >= 0; i-- {
		files[i].limit = limit
		if h := &files[i].header; h.first != 0 {
			limit, synced = min(limit, h.abandon), max(synced, h.abandon)
		}
	}
	return synced
}

// missing reports whether a file that the checkpoint needs is missing.
func (r *replay) missing(root *checkpoint, known bool) bool {
	if !known {
		return false
	}
	return misses(r.files, root.open) || len(r.files) > 0 && r.files[0].header.abandon > r.start
}

// misses reports whether the file with a number is not among the files. 0 is no file.
func misses(files []replayFile, number uint64) bool {
	return number != 0 && !slices.ContainsFunc(files, func(f replayFile) bool { return f.header.file == number })
}

// list finds the files of the commit log.
func (r *replay) list(known bool) error {
	c := r.store.commits
	list, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, d := range list {
		name := path.Join(c.dir, d.Name)
		n, ok := parseCommitName(d.Name)
		ext := path.Ext(d.Name)
		switch {
		case d.Dir || !ok && d.Name != reserveName && ext != spareExt && ext != tempExt:
			r.store.stranger(name)
		case ok:
			f := replayFile{name: d.Name, size: d.Size}
			f.header.file = n
			r.files = append(r.files, f)
			c.next = max(c.next, n+1)
		case d.Name == reserveName && d.Size >= c.size:
			c.reserved = true
		case known && ext == spareExt && d.Size == c.size && len(c.spares) < c.maximum:
			c.spares = append(c.spares, spare{name: d.Name})
		default:
			r.unused = append(r.unused, name) // without a checkpoint, a spare could have the number of a new file
		}
	}
	r.sort()
	return nil
}

// tidy removes the files of no use. It comes when nothing was found to be of a newer version.
func (r *replay) tidy() error {
	c := r.store.commits
	for _, name := range r.unused {
		if err := removeQuietly(c.fs, name); err != nil {
			return err
		}
	}
	if len(c.spares) == 0 {
		return nil
	}
	// A process that was killed may have renamed them a moment ago; see recycle. Under its old name, a spare that has the
	// header of a new file would make chunks of others not count before they are written again.
	return c.fs.SyncDir(c.dir)
}

// sort puts the files in the order of their numbers.
func (r *replay) sort() {
	byNumber := func(a, b replayFile) int { return cmp.Compare(a.header.file, b.header.file) }
	if !slices.IsSortedFunc(r.files, byNumber) {
		slices.SortStableFunc(r.files, byNumber)
		r.loaded = nil
	}
}

// each calls f with the bytes of every file, in order. The bytes are valid during the call.
func (r *replay) each(f func(file *replayFile, b []byte) error) error {
	for i := range r.files {
		file := &r.files[i]
		b, err := r.load(file)
		if err != nil {
			return fmt.Errorf("read commit log %s: %w", file.name, err)
		}
		if err := f(file, b); err != nil {
			return err
		}
	}
	return nil
}

// load reads a file up to its reach into r.buf. That is memory outside the Go heap, and the same for all files, because
// pages that were touched before are much faster. It does not read the file again that is in r.buf already.
func (r *replay) load(file *replayFile) ([]byte, error) {
	if r.loaded == file {
		return r.buf[:file.reach], nil
	}
	r.loaded = nil
	c := r.store.commits
	f, err := c.fs.Open(path.Join(c.dir, file.name), false, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if file.reach, file.short, err = readReach(f, file.header.file, file.size); err != nil {
		return nil, err
	}
	if int64(len(r.buf)) < file.reach {
		r.release()
		if r.buf, err = mapMemory(int(file.reach)); err != nil {
			return nil, err
		}
	}
	b := r.buf[:file.reach]
	n, err := f.ReadAt(b, 0)
	if n < len(b) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n < len(b) { // somebody cuts it short
		r.store.reportDamage(path.Join(c.dir, file.name), int64(n), errShort)
		clear(b[n:])
		file.size = int64(n)
	}
	r.loaded = file
	return b, nil
}

// readReach returns how much to read of a commit log file of size bytes, and whether the end of the file was cut off.
func readReach(f File, number uint64, size int64) (reach int64, short bool, err error) {
	head := make([]byte, min(size, commitDataPos))
	if err := readEntries(f, head, 0); err != nil {
		return 0, false, err
	}
	reach = reachOf(head, number, size)
	return min(reach, size), size < max(reach, commitDataPos), nil
}

// release unmaps r.buf.
func (r *replay) release() {
	if r.buf != nil {
		unmapMemory(r.buf)
		r.buf = nil
	}
}

// survey reads the header of a file, and the highest lsn and synced position of its chunks.
func (r *replay) survey(file *replayFile, b []byte) error {
	name, number := path.Join(r.store.commits.dir, file.name), file.header.file
	ok, err := file.header.parse(b)
	if !ok && err == nil {
		r.store.reportDamage(name, 0, errChunk)
		_, err = file.header.parse(b[min(commitHeaderCopy, len(b)):])
	}
	if err != nil {
		return fmt.Errorf("commit log %s: %w", file.name, err)
	}
	if ok && file.short {
		r.store.reportDamage(name, file.size, errShort)
	}
	if file.header.file != number {
		r.store.reportDamage(name, 0, errName)
		r.store.commits.next = max(r.store.commits.next, file.header.file+1)
	}
	chunks(b, file.header.file, func(it chunkItem) bool {
		if !it.damage {
			r.synced = max(r.synced, it.header.synced)
			r.highest = max(r.highest, it.header.lsn+1)
		}
		return true
	})
	return nil
}

// chunkItem is a chunk in a commit log file, or damage in front of the next chunk.
type chunkItem struct {
	header  chunkHeader
	pos     int // of the chunk or the damage
	payload []byte
	damage  bool
}

// chunks calls f for the chunks and the damage in a commit log file until f returns false.
func chunks(b []byte, file uint64, f func(chunkItem) bool) {
	from := uint64(0)
	for pos := commitDataPos; pos+headerBytes <= len(b); {
		it, end := nextChunk(b, file, from, pos)
		if end == 0 {
			if !allZero(b[pos:min(pos+endBytes, len(b))]) {
				f(chunkItem{pos: pos, damage: true})
			}
			return
		}
		if !f(it) {
			return
		}
		if !it.damage {
			from = it.header.lsn + 1
		}
		pos = end
	}
}

// nextChunk returns the chunk or damage at pos and its end, which is 0 when no chunk follows. from is the lowest lsn that
// the chunk can have.
func nextChunk(b []byte, file, from uint64, pos int) (chunkItem, int) {
	var h chunkHeader
	if h.parse(b[pos:], file) && !h.tail && h.lsn >= from && len(b)-pos >= headerBytes+int(h.length) {
		end := min(pos+int(h.size()), len(b)) // the tail copy may be cut off
		return chunkItem{header: h, pos: pos, payload: b[pos+headerBytes:][:h.length:h.length]}, end
	}
	for q := pos + chunkAlign; q+headerBytes <= len(b); q += chunkAlign {
		if le.Uint32(b[q:]) != chunkMagic || !h.parse(b[q:], file) || h.lsn < from {
			continue
		}
		start := q
		if h.tail {
			start = q - align(int(h.length)) - headerBytes
		}
		if start == pos {
			payload := b[pos+headerBytes:][:h.length:h.length]
			return chunkItem{header: h, pos: pos, payload: payload}, q + headerBytes
		}
		if start < pos {
			continue
		}
		return chunkItem{pos: pos, damage: true}, start
	}
	return chunkItem{}, 0
}

// apply applies the chunks of a file.
func (r *replay) apply(file *replayFile, b []byte) error {
	name := path.Join(r.store.commits.dir, file.name)
	if h := &file.header; h.first > r.expected && h.abandon > r.expected && r.expected > r.start {
		r.store.reportDamage(name, 0, errMissing) // the end of the file before, or a whole file
	}
	r.expected = max(r.expected, file.header.first)
	var err error
	chunks(b, file.header.file, func(it chunkItem) bool {
		if r.cut {
			return false
		}
		if it.damage {
			if r.expected < file.limit {
				r.damaged(name, it)
			}
			return !r.cut && r.expected < file.limit
		}
		h := &it.header
		file.end = max(file.end, h.lsn+1)
		if h.lsn >= file.limit {
			return false
		}
		if h.lsn >= r.floor && h.kind == chunkEntries {
			err = r.applyChunk(name, &it)
		}
		if err != nil || r.cut {
			return false
		}
		r.expected = max(r.expected, h.lsn+1)
		return true
	})
	file.end = max(file.end, file.header.first)
	return err
}

// damaged handles damage between chunks: it is reported where chunks were durable, and a torn tail elsewhere.
func (r *replay) damaged(name string, it chunkItem) {
	if r.expected < r.synced {
		r.store.reportDamage(name, int64(it.pos), errChunk)
		return
	}
	r.tear(name, int64(it.pos))
}

// tear cuts the commit log at pos. Nothing behind was acknowledged as durable.
func (r *replay) tear(name string, pos int64) {
	r.cut = true
	r.store.torn.Add(1)
	r.store.logger.Warn("commit log has a torn tail: cut", "path", name, "pos", pos)
}

// applyChunk appends the entries of a chunk to its log's memory.
func (r *replay) applyChunk(name string, it *chunkItem) error {
	h, s := &it.header, r.store
	if h.lsn < s.removed[h.id] {
		return nil
	}
	l := s.logs[h.id]
	if l == nil {
		l = newLog(s, h.id)
		s.logs[h.id] = l
	}
	if h.next.index <= l.filed.index || h.next.index < h.first.index {
		return nil
	}
	r.beginChunk(l, it)
	if err := r.applyEntries(name, l, it); err != nil || r.cut {
		return err
	}
	if l.next.index < h.next.index {
		l.skipTo(place{offset: h.next.offset, index: h.next.index, term: l.next.term, time: l.next.time})
	}
	return nil
}

// beginChunk makes the end of l the place where the chunk begins: it cuts what the chunk replaces, and skips
// what is missing in front of it.
func (r *replay) beginChunk(l *Log, it *chunkItem) {
	h := &it.header
	if again := max(h.first.index, l.filed.index); again < l.next.index && isWhole(it, l.seed) {
		l.mu.Lock()
		l.cutMemoryLocked(again)
		l.mu.Unlock()
	}
	if h.first.index > l.next.index {
		l.skipTo(place{offset: h.first.offset, index: h.first.index, term: h.first.term, time: l.next.time})
	}
	if l.lowLsn == 0 {
		l.lowLsn = h.lsn
	}
	r.store.commits.lsn = h.lsn // where a checkpoint during the replay has to start again
	if at, ok := r.again[l]; h.lsn >= r.synced && (!ok || l.next.index < at.index) {
		r.again[l] = l.next
	}
}

// applyEntries appends the entries of a chunk that l does not have yet. Damage in a chunk that was durable costs
// the entries it hits; in a later chunk it is a torn tail, and ends the replay.
func (r *replay) applyEntries(name string, l *Log, it *chunkItem) error {
	h := &it.header
	for pos := 0; pos < len(it.payload); {
		e, _, err := wire.ParseEntry(it.payload[pos:], l.seed)
		switch intact := err == nil && e.Index < h.next.index; {
		case !intact && h.lsn >= r.synced:
			r.tear(name, int64(it.pos+headerBytes+pos))
			return nil
		case !intact:
			r.store.logger.Error("damaged entry in the commit log", "path", name, "pos", it.pos+headerBytes+pos)
			pos = resyncEntry(it.payload, pos, l.seed, l.next.index)
			continue
		}
		if e.Index >= l.next.index {
			if err := r.refuse(l, e); err != nil {
				return err
			}
			if err := l.replayEntry(it.payload[pos:pos+e.Size()], &e.Stamp); err != nil {
				return err
			}
		}
		pos += e.Size()
	}
	return nil
}

// refuse asks the owner of a log about an entry without records.
func (r *replay) refuse(l *Log, e wire.Entry) error {
	if e.Kind == wire.KindData {
		return nil
	}
	if err := r.store.options.RefuseEntry(l.id, e); err != nil {
		return fmt.Errorf("open entry %d of %s: %w", e.Index, logDir(l.id), err)
	}
	return nil
}

// isWhole reports whether a chunk has all of its entries. Only such a chunk replaces entries of earlier chunks. After a
// failure, entries are written again from the last durable one on, and a torn tail among those must not remove what the
// earlier chunks have.
func isWhole(it *chunkItem, seed uint32) bool {
	pos, next := 0, it.header.first.index
	for pos < len(it.payload) {
		e, _, err := wire.ParseEntry(it.payload[pos:], seed)
		if err != nil {
			return false
		}
		pos, next = pos+e.Size(), e.Index+1
	}
	return next == it.header.next.index
}

// resyncEntry returns the position of the next intact entry behind the damage at pos, or the end.
func resyncEntry(b []byte, pos int, seed uint32, index uint64) int {
	for pos++; pos+wire.StampBytes+4 <= len(b); pos++ {
		if b[pos+10] != 0 || b[pos+11] != 0 || !wire.CheckStamp(b[pos:], seed) {
			continue
		}
		if e, _, err := wire.ParseEntry(b[pos:], seed); err == nil && e.Index >= index {
			return pos
		}
	}
	return len(b)
}

// skipTo continues the log at a later place, because the entries up to there are lost. Their offsets and indexes are not
// used again.
func (l *Log) skipTo(at place) {
	lost := lostRange{l.next.offset, at.offset}
	if lost.first < lost.next {
		l.noteLost(lost)
	}
	l.store.lost.Add(at.index - l.next.index)
	l.store.logger.Error("entries lost in the commit log", "path", l.dir(), "index", l.next.index, "next", at.index,
		"offset", lost.first, "end", lost.next)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.slabs); n > 0 {
		l.slabs[n-1].sealed = true
	}
	l.next = at
}

// replayEntry appends an entry as it was stored. When there is no memory for it, it files what is there first.
func (l *Log) replayEntry(b []byte, st *wire.Stamp) error {
	for range 2 {
		l.mu.Lock()
		if st.Index > l.next.index {
			l.mu.Unlock()
			l.skipTo(place{offset: st.BaseOffset, index: st.Index, term: l.next.term, time: l.next.time})
			l.mu.Lock()
		}
		s, err := l.roomLocked(len(b))
		if err == nil {
			copy(s.mem[s.used:], b)
			l.addLocked(s, st)
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		if err := l.fileSoFar(); err != nil {
			return err
		}
	}
	return ErrBusy
}

// fileSoFar makes room in memory in the middle of a chunk. The chunk is still needed for the rest of its entries.
func (l *Log) fileSoFar() error {
	s := l.store
	if err := s.Checkpoint(); err != nil {
		return err
	}
	s.evict(math.MaxInt64)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lowLsn = s.commits.lsn
	return nil
}

// finish prepares the commit log for the next chunk, and has the next round write again all entries that are not known
// to be durable. It is not enough to flush the files that hold them: if a flush failed before the restart, the kernel may
// consider pages clean that it could not write. The header of the next file says that the chunks that are written again,
// and those behind a torn tail, do not count in older files. After a torn tail the next file is needed even when there is
// nothing to write: otherwise only the torn chunk would keep later chunks from counting, and a restart ignores that chunk
// once a checkpoint has filed its log.
func (r *replay) finish(root *checkpoint) {
	s, c := r.store, r.store.commits
	c.lsn = max(r.highest, root.lsn, r.expected, 1)
	c.next = max(c.next, root.file)
	c.abandon, c.synced = min(r.synced, r.expected), c.lsn
	c.redo = r.cut
	for i := range r.files {
		f := &r.files[i]
		if i == len(r.files)-1 {
			f.end = c.lsn
		}
		c.older = append(c.older, commitFile{name: f.name, file: f.header.file, end: f.end, size: f.size, doubtful: true})
		c.bytes += f.reach
	}
	for _, l := range s.logs {
		l.mu.Lock()
		l.found = l.state
		l.first = min(l.first, l.next.offset) // what was purged and not durable is not there, and its offsets are free
		l.walNext, l.written, l.durable = l.next, l.next, l.next
		at, ok := r.again[l]
		if at = later(at, l.filed); ok && at.index < l.next.index {
			l.walNext, l.durable = at, at
			l.want, l.queued, c.redo = wire.LevelDisk, true, true
			s.queue(l)
		}
		if !l.dirtyLocked() { // only a torn chunk came, and maybe nothing ever follows: the commit log is not kept for it
			l.lowLsn = 0
		}
		l.mu.Unlock()
	}
}
