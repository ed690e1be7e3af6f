// Package faultfs is a simulated disk for tests: a log.FS in memory that loses power, runs full,
// tears writes and fails on demand.
//
// A Disk keeps what a real one keeps: bytes that were synced, and names whose directory was synced. Bytes
// whose sync failed are read as if they were there until the power fails, and no later sync is about them:
// the page cache holds them as if they were written. If they were never on the device before, not even
// writing them again helps, unless that goes past the page cache or the file was cut in between. That is
// ext4: it writes to reserved blocks, does not note that they have content now, and believes it has.
// PowerCut returns the disk as it could be after a power failure: every byte that was not synced may
// be old or new, and of the names that were not synced those before a random moment are as they were
// changed, or any of them. What is in a directory whose own name was not synced is gone. The rest of a
// Disk's life is deterministic: the same calls with the same seed do the same.
// Jitter makes the order of concurrent calls a matter of chance.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/rafka-mq/rafka/log"
)

// ErrInjected is the cause of every failure that Fail asked for.
var ErrInjected = errors.New("faultfs: injected failure")

// Op is a kind of operation that can fail.
type Op string

// The operations.
const (
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpWriteOut Op = "writeout"
	OpStartOut Op = "startout"
	OpSyncDir  Op = "syncdir"
	OpAllocate Op = "allocate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpOpen     Op = "open" // for writing, or for reading with FailReads
	OpRead     Op = "read"
)

// pageBytes is the unit in which unsynced bytes survive a power cut or not.
const pageBytes = 512

// node is a file's content.
type node struct {
	now    []byte         // what reads see
	synced []byte         // what is on the device for sure
	dirty  map[int64]bool // pages that were written since the last sync
	lost   map[int64]bool // pages whose last sync failed
	there  map[int64]bool // pages that a sync has covered
	stuck  map[int64]bool // pages whose first sync failed
	space  int64          // bytes reserved
}

// newNode returns a file with a content that is not on the device.
func newNode(b []byte) *node {
	return &node{now: b, space: int64(len(b)), lost: map[int64]bool{}, there: map[int64]bool{}, stuck: map[int64]bool{}}
}

// settle makes the content durable.
func (n *node) settle() {
	n.synced, n.dirty = slices.Clone(n.now), nil
	clear(n.lost)
	clear(n.stuck)
	for p := int64(0); p*pageBytes < int64(len(n.now)); p++ {
		n.there[p] = true
	}
}

// rename is a change of names that is not durable yet: a creation has no old name, a removal no new one.
type rename struct {
	from, to string
	node     *node
}

// in reports whether the change is one of directory dir.
func (r *rename) in(dir string) bool {
	return r.from != "" && within(r.from, dir) || r.to != "" && within(r.to, dir)
}

func (r *rename) apply(names map[string]*node) {
	delete(names, r.from)
	if r.to != "" {
		names[r.to] = r.node
	}
}

// Disk is a simulated disk. All methods are safe for concurrent use.
type Disk struct {
	mu       sync.Mutex // guards the rest
	files    map[string]*node
	dirs     map[string]bool
	durable  map[string]*node // names after the last SyncDir of their directory
	durDirs  map[string]bool
	renames  []rename // since the last SyncDir of their directory
	locked   map[string]bool
	capacity int64 // bytes; 0 is unlimited
	calls    int   // operations that change something
	crashAt  int   // the call at which power fails; 0 is never
	dead     bool
	fail     func(op Op, name string) error
	failRead func(op Op, name string) error
	short    bool

	pauses pauses
}

// New returns an empty disk with the directory "/".
func New() *Disk {
	return &Disk{
		files: map[string]*node{}, dirs: map[string]bool{"/": true}, locked: map[string]bool{},
		durable: map[string]*node{}, durDirs: map[string]bool{"/": true},
	}
}

