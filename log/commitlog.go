package log

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	commitDir   = "commit"
	commitExt   = ".log"
	spareExt    = ".spare"
	reserveName = "reserve"
	tempExt     = ".tmp"

	// stagingBytes is how much is collected for one write. A round of 256 writers of 4 KiB fits; as two
	// consecutive writes it takes a third longer.
	stagingBytes = 2<<20 - 3*pageBytes

	// reachBytes is the step in which the reach of a file grows. A restart may read that much in vain, and
	// once per step a round writes another page.
	reachBytes = 8 << 20
)

// isFull reports whether an error means that the disk is full, which is not a failure of the disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// isShort reports whether the process or the system has too many open files. Nothing was written, and it works again
// when some are closed.
func isShort(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// commitFile is a commit log file that is no longer written to.
type commitFile struct {
	name string
	file uint64
	end  uint64 // lsn behind its last chunk
	size int64

	written  int64 // see commitLog.written
	doubtful bool  // a flush of it may have failed
}

// commitLog writes the commit log. It is not safe for concurrent use: Store.round guards it.
type commitLog struct {
	fs       FS
	dir      string
	size     int64 // of a normal file
	step     int64 // see reachBytes
	nowMs    func() int64
	next     uint64 // number of the next file
	lsn      uint64 // of the next chunk
	synced   uint64 // chunks below are on the device
	marked   uint64 // lsn behind the last mark
	abandon  uint64 // commitHeader.abandon of the next file
	redo     bool   // the next round writes the chunks from abandon on again, to the next file
	unnamed  bool   // the open file gets its name only when those are in it; see appear
	older    []commitFile
	spares   []spare
	waste    []string      // see discard
	maximum  int           // of spares
	bytes    int64         // written since the last checkpoint covered everything
	reserved bool          // the reserve file exists
	spent    chan struct{} // rung when a spare may be missing

	open    File // nil when the next chunk starts a file
	direct  File // the same file past the page cache
	name    string
	number  uint64
	room    int64 // size of the open file
	pos     int64 // where the next chunk goes
	clean   int64 // all before is in the file
	written int64 // blocks before were written at some time; blocks behind may be only reserved
	reach   int64 // see putReach

	wait    bool                           // the round is made durable at once, so write past the page cache
	scratch [chunkAlign + headerBytes]byte // memory of append
	mem     []byte                         // memory of head and buf; whole pages
	head    []byte                         // the first page of the file
	buf     []byte                         // bytes that are not in the file yet, behind those of their first page that are
	bufPos  int64                          // position of buf[0] in the file, the start of a page
}

func newCommitLog(o *Options) *commitLog {
	return &commitLog{
		fs: o.FS, dir: path.Join(o.Dir, commitDir), size: o.CommitFileBytes &^ (pageBytes - 1),
		step:    max(pageBytes, min(reachBytes, o.CommitFileBytes/8)&^(pageBytes-1)),
		maximum: int(o.CommitLogBytes/o.CommitFileBytes) + 1,
		nowMs:   func() int64 { return o.Now().UnixMilli() },
		next:    1, lsn: 1, synced: 1, abandon: 1, spent: make(chan struct{}, 1),
	}
}

func commitName(n uint64) string { return fmt.Sprintf("%016x", n) }

// parseCommitName returns the number in the name of a commit log file, and false for other names.
func parseCommitName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, commitExt)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && len(hex) == 16
}

var zeros [chunkAlign]byte

// append adds a chunk of entries. It sets the header's length, lsn and synced. The chunk is in the file after flush.
func (c *commitLog) append(h chunkHeader, payload []byte) error {
	h.length, h.lsn, h.synced = uint32(len(payload)), c.lsn, c.synced
	if err := c.makeRoom(h.size()); err != nil {
		return err
	}
	if err := c.stage(h.append(c.scratch[:0], c.number)); err != nil {
		return err
	}
	if err := c.stage(payload); err != nil {
		return err
	}
	h.tail = true
	padding := zeros[:align(len(payload))-len(payload)]
	if err := c.stage(h.append(append(c.scratch[:0], padding...), c.number)); err != nil {
		return err
	}
	c.pos += h.size()
	c.bytes += h.size()
	c.lsn++
	return nil
}

// stage adds b to the buffer, and writes the buffer whenever it is full.
func (c *commitLog) stage(b []byte) error {
	for len(b) > 0 {
		n := copy(c.buf[len(c.buf):stagingBytes], b)
		c.buf, b = c.buf[:len(c.buf)+n], b[n:]
		if len(c.buf) < stagingBytes {
			break
		}
		if err := c.write(); err != nil {
			return err
		}
		c.buf, c.bufPos = c.buf[:0], c.bufPos+stagingBytes
	}
	return nil
}

