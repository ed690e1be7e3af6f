package log

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
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

	// stagingBytes is how much is collected for one write. Larger runs are written from their slab.
	stagingBytes = 1 << 20
	directBytes  = 256 << 10
)

// isFull reports whether an error says that the disk is full, which is not a failure of the disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// commitFile is a commit log file that is no longer written.
type commitFile struct {
	name string
	file uint64
	end  uint64 // lsn behind its last chunk
	size int64
}

// commitLog writes the commit log. It is not safe for concurrent use: Store.round guards it.
type commitLog struct {
	fs       FS
	dir      string
	size     int64 // of a normal file
	nowMs    func() int64
	next     uint64 // number of the next file
	lsn      uint64 // of the next chunk
	synced   uint64 // chunks below are on the device
	marked   uint64 // lsn behind the last mark
	abandon  uint64 // what the next file's header says
	older    []commitFile
	spares   []spare
	maximum  int           // of spares
	bytes    int64         // written since the last checkpoint covered everything
	reserved bool          // the reserve file exists
	spent    chan struct{} // rung when a spare may be missing

	bulk   bool  // the file before was written in rounds so large that blocks need not be filled
	syncs  int64 // of the open file
	open   File  // nil when the next chunk starts a file
	name   string
	number uint64
	room   int64 // size of the open file
	pos    int64 // where the next chunk goes
	buf    []byte
	bufPos int64 // position of buf[0] in the file
}

func newCommitLog(o *Options) *commitLog {
	return &commitLog{
		fs: o.FS, dir: path.Join(o.Dir, commitDir), size: o.CommitFileBytes,
		maximum: int(o.CommitLogBytes/o.CommitFileBytes) + 1,
		nowMs:   func() int64 { return o.Now().UnixMilli() },
		next:    1, lsn: 1, synced: 1, abandon: 1, spent: make(chan struct{}, 1),
	}
}

func commitName(n uint64) string { return fmt.Sprintf("%016x", n) }

// parseCommitName returns the number of a commit log file.
func parseCommitName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, commitExt)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && len(hex) == 16
}

// append adds a chunk of entries. The header's length, lsn and synced are set here. The bytes are
// in the file after flush.
func (c *commitLog) append(h chunkHeader, payload []byte) error {
	h.length, h.lsn, h.synced = uint32(len(payload)), c.lsn, c.synced
	if err := c.makeRoom(h.size()); err != nil {
		return err
	}
	c.stage(h.append(c.buf, c.number))
	if len(payload) > directBytes {
		if err := c.writeStaged(); err != nil {
			return err
		}
		if err := writeFull(c.open, payload, c.bufPos); err != nil {
			return err
		}
		c.bufPos += int64(len(payload))
	} else {
		c.stage(append(c.buf, payload...))
	}
	var zeros [chunkAlign]byte
	c.stage(append(c.buf, zeros[:align(len(payload))-len(payload)]...))
	h.tail = true
	c.stage(h.append(c.buf, c.number))
	c.pos += h.size()
	c.bytes += h.size()
	c.lsn++
	if len(c.buf) >= stagingBytes {
		return c.writeStaged()
	}
	return nil
}

func (c *commitLog) stage(b []byte) { c.buf = b }

// writeStaged writes what was collected.
func (c *commitLog) writeStaged() error {
	if len(c.buf) == 0 {
		return nil
	}
	err := writeFull(c.open, c.buf, c.bufPos)
	c.bufPos += int64(len(c.buf))
	c.buf = c.buf[:0]
	return err
}

// pageBytes is the size of a page of the page cache.
const pageBytes = 4 << 10

// pageEnd returns the first start of a page at or behind pos.
func pageEnd(pos int64) int64 { return (pos + pageBytes - 1) &^ (pageBytes - 1) }

// flush writes what was collected with an end mark behind it, up to the end of a page: the kernel
// would have to read the rest of a page of a recycled file that it does not remember.
func (c *commitLog) flush() error {
	if c.open == nil {
		return nil
	}
	if n := min(pageEnd(c.pos+endBytes), c.room) - c.pos; n > 0 {
		var zeros [endBytes + pageBytes]byte
		c.buf = append(c.buf, zeros[:n]...)
	}
	err := c.writeStaged()
	c.bufPos = c.pos
	if cap(c.buf) > 2*stagingBytes {
		c.buf = nil
	}
	return err
}

// sync makes every chunk durable. After an error the file must be given up.
func (c *commitLog) sync() error {
	if c.open == nil || c.synced == c.lsn {
		return nil
	}
	if err := c.open.Sync(); err != nil {
		return err
	}
	c.syncs++
	c.synced = c.lsn
	return nil
}

// makeRoom opens the next file when n bytes do not fit in the open one. Everything in the old file
// is durable then, so at any time only the open file has chunks that are not.
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
		c.seal()
	}
	return c.start(n)
}