// Fail makes f decide about every operation: an error makes it fail. nil ends that. f must not use
// the disk.
func (d *Disk) Fail(f func(op Op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// FailReads is Fail for what changes nothing: OpRead, and OpOpen of files that are only read.
func (d *Disk) FailReads(f func(op Op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failRead = f
}

// readLocked decides whether an operation that changes nothing fails.
func (d *Disk) readLocked(op Op, name string) error {
	if d.failRead != nil {
		if err := d.failRead(op, name); err != nil {
			return &fs.PathError{Op: string(op), Path: name, Err: err}
		}
	}
	return nil
}

// ShortWrites makes every second write of more than one byte stop half way without an error.
func (d *Disk) ShortWrites(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.short = on
}

// SetCapacity limits the bytes of all files; 0 is unlimited. More than is free now fails with ENOSPC.
func (d *Disk) SetCapacity(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = n
}

// Used returns the bytes that all files take.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usedLocked()
}

func (d *Disk) usedLocked() int64 {
	n := int64(0)
	for _, f := range d.files {
		n += f.space
	}
	return n
}

// CrashAt makes the power fail at the n-th changing operation from now on: it and all later ones
// fail, and only PowerCut is of use. Calls returns how many there were so far.
func (d *Disk) CrashAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashAt = d.calls + n
}

// Dead reports whether CrashAt has made the power fail.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Calls returns the number of changing operations so far.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// beginLocked counts an operation and decides whether it fails.
func (d *Disk) beginLocked(op Op, name string) error {
	d.calls++
	if d.crashAt != 0 && d.calls >= d.crashAt {
		d.dead = true
	}
	if d.dead {
		return &fs.PathError{Op: string(op), Path: name, Err: ErrInjected}
	}
	if d.fail != nil {
		if err := d.fail(op, name); err != nil {
			return &fs.PathError{Op: string(op), Path: name, Err: err}
		}
	}
	return nil
}

// Clone returns the disk as it is, with nothing locked: what the next process sees after a kill. What was
// not synced is still not.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := New()
	clones := map[*node]*node{nil: nil}
	clone := func(n *node) *node {
		if _, ok := clones[n]; !ok {
			clones[n] = n.clone()
		}
		return clones[n]
	}
	for name, n := range d.files {
		c.files[name] = clone(n)
	}
	for name, n := range d.durable {
		c.durable[name] = clone(n)
	}
	for _, r := range d.renames {
		c.renames = append(c.renames, rename{r.from, r.to, clone(r.node)})
	}
	c.dirs, c.durDirs = maps.Clone(d.dirs), maps.Clone(d.durDirs)
	c.pauses.inherit(&d.pauses)
	return c
}

func (n *node) clone() *node {
	return &node{
		now: slices.Clone(n.now), synced: slices.Clone(n.synced), dirty: maps.Clone(n.dirty), lost: maps.Clone(n.lost),
		there: maps.Clone(n.there), stuck: maps.Clone(n.stuck), space: n.space,
	}
}

// settle makes everything durable.
func (d *Disk) settle() {
	for name, n := range d.files {
		n.settle()
		d.durable[name] = n
	}
	for name := range d.dirs {
		d.durDirs[name] = true
	}
}

// PowerCut returns a disk as it could be after the power failed now. Each page that was not synced
// is the old or the new one, and a page under way may be torn, as rng says. Creations, renames and
// removals that were not synced count up to one of them, as a journal that was cut off has them, or any of
// them does, as without a journal.
func (d *Disk) PowerCut(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := New()
	for name := range d.durDirs {
		c.dirs[name] = true
	}
	kept := maps.Clone(d.durable)
	journal, end := rng.IntN(2) == 0, rng.IntN(len(d.renames)+1)
	for i, r := range d.renames {
		if journal && i < end || !journal && rng.IntN(2) == 0 {
			r.apply(kept)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		if c.reaches(path.Dir(name)) {
			c.files[name] = kept[name].afterCut(rng)
		}
	}
	c.settle()
	c.pauses.inherit(&d.pauses)
	return c
}

// reaches reports whether dir and all directories above it exist.
func (d *Disk) reaches(dir string) bool {
	return d.dirs[dir] && (dir == "/" || d.reaches(path.Dir(dir)))
}

func (n *node) afterCut(rng *rand.Rand) *node {
	out := slices.Clone(n.synced)
	pages := slices.Sorted(maps.Keys(n.dirty))
	pages = append(pages, slices.Sorted(maps.Keys(n.lost))...)
	for _, p := range pages {
		from := p * pageBytes
		to := min(from+pageBytes, int64(len(n.now)))
		if rng.IntN(2) == 0 || from >= to {
			continue
		}
		if rng.IntN(8) == 0 {
			to = from + rng.Int64N(to-from) // torn
		}
		if int64(len(out)) < to {
			out = append(out, make([]byte, to-int64(len(out)))...)
		}
		copy(out[from:to], n.now[from:to])
	}
	after := newNode(out)
	after.space = max(after.space, n.space)
	return after
}

// Names returns the names of all files, in order.
func (d *Disk) Names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Bytes returns a copy of a file.
func (d *Disk) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.files[name]; n != nil {
		return slices.Clone(n.now)
	}
	return nil
}

// SetBytes replaces a file, durably.
func (d *Disk) SetBytes(name string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := newNode(slices.Clone(b))
	n.settle()
	d.files[name], d.durable[name] = n, n
}

