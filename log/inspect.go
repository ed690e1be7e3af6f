package log

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/rafka-mq/rafka/wire"
)

// ItemKind says what an Item describes.
type ItemKind string

// The kinds of items, in the order in which they come.
const (
	ItemCheckpoint ItemKind = "checkpoint"  // the checkpoint file
	ItemLog        ItemKind = "log"         // one log in the checkpoint
	ItemSegment    ItemKind = "segment"     // a segment file; its entries follow
	ItemCommitFile ItemKind = "commit-file" // a commit log file; its chunks follow
	ItemChunk      ItemKind = "chunk"       // a chunk; its entries follow
	ItemEntry      ItemKind = "entry"
	ItemDamage     ItemKind = "damage" // bytes that match no checksum
	ItemOther      ItemKind = "other"  // a file without entries, or one that is not Rafka's
)

// Item is one thing in a data directory. Fields that do not apply are zero.
type Item struct {
	Kind     ItemKind
	Path     string // of the file, relative to the directory
	Pos      int64  // byte position in it
	Bytes    int64  // size
	Identity wire.Identity
	Stamp    wire.Stamp // of an entry; Payload is not kept
	First    uint64     // first offset of a log, segment or chunk
	Next     uint64     // next offset
	Index    uint64     // index of the first entry
	Lsn      uint64     // of a chunk; the floor of the checkpoint
	Sealed   bool       // a segment has an intact footer
	Torn     bool       // of damage: nothing there is known to have been durable; a start cuts or ignores it
	Counted  bool       // it is valid by the checkpoint: a log's active segment up to Bytes, or the commit log from Lsn on
	State    []byte     // of a log in the checkpoint
	Err      error      // of damage
}

// Inspect iterates over everything in a data directory. It neither changes nor locks it. On the directory of a running
// store, files that are being written may look damaged. The first read error is yielded and ends the iteration, and so is
// ErrVersion for a file that a newer version wrote.
func Inspect(dir string) iter.Seq2[Item, error] { return InspectFS(OS, dir) }

// InspectFS is Inspect on another file system.
func InspectFS(f FS, dir string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		in := &inspector{fs: f, dir: dir, yield: yield, active: map[wire.Identity]logRecord{}}
		if err := in.run(); err != nil && !errors.Is(err, errStopped) {
			yield(Item{}, err)
		}
	}
}

var errStopped = errors.New("stopped")

type inspector struct {
	fs     FS
	dir    string
	yield  func(Item, error) bool
	active map[wire.Identity]logRecord // of the checkpoint
	floor  uint64
	open   uint64          // number of the commit log file that the checkpoint says must exist, or 0
	logs   []wire.Identity // seen in directories

	synced   uint64            // chunks of the commit log with a lower lsn were durable
	limits   map[uint64]uint64 // by the number of a commit log file: its chunks from this lsn on were given up
	expected uint64            // lsn of the next chunk
}

func (in *inspector) emit(it Item) error {
	if !in.yield(it, nil) {
		return errStopped
	}
	return nil
}

func (in *inspector) run() error {
	if err := in.checkpoint(); err != nil {
		return err
	}
	if err := in.partitions(); err != nil {
		return err
	}
	return in.commits()
}

func (in *inspector) checkpoint() error {
	c, damaged, err := readCheckpoint(in.fs, in.dir)
	if missing(err) {
		if fresh, err := isFresh(in.fs, in.dir); fresh || err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, errCheckpoint), errors.Is(err, ErrVersion), missing(err):
		return in.damage(checkpointName, 0, err)
	case err != nil:
		return err
	}
	if damaged {
		if err := in.damage(checkpointName, 0, errCheckpoint); err != nil {
			return err
		}
	}
	in.floor, in.open = c.floor, c.open
	if err := in.emit(Item{Kind: ItemCheckpoint, Path: checkpointName, Lsn: c.floor}); err != nil {
		return err
	}
	for _, r := range c.logs {
		in.active[r.id] = r
		it := Item{
			Kind: ItemLog, Path: path.Join(partitionsDir, logDir(r.id)), Identity: r.id,
			First: r.first, Next: r.filed.offset, Index: r.prev.index, Bytes: r.size, State: r.state.blob,
		}
		if err := in.emit(it); err != nil {
			return err
		}
	}
	return nil
}