// seal stops writing to the open file.
func (c *commitLog) seal() {
	if c.open == nil {
		return
	}
	// What was written is synced, or given up: an error of Close adds nothing.
	_ = c.open.Close()
	c.older = append(c.older, commitFile{name: c.name, file: c.number, end: c.lsn, size: c.room})
	c.bulk = c.pos >= c.syncs*bulkBytes
	c.open, c.buf = nil, c.buf[:0]
}

// giveUp stops writing to the open file after a failure. What was not durable in it does not count;
// the caller writes it again to the next file.
func (c *commitLog) giveUp() {
	if c.open == nil {
		return // the next file could not be made: what it has to say about the last one stays
	}
	c.abandon = c.synced
	c.seal()
	c.synced = c.lsn
}

// start creates the next file with room for a chunk of n bytes: from a spare, from fresh space, or
// on a full disk from the reserve.
func (c *commitLog) start(n int64) error {
	h := commitHeader{file: c.next, first: c.lsn, abandon: c.abandon, created: c.nowMs()}
	from, room := c.source(commitDataPos + n)
	f, err := c.prepare(from, room, &h)
	if isFull(err) && c.reserved && commitDataPos+n <= c.size {
		room = c.size
		from = path.Join(c.dir, reserveName)
		c.reserved = false
		f, err = c.prepare(from, room, &h)
	}
	if err != nil {
		return err
	}
	c.next++
	c.name = commitName(h.file) + commitExt
	err = errors.Join(c.fs.Rename(from, path.Join(c.dir, c.name)), c.fs.SyncDir(c.dir))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.open, c.number, c.room, c.pos, c.bufPos = f, h.file, room, commitDataPos, commitDataPos
	c.syncs = 0
	ring(c.spent)
	return nil
}

// prepare opens a file with the wanted size and header; an end mark covers the first chunk.
func (c *commitLog) prepare(name string, room int64, h *commitHeader) (File, error) {
	f, err := c.fs.Open(name, true, true)
	if err != nil {
		return nil, err
	}
	block := make([]byte, commitDataPos+endBytes)
	h.append(block[:0])
	h.append(block[commitHeaderCopy:commitHeaderCopy])
	if err = f.Allocate(room); err == nil {
		if path.Ext(name) == tempExt && !c.bulk {
			err = fill(f, 0, room)
		}
		if err == nil {
			err = writeFull(f, block, 0)
		}
		if err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		err = errors.Join(err, f.Close())
		if path.Ext(name) == tempExt {
			err = errors.Join(err, c.fs.Remove(name))
		}
		return nil, err
	}
	return f, nil
}

// recycle turns files without a chunk from floor on into spares, and removes those that are too
// many or of another size. The file numbered keep stays: the checkpoint says that it exists.
func (c *commitLog) recycle(floor, keep uint64) error {
	var errs []error
	var spares []spare
	kept := c.older[:0]
	for _, f := range c.older {
		if f.end > floor || f.file == keep {
			kept = append(kept, f)
			continue
		}
		name, err := c.retire(f, c.maximum-len(c.spares)-len(spares))
		if name != "" {
			spares = append(spares, spare{name: name, filled: c.size})
		}
		errs = append(errs, err)
	}
	if len(kept) < len(c.older) {
		// A spare is written to only when it cannot come back under its old name.
		err := c.fs.SyncDir(c.dir)
		if err == nil {
			c.spares = append(c.spares, spares...)
		}
		errs = append(errs, err)
	}
	clear(c.older[len(kept):])
	c.older = kept
	return errors.Join(errs...)
}

// retire makes a file a spare and returns its new name, or removes it when there is no want of more.
func (c *commitLog) retire(f commitFile, want int) (name string, err error) {
	old := path.Join(c.dir, f.name)
	if f.size != c.size || want <= 0 {
		return "", c.fs.Remove(old)
	}
	name = commitName(f.file) + spareExt
	if err := c.fs.Rename(old, path.Join(c.dir, name)); err != nil {
		return "", err
	}
	return name, nil
}

// keepReserve makes sure that the reserve file exists. It is what lets commits and the appends under
// way go on when the disk is full.
func (c *commitLog) keepReserve() error {
	if c.reserved {
		return nil
	}
	name := path.Join(c.dir, reserveName)
	f, err := c.fs.Open(name, true, true)
	if err != nil {
		return err
	}
	if err = f.Allocate(c.size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, c.fs.Remove(name))
	}
	c.reserved = true
	return nil
}

// newest returns the number of the newest file that a checkpoint with this floor leaves; 0 is none.
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

// close writes a last mark and closes the open file.
func (c *commitLog) close() error {
	if c.open == nil {
		return nil
	}
	err := c.flush()
	if err == nil {
		err = c.sync()
	}
	if err == nil {
		err = c.mark()
	}
	return errors.Join(err, c.open.Close())
}

// markable reports whether a mark would tell something new: everything is durable, and no chunk in
// the file says so.
func (c *commitLog) markable() bool {
	return c.open != nil && c.synced == c.lsn && c.marked < c.lsn
}

// mark records that everything so far is durable, without an fsync of its own. It is what tells
// damage to old data from a torn tail.
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