// Delete removes a file, durably.
func (d *Disk) Delete(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	delete(d.durable, name)
}

// Open implements log.FS.
func (d *Disk) Open(name string, write, create bool) (log.File, error) {
	defer d.pauses.around()()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.files[name]
	if n == nil && (!create || !d.dirs[path.Dir(name)]) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	begin := d.readLocked
	if write {
		begin = d.beginLocked
	}
	if err := begin(OpOpen, name); err != nil {
		return nil, err
	}
	if n == nil {
		n = newNode(nil)
		d.renameLocked("", name, n)
	}
	return &file{disk: d, node: n, name: name, writable: write}, nil
}

// OpenDirect implements log.FS. Writes that break its rules panic.
func (d *Disk) OpenDirect(name string) (log.File, error) {
	f, err := d.Open(name, true, false)
	if err != nil {
		return nil, err
	}
	return directFile{f.(*file)}, nil
}

func (d *Disk) renameLocked(from, to string, n *node) {
	r := rename{from, to, n}
	r.apply(d.files)
	d.renames = append(d.renames, r)
}

// Rename implements log.FS.
func (d *Disk) Rename(oldName, newName string) error {
	defer d.pauses.around()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.beginLocked(OpRename, newName); err != nil {
		return err
	}
	n := d.files[oldName]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	d.renameLocked(oldName, newName, n)
	return nil
}

// Remove implements log.FS.
func (d *Disk) Remove(name string) error {
	defer d.pauses.around()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.beginLocked(OpRemove, name); err != nil {
		return err
	}
	if d.files[name] == nil && !d.dirs[name] {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if d.files[name] != nil {
		d.renameLocked(name, "", nil)
	}
	delete(d.dirs, name)
	return nil
}

// MakeDir implements log.FS.
func (d *Disk) MakeDir(name string) error {
	defer d.pauses.around()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs[name] {
		return nil
	}
	if !d.dirs[path.Dir(name)] {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrNotExist}
	}
	if err := d.beginLocked(OpOpen, name); err != nil {
		return err
	}
	d.dirs[name] = true
	return nil
}