func (in *inspector) partitions() error {
	dirs, err := in.fs.ReadDir(path.Join(in.dir, partitionsDir))
	if err != nil && !missing(err) {
		return err
	}
	absent := maps.Clone(in.active)
	for _, d := range dirs {
		name := path.Join(partitionsDir, d.Name)
		id, ok := parseLogDir(d.Name)
		if !ok || !d.Dir {
			if err := in.emit(Item{Kind: ItemOther, Path: name, Bytes: d.Size}); err != nil {
				return err
			}
			continue
		}
		in.logs = append(in.logs, id)
		delete(absent, id)
		if err := in.segments(id, name); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(absent), compareIdentity) {
		if err := in.complete(id, path.Join(partitionsDir, logDir(id)), nil); err != nil {
			return err
		}
	}
	return nil
}

// segments yields the segments in the directory of a log.
func (in *inspector) segments(id wire.Identity, name string) error {
	files, err := in.fs.ReadDir(path.Join(in.dir, name))
	if err != nil {
		return err
	}
	segments, _ := listSegments("", files)
	if err := in.complete(id, name, segments); err != nil {
		return err
	}
	for _, f := range files {
		i := slices.IndexFunc(segments, func(s *segment) bool { return s.path == f.Name })
		if i < 0 { // no segment, or one that compaction replaced
			if err := in.emit(Item{Kind: ItemOther, Path: path.Join(name, f.Name), Bytes: f.Size}); err != nil {
				return err
			}
			continue
		}
		bound := uint64(0)
		if i+1 < len(segments) {
			bound = segments[i+1].start.index
		}
		if err := in.segment(id, path.Join(name, f.Name), segments[i], bound); err != nil {
			return err
		}
	}
	return nil
}

// complete yields damage when the first or the last of a log's segments is missing. segments are those that exist, in
// order; whether one between them is missing says the footer in front.
func (in *inspector) complete(id wire.Identity, name string, segments []*segment) error {
	r, known := in.active[id]
	if !known || r.filed.index <= r.prev.index {
		return nil
	}
	has := func(index uint64) bool {
		return slices.ContainsFunc(segments, func(s *segment) bool { return s.start.index == index })
	}
	if has(r.prev.index) && has(r.active.index) {
		return nil
	}
	return in.damage(name, 0, errMissing)
}