// write writes the buffer, in whole pages. A write past the page cache saves a copy and pages of memory. It waits for
// the device, but so does the flush behind it.
func (c *commitLog) write() error {
	f := c.open
	if c.wait {
		f = c.direct
	}
	if end := c.bufPos + int64(len(c.buf)); end > c.reach {
		reach := min(pageEnd(end+c.step), c.room)
		putReach(c.head, c.number, reach)
		if err := writeFull(f, c.head, 0); err != nil {
			return err
		}
		c.reach = reach
	}
	return writeFull(f, c.buf, c.bufPos)
}

// pageBytes is the size of a page of the page cache, and the unit of writes past it.
const pageBytes = 4 << 10

// pageEnd rounds pos up to the start of a page.
func pageEnd(pos int64) int64 { return (pos + pageBytes - 1) &^ (pageBytes - 1) }

// flush writes the buffer with an end mark behind it, up to the end of a page. It keeps the bytes of the last page,
// because the next chunk's write starts with them.
func (c *commitLog) flush() error {
	if c.open == nil || c.clean == c.pos {
		return nil
	}
	end := c.roundEnd()
	n := int(end - c.bufPos)
	clear(c.buf[len(c.buf):n])
	c.buf = c.buf[:n]
	if err := c.write(); err != nil {
		return err
	}
	c.written = max(c.written, end)
	used := int(c.pos - c.bufPos)
	page := used &^ (pageBytes - 1)
	c.buf = c.buf[:copy(c.buf, c.buf[page:used])]
	c.bufPos += int64(page)
	c.clean = c.pos
	return nil
}

// roundEnd returns where the write of the buffer ends. A small round that reaches blocks that are only reserved writes
// zeros to some blocks ahead, so that the next rounds find written ones.
func (c *commitLog) roundEnd() int64 {
	end := pageEnd(c.pos + endBytes)
	if c.wait && end > c.written && len(c.buf) <= smallRound {
		end += aheadBytes
	}
	return min(end, c.room)
}

// sync makes every chunk durable. After an error the file must be given up; see giveUp.
func (c *commitLog) sync() error {
	if c.open == nil || c.synced == c.lsn {
		return nil
	}
	if err := c.open.Sync(); err != nil {
		return err
	}
	c.synced = c.lsn
	return nil
}

// makeRoom opens the next file when n bytes do not fit in the open one. It makes the old file durable first, so that
// only the open file ever has chunks that are not.
func (c *commitLog) makeRoom(n int64) error {
	if c.open != nil && c.pos+n <= c.room {
		return nil
	}
	if c.open != nil {
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.sync(); err != nil {
			return err
		}
		c.abandon = c.lsn
		c.seal(false)
	}
	return c.start(n)
}

// seal stops writing to the open file. doubtful says that a flush of it failed.
func (c *commitLog) seal(doubtful bool) {
	if c.open == nil {
		return
	}
	// The chunks in it are durable or given up, so an error of Close does not matter.
	_, _ = c.open.Close(), c.direct.Close()
	c.older = append(c.older, commitFile{
		name: c.name, file: c.number, end: c.lsn, size: c.room, written: c.written, doubtful: doubtful,
	})
	c.open, c.direct, c.buf = nil, nil, c.buf[:0]
}

// giveUp stops writing to the open file after a failure. Chunks in it that were not durable stop to count when the
// caller has written them again to the next file; see appear.
func (c *commitLog) giveUp() {
	if c.open == nil {
		return // the next file could not be created: abandon stays as it is
	}
	if c.unnamed {
		c.drop()
	} else {
		c.abandon = c.synced
		c.seal(true)
	}
	c.synced = c.lsn
	c.redo = true
}

// drop removes the open file, which has no name yet. Another file will take its place.
func (c *commitLog) drop() {
	_, _ = c.open.Close(), c.direct.Close()
	c.open, c.direct, c.buf, c.unnamed = nil, nil, c.buf[:0], false
	for _, ext := range [...]string{tempExt, commitExt} {
		_ = c.discard(commitName(c.number) + ext) // which one it has is not known
	}
}

// discard removes a file whose content is of no use. If that fails, the next checkpoint tries again, or whoever needs the
// space.
func (c *commitLog) discard(name string) error {
	err := removeQuietly(c.fs, path.Join(c.dir, name))
	if err != nil {
		c.waste = append(c.waste, name)
	}
	return err
}