// ReadDir implements log.FS.
func (d *Disk) ReadDir(name string) ([]log.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirs[name] {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var list []log.DirEntry
	for file, n := range d.files {
		if within(file, name) {
			list = append(list, log.DirEntry{Name: path.Base(file), Size: int64(len(n.now))})
		}
	}
	for dir := range d.dirs {
		if within(dir, name) {
			list = append(list, log.DirEntry{Name: path.Base(dir), Dir: true})
		}
	}
	slices.SortFunc(list, func(a, b log.DirEntry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// within reports whether name is directly in dir.
func within(name, dir string) bool {
	if dir != "/" {
		if !strings.HasPrefix(name, dir) {
			return false
		}
		name = name[len(dir):]
	}
	return len(name) > 1 && name[0] == '/' && strings.IndexByte(name[1:], '/') < 0
}

// SyncDir implements log.FS.
func (d *Disk) SyncDir(name string) error {
	defer d.pauses.around()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.beginLocked(OpSyncDir, name); err != nil {
		return err
	}
	d.renames = slices.DeleteFunc(d.renames, func(r rename) bool { return r.in(name) })
	for file := range d.durable {
		if within(file, name) {
			delete(d.durable, file)
		}
	}
	for file, n := range d.files {
		if within(file, name) {
			d.durable[file] = n
		}
	}
	for dir := range d.durDirs {
		if within(dir, name) && !d.dirs[dir] {
			delete(d.durDirs, dir)
		}
	}
	for dir := range d.dirs {
		if within(dir, name) {
			d.durDirs[dir] = true
		}
	}
	return nil
}

// Space implements log.FS.
func (d *Disk) Space(string) (total, free int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	total = d.capacity
	if total == 0 {
		total = 1 << 50
	}
	return total, max(0, total-d.usedLocked()), nil
}

// Lock implements log.FS.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked[name] {
		return nil, log.ErrLocked
	}
	d.locked[name] = true
	return closer(func() { delete(d.locked, name) }).with(d), nil
}

type lock struct {
	disk    *Disk
	release func()
}

type closer func()

func (c closer) with(d *Disk) io.Closer { return &lock{disk: d, release: c} }

// Close releases the lock.
func (l *lock) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.release()
	return nil
}

// file is an open file.
type file struct {
	disk     *Disk
	node     *node
	name     string
	writable bool
}

func (f *file) ReadAt(b []byte, pos int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.readLocked(OpRead, f.name); err != nil {
		return 0, err
	}
	if pos >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.now[pos:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, pos int64) (int, error) {
	defer f.disk.pauses.around()()
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if !f.writable {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrPermission}
	}
	if err := d.beginLocked(OpWrite, f.name); err != nil {
		if d.dead && len(b) > 1 {
			f.write(b[:len(b)/2], pos) // the write under way gets half way
		}
		return 0, err
	}
	if d.short && d.calls%2 == 0 && len(b) > 1 {
		b = b[:len(b)/2]
	}
	if err := f.reserve(pos + int64(len(b))); err != nil {
		return 0, err
	}
	f.write(b, pos)
	return len(b), nil
}

// directBytes is what positions and lengths of direct writes are multiples of.
const directBytes = 4 << 10

type directFile struct{ *file }

func (f directFile) WriteAt(b []byte, pos int64) (int, error) {
	if pos%directBytes != 0 || len(b)%directBytes != 0 {
		panic(fmt.Sprintf("faultfs: direct write of %d bytes at %d of %s", len(b), pos, f.name))
	}
	n, err := f.file.WriteAt(b, pos)
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	for p := pos / pageBytes; p*pageBytes < pos+int64(n); p++ {
		delete(f.node.stuck, p)
	}
	return n, err
}

func (f *file) reserve(n int64) error {
	more := n - f.node.space
	if more <= 0 {
		return nil
	}
	if d := f.disk; d.capacity != 0 && d.usedLocked()+more > d.capacity {
		return &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	f.node.space = n
	return nil
}

func (f *file) write(b []byte, pos int64) {
	n := f.node
	end := pos + int64(len(b))
	if int64(len(n.now)) < end {
		n.now = append(n.now, make([]byte, end-int64(len(n.now)))...)
	}
	copy(n.now[pos:], b)
	n.touch(pos, end)
}

func (n *node) touch(from, to int64) {
	if n.dirty == nil {
		n.dirty = map[int64]bool{}
	}
	for p := from / pageBytes; p*pageBytes < to; p++ {
		n.dirty[p] = true
		delete(n.lost, p)
	}
}

func (f *file) Sync() error {
	defer f.disk.pauses.around()()
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n := f.node
	if err := f.disk.beginLocked(OpSync, f.name); err != nil {
		n.lose()
		return err
	}
	if len(n.synced) > len(n.now) {
		n.synced = n.synced[:len(n.now)]
	}
	n.synced = append(n.synced, make([]byte, len(n.now)-len(n.synced))...)
	for p := range n.dirty {
		from, to := p*pageBytes, min((p+1)*pageBytes, int64(len(n.now)))
		if from >= to {
			continue
		}
		if n.stuck[p] {
			n.lost[p] = true
			continue
		}
		copy(n.synced[from:to], n.now[from:to])
		n.there[p] = true
	}
	n.dirty = nil
	return nil
}

// WriteOut makes nothing durable. It fails as Sync does.
func (f *file) WriteOut(_, _ int64) error {
	defer f.disk.pauses.around()()
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.beginLocked(OpWriteOut, f.name)
	if err != nil {
		f.node.lose()
	}
	return err
}

// StartOut makes nothing durable. It fails as Sync does.
func (f *file) StartOut() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.beginLocked(OpStartOut, f.name)
	if err != nil {
		f.node.lose()
	}
	return err
}

// lose takes the dirty pages for written.
func (n *node) lose() {
	maps.Copy(n.lost, n.dirty)
	for p := range n.dirty {
		if !n.there[p] {
			n.stuck[p] = true
		}
	}
	n.dirty = nil
}

func (f *file) Allocate(size int64) error {
	defer f.disk.pauses.around()()
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.beginLocked(OpAllocate, f.name); err != nil {
		return err
	}
	if err := f.reserve(size); err != nil {
		return err
	}
	if n := f.node; int64(len(n.now)) < size {
		n.now = append(n.now, make([]byte, size-int64(len(n.now)))...)
	}
	return nil
}

func (f *file) Truncate(size int64) error {
	defer f.disk.pauses.around()()
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.beginLocked(OpWrite, f.name); err != nil {
		return err
	}
	n := f.node
	if int64(len(n.now)) > size {
		n.touch(size, int64(len(n.now)))
		n.now = n.now[:size:size]
		n.space = size
		n.cut(size)
	} else {
		n.now = append(n.now, make([]byte, size-int64(len(n.now)))...)
	}
	return nil
}

// cut forgets which pages behind size are on the device, and which cannot get there.
func (n *node) cut(size int64) {
	behind := func(p int64, _ bool) bool { return p*pageBytes >= size }
	maps.DeleteFunc(n.there, behind)
	maps.DeleteFunc(n.stuck, behind)
}

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.node.now)), nil
}

func (f *file) Close() error { return nil }