// segment yields a segment file and its entries. bound is where the next one starts, 0 for the last one.
func (in *inspector) segment(id wire.Identity, name string, seg *segment, bound uint64) error {
	f, err := in.fs.Open(path.Join(in.dir, name), false, false)
	if missing(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size := seg.size
	it := Item{Kind: ItemSegment, Path: name, Identity: id, First: seg.start.offset, Index: seg.start.index, Bytes: size}
	w := walker{file: f, seed: id.Seed(), pos: segmentHeader, end: size, index: seg.start.index, bound: bound, zero: true}
	info, footer := readFooter(f, size)
	switch {
	case footer != nil && !tells(footer):
		return footer
	case footer == nil:
		it.Sealed, it.Next, w.end = true, info.next.offset, info.dataEnd
	}
	r, known := in.active[id]
	switch {
	case known && r.active.index == seg.start.index && r.size > 0:
		it.Counted, it.Bytes, it.Next = true, r.size, r.filed.offset
		w.end = min(r.size, size)
		if footer = nil; size < r.size {
			footer = errMissing
		}
	case known && seg.start.index >= r.prev.index && seg.start.index <= r.active.index:
		it.Counted = true
	default:
		footer = nil // not valid, so it need not be complete
	}
	if err := in.emit(it); err != nil {
		return err
	}
	if err := in.header(id, name, f, &w); err != nil {
		return err
	}
	switch {
	case errors.Is(footer, errNoFooter):
		w.bound = cmp.Or(bound, r.filed.index)
		return in.unsealed(id, name, &w)
	case footer == nil && it.Sealed && it.Counted && bound != 0 && info.next.index < bound:
		footer = errMissing // the file behind
	}
	if footer != nil {
		if err := in.damage(name, size, footer); err != nil {
			return err
		}
	}
	return in.entries(id, name, &w, it.Counted)
}

// header makes w begin behind the header of a segment.
func (in *inspector) header(id wire.Identity, name string, f File, w *walker) error {
	h, err := readSegmentHeader(f)
	switch {
	case errors.Is(err, ErrVersion):
		return in.damage(name, 0, err)
	case err != nil && !tells(err):
		return err
	case err != nil || h.id != id:
		return in.damage(name, 0, errSegmentHeader)
	}
	w.pos = h.data
	return nil
}

// unsealed yields the entries of a segment without a footer, of which w is told the bound. When all entries are there, a
// write failed behind them, and nothing is damaged.
func (in *inspector) unsealed(id wire.Identity, name string, w *walker) error {
	complete, err := w.complete()
	if err == nil && !complete {
		err = in.damage(name, w.end, errNoFooter)
	}
	if err == nil {
		err = in.entries(id, name, w, true)
	}
	if err != nil || !complete {
		return err
	}
	return in.emit(Item{Kind: ItemDamage, Path: name, Pos: w.end, Torn: true, Err: errNoFooter})
}

// damage yields damage. What a newer version wrote is not damaged, and ends the inspection.
func (in *inspector) damage(name string, pos int64, err error) error {
	if errors.Is(err, ErrVersion) {
		return fmt.Errorf("%s: %w", name, ErrVersion)
	}
	return in.emit(Item{Kind: ItemDamage, Path: name, Pos: pos, Err: err})
}

// entries yields the entries of a walk through a log.
func (in *inspector) entries(id wire.Identity, name string, w *walker, counted bool) error {
	for {
		st, ok, err := w.next()
		if err != nil || !ok {
			return err
		}
		it := Item{
			Kind: ItemEntry, Path: name, Pos: st.pos, Bytes: st.end - st.pos, Identity: id, Stamp: st.entry.Stamp,
			First: st.entry.BaseOffset, Next: st.entry.NextOffset(), Index: st.entry.Index, Counted: counted,
		}
		if st.bad {
			if !counted {
				return nil // the rest of a file that was given up
			}
			it.Kind, it.Err = ItemDamage, errEntry
		}
		if err := in.emit(it); err != nil {
			return err
		}
	}
}

// commits yields the files of the commit log.
func (in *inspector) commits() error {
	list, err := in.fs.ReadDir(path.Join(in.dir, commitDir))
	if err != nil && !missing(err) {
		return err
	}
	if err := in.survey(list); err != nil {
		return err
	}
	for _, d := range list {
		name := path.Join(commitDir, d.Name)
		if _, ok := parseCommitName(d.Name); !ok {
			if err := in.emit(Item{Kind: ItemOther, Path: name, Bytes: d.Size}); err != nil {
				return err
			}
			continue
		}
		if err := in.commitFile(name, strings.TrimSuffix(d.Name, commitExt)); err != nil {
			return err
		}
	}
	return nil
}

// survey reads what the files of the commit log say about each other: which chunks were durable, and which were given up.
func (in *inspector) survey(list []DirEntry) error {
	in.synced, in.expected, in.limits = max(in.floor, 1), max(in.floor, 1), map[uint64]uint64{}
	var files []replayFile
	for _, d := range list { // their names have the order of their numbers
		n, ok := parseCommitName(d.Name)
		if !ok {
			continue
		}
		b, _, err := readCommitFile(in.fs, path.Join(in.dir, commitDir, d.Name), n)
		if missing(err) {
			continue // recycled meanwhile
		}
		if err != nil {
			return err
		}
		file := replayFile{name: d.Name}
		if ok, _ := file.header.parse(b); !ok {
			_, _ = file.header.parse(b[min(commitHeaderCopy, len(b)):]) // else its fields are zero
		}
		file.header.file = cmp.Or(file.header.file, n)
		files = append(files, file)
		chunks(b, n, func(it chunkItem) bool {
			in.synced = max(in.synced, it.header.synced)
			return true
		})
	}
	in.synced = max(in.synced, limitFiles(files))
	if misses(files, in.open) {
		if err := in.damage(commitDir, 0, errMissing); err != nil {
			return err
		}
	}
	for i := range files {
		n, _ := parseCommitName(files[i].name)
		in.limits[n] = files[i].limit
	}
	return nil
}

// commitDamage yields damage of a chunk with an lsn: a torn tail where nothing is known to have been durable.
func (in *inspector) commitDamage(name string, pos int, lsn, file uint64, err error) error {
	it := Item{Kind: ItemDamage, Path: name, Pos: int64(pos), Err: err}
	if limit, known := in.limits[file]; lsn >= in.synced || known && lsn >= limit {
		it.Torn, it.Err = true, errTorn
	}
	return in.emit(it)
}

func (in *inspector) commitFile(name, number string) error {
	var h commitHeader
	h.file, _ = parseCommitName(number + commitExt)
	b, short, err := readCommitFile(in.fs, path.Join(in.dir, name), h.file)
	if missing(err) {
		return nil // recycled meanwhile
	}
	if err != nil {
		return err
	}
	if err := in.emit(Item{Kind: ItemCommitFile, Path: name, Bytes: int64(len(b))}); err != nil {
		return err
	}
	ok, err := h.parse(b)
	if !ok {
		if err := in.damage(name, 0, errors.Join(errChunk, err)); err != nil {
			return err
		}
		_, _ = h.parse(b[min(commitHeaderCopy, len(b)):]) // from its copy; else only the number in the name is known
	} else if short {
		if err := in.damage(name, int64(len(b)), errShort); err != nil {
			return err
		}
	}
	if commitName(h.file) != number {
		if err := in.damage(name, 0, errName); err != nil {
			return err
		}
	}
	known := in.floor > 0 || in.expected > 1 // without a checkpoint the first file may be any
	if known && h.first > in.expected && h.abandon > in.expected {
		if err := in.damage(name, 0, errMissing); err != nil { // the end of the file before, or a whole file
			return err
		}
	}
	in.expected = max(in.expected, h.first)
	chunks(b, h.file, func(it chunkItem) bool {
		err = in.chunk(name, h.file, &it)
		return err == nil
	})
	return err
}

// readCommitFile reads the part of a commit log file that a restart reads, and reports whether the end of the file was
// cut off.
func readCommitFile(f FS, name string, number uint64) (b []byte, short bool, err error) {
	b, err = readReaching(f, name, func(file File, size int64) (reach int64, err error) {
		reach, short, err = readReach(file, number, size)
		return reach, err
	})
	return b, short, err
}

// chunk yields a chunk and its entries.
func (in *inspector) chunk(name string, file uint64, c *chunkItem) error {
	if c.damage {
		return in.commitDamage(name, c.pos, in.expected, file, errChunk)
	}
	h := &c.header
	in.expected = max(in.expected, h.lsn+1)
	counted := h.lsn >= in.floor
	err := in.emit(Item{
		Kind: ItemChunk, Path: name, Pos: int64(c.pos), Bytes: h.size(), Identity: h.id, Lsn: h.lsn,
		First: h.first.offset, Next: h.next.offset, Index: h.first.index, Counted: counted,
	})
	if err != nil {
		return err
	}
	for pos := 0; pos < len(c.payload); {
		at := c.pos + headerBytes + pos
		e, _, err := wire.ParseEntry(c.payload[pos:], h.id.Seed())
		if err != nil {
			if err := in.commitDamage(name, at, h.lsn, file, errEntry); err != nil {
				return err
			}
			pos = resyncEntry(c.payload, pos, h.id.Seed(), 0)
			continue
		}
		err = in.emit(Item{
			Kind: ItemEntry, Path: name, Pos: int64(at), Bytes: int64(e.Size()), Identity: h.id, Stamp: e.Stamp,
			First: e.BaseOffset, Next: e.NextOffset(), Index: e.Index, Counted: counted,
		})
		if err != nil {
			return err
		}
		pos += e.Size()
	}
	return nil
}