// sweep removes what could not be removed before.
func (c *commitLog) sweep() error {
	waste, errs := c.waste, []error(nil)
	c.waste = nil
	for _, name := range waste {
		errs = append(errs, c.discard(name))
	}
	return errors.Join(errs...)
}

// appear makes the open file durable and gives it its name, when it has everything again that was given up in the file
// before. Until then the file before counts, which may well be complete when the process is killed.
func (c *commitLog) appear() error {
	if !c.unnamed {
		return nil
	}
	if err := c.sync(); err != nil {
		return err
	}
	name := path.Join(c.dir, commitName(c.number))
	err := errors.Join(c.fs.Rename(name+tempExt, name+commitExt), c.fs.SyncDir(c.dir))
	if err == nil {
		c.unnamed, c.redo = false, false
	}
	return err
}

// start creates the next file with room for a chunk of n bytes: from a spare, from new space, or on a full disk from
// the reserve.
func (c *commitLog) start(n int64) error {
	if err := c.mapPages(); err != nil {
		return err
	}
	h := commitHeader{file: c.next, first: c.lsn, abandon: c.abandon, created: c.nowMs()}
	from, room, written := c.source(pageEnd(commitDataPos + n))
	c.reach = min(commitDataPos+c.step, room)
	c.fillHead(&h)
	f, direct, err := c.prepare(from, room)
	if isFull(err) && len(c.spares)+len(c.waste) > 0 { // too small for this chunk
		_ = c.dropSpares(0) // those that stay are tried again
		written = 0
		f, direct, err = c.prepare(from, room)
	}
	if isFull(err) && c.reserved && commitDataPos+n <= c.size {
		room, written = c.size, 0
		from = path.Join(c.dir, reserveName)
		c.reserved = false
		f, direct, err = c.prepare(from, room)
	}
	if err != nil {
		return c.giveBack(from, written, err)
	}
	c.next++
	if err := c.named(from, h.file); err != nil {
		return errors.Join(err, f.Close(), direct.Close())
	}
	c.name = commitName(h.file) + commitExt
	c.open, c.direct, c.number, c.room, c.buf, c.unnamed = f, direct, h.file, room, c.buf[:0], c.redo
	c.pos, c.clean, c.bufPos = commitDataPos, commitDataPos, commitDataPos
	c.written = max(written, 2*pageBytes)
	ring(c.spent)
	return nil
}

// named gives a prepared file the name of the number and makes that durable. After an error the file is of no use.
func (c *commitLog) named(from string, number uint64) error {
	name := commitName(number) + commitExt
	if c.redo {
		name = commitName(number) + tempExt
	}
	var err error
	if to := path.Join(c.dir, name); from != to {
		err = c.fs.Rename(from, to)
	}
	if err = errors.Join(err, c.fs.SyncDir(c.dir)); err != nil {
		return errors.Join(err, c.discard(path.Base(from)), c.discard(name))
	}
	return nil
}

// mapPages allocates head and buf, once. buf has room for an end mark and for the zeros written ahead.
func (c *commitLog) mapPages() (err error) {
	if c.mem == nil {
		if c.mem, err = mapMemory(stagingBytes + 3*pageBytes); err == nil {
			c.head, c.buf = c.mem[:pageBytes], c.mem[pageBytes:pageBytes]
		}
	}
	return err
}

// fillHead fills the first page of a file.
func (c *commitLog) fillHead(h *commitHeader) {
	clear(c.head)
	h.put(c.head)
	h.put(c.head[commitHeaderCopy:])
	putReach(c.head, h.file, c.reach)
}

// prepare opens a file, also for writes past the page cache, before anything is done to it: too many files may be open.
// It writes its size, its head, and an end mark where the first chunk will be, past the page cache: somebody may have tried
// that before and failed to flush it, see segmentWriter.open.
func (c *commitLog) prepare(name string, room int64) (f, direct File, err error) {
	if f, err = c.create(name); err != nil {
		return nil, nil, err
	}
	if direct, err = c.fs.OpenDirect(name); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if err = f.Allocate(room); err == nil {
		clear(c.mem[pageBytes : 2*pageBytes]) // where buf begins, which is empty
		if err = writeFull(direct, c.mem[:2*pageBytes], 0); err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), direct.Close(), c.discard(path.Base(name)))
	}
	return f, direct, nil
}

// create opens a file that is filled now, even if there is one that should have been removed.
func (c *commitLog) create(name string) (File, error) {
	c.waste = slices.DeleteFunc(c.waste, func(old string) bool { return old == path.Base(name) })
	return c.fs.Open(name, true, true)
}

// recycle turns the files whose chunks are all below floor into spares, and removes those that are too many or of
// another size. It leaves the file with number keep, which the checkpoint expects to exist.
func (c *commitLog) recycle(floor, keep uint64) error {
	errs := []error{c.sweep()}
	var spares []spare
	most := c.maximum
	if len(c.older) > 0 && c.short() {
		most = 0
	}
	var kept []commitFile
	for _, f := range c.older {
		if f.end > floor || f.file == keep {
			kept = append(kept, f)
			continue
		}
		name, err := c.retire(f, most-len(c.spares)-len(spares))
		errs = append(errs, err)
		switch {
		case err != nil && !missing(err): // the next checkpoint tries again
			kept = append(kept, f)
		case name != "":
			spares = append(spares, spare{name: name, written: f.written})
		}
	}
	changed := len(kept) < len(c.older)
	c.older = kept
	if !changed {
		return errors.Join(errs...)
	}
	c.spares = append(c.spares, spares...)
	// Before a spare is written to, its new name must be durable: it must not come back under the old one.
	if err := c.fs.SyncDir(c.dir); err != nil {
		errs = append(errs, err, c.dropSpares(0))
	}
	return errors.Join(errs...)
}

// retire makes a file a spare and returns its new name, or removes it when there are enough spares. It removes doubtful
// ones, too: what is written to their pages again may not get to the device, see segmentWriter.open.
func (c *commitLog) retire(f commitFile, want int) (name string, err error) {
	old := path.Join(c.dir, f.name)
	if f.size != c.size || f.doubtful || want <= 0 {
		return "", c.fs.Remove(old)
	}
	name = commitName(f.file) + spareExt
	if err := c.fs.Rename(old, path.Join(c.dir, name)); err != nil {
		return "", err
	}
	return name, nil
}

// keepReserve makes sure that the reserve file exists. Its space lets commits, and appends that were accepted, become
// durable when the disk is full.
func (c *commitLog) keepReserve() error {
	if c.reserved {
		return nil
	}
	err := c.makeReserve(path.Join(c.dir, reserveName))
	c.reserved = err == nil
	return err
}

// makeReserve creates the reserve, from a spare when there is no space for a new file.
func (c *commitLog) makeReserve(name string) error {
	f, err := c.create(name)
	if err != nil {
		return err
	}
	if err = f.Allocate(c.size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return nil
	}
	if last := len(c.spares) - 1; isFull(err) && last >= 0 {
		if err = c.fs.Rename(path.Join(c.dir, c.spares[last].name), name); err == nil {
			c.spares = c.spares[:last]
			return nil
		}
	}
	return errors.Join(err, c.discard(path.Base(name)))
}

// newest returns the number of the newest file that a checkpoint with this floor keeps, or 0 when it keeps none.
func (c *commitLog) newest(floor uint64) uint64 {
	if c.open != nil {
		return c.number
	}
	if n := len(c.older); n > 0 && c.older[n-1].end > floor {
		return c.older[n-1].file
	}
	return 0
}

// dropReserve removes the reserve file and reports whether there was one.
func (c *commitLog) dropReserve() bool {
	had := c.reserved
	c.reserved = false
	return had && c.fs.Remove(path.Join(c.dir, reserveName)) == nil
}

// close writes a last mark, unless there is one, and closes the open file.
func (c *commitLog) close() error {
	if c.open == nil || c.marked == c.lsn {
		return c.release()
	}
	err := c.flush()
	if err == nil {
		err = c.sync()
	}
	if err == nil {
		err = c.mark()
	}
	return errors.Join(err, c.release())
}

// release closes the open file and gives the memory back.
func (c *commitLog) release() error {
	var err error
	if c.open != nil {
		err = errors.Join(c.open.Close(), c.direct.Close())
	}
	unmapMemory(c.mem)
	c.open, c.direct, c.mem, c.head, c.buf = nil, nil, nil, nil, nil
	return err
}

// markable reports whether a mark would be useful: everything is durable, and no chunk says so yet.
func (c *commitLog) markable() bool {
	return c.open != nil && c.synced == c.lsn && c.marked < c.lsn
}

// mark writes a chunk that says that everything so far is durable. It does not flush. After a crash, marks tell damage
// to durable data from a torn tail.
func (c *commitLog) mark() error {
	h := chunkHeader{kind: chunkMark}
	if c.open == nil || c.pos+h.size() > c.room {
		return nil
	}
	if err := c.append(h, nil); err != nil {
		return err
	}
	c.marked = c.lsn
	return c.flush()
}

// removeQuietly removes a file that may be missing.
func removeQuietly(f FS, name string) error {
	if err := f.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
