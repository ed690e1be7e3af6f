package servertest

import (
	"sync"
	"time"

	"github.com/rafka-mq/rafka/log"
)

// Disk is the operating system's file system with faults that a test turns on and off. Set its FS as
// server.Options.FS. The zero value has no faults. It is safe for concurrent use.
type Disk struct {
	mu    sync.Mutex // guards the rest
	delay time.Duration
	sync  error
	write error
}

// Slow makes every flush to the device take delay longer; 0 ends that.
func (d *Disk) Slow(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// FailSyncs makes every flush fail with err; nil ends that. After a failed flush the broker refuses writes
// until it is restarted.
func (d *Disk) FailSyncs(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sync = err
}

// FailWrites makes every write fail with err and write nothing; nil ends that. From syscall.ENOSPC, a full
// disk, the broker recovers by itself.
func (d *Disk) FailWrites(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write = err
}

func (d *Disk) faults() (delay time.Duration, sync, write error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.delay, d.sync, d.write
}

// FS returns the file system for server.Options.FS.
func (d *Disk) FS() log.FS { return diskFS{log.OS, d} }

type diskFS struct {
	log.FS
	disk *Disk
}

// Open opens a file with the disk's faults.
func (f diskFS) Open(name string, write, create bool) (log.File, error) {
	file, err := f.FS.Open(name, write, create)
	if err != nil {
		return nil, err
	}
	return diskFile{file, f.disk}, nil
}

// OpenDirect opens a file past the page cache with the disk's faults.
func (f diskFS) OpenDirect(name string) (log.File, error) {
	file, err := f.FS.OpenDirect(name)
	if err != nil {
		return nil, err
	}
	return diskFile{file, f.disk}, nil
}

type diskFile struct {
	log.File
	disk *Disk
}

// Sync flushes the file, late or not at all.
func (f diskFile) Sync() error {
	delay, err, _ := f.disk.faults()
	time.Sleep(delay)
	if err != nil {
		return err
	}
	return f.File.Sync()
}

// WriteOut waits for the device, late or not at all.
func (f diskFile) WriteOut(pos, n int64) error {
	delay, err, _ := f.disk.faults()
	time.Sleep(delay)
	if err != nil {
		return err
	}
	return f.File.WriteOut(pos, n)
}

// WriteAt writes, or fails and writes nothing.
func (f diskFile) WriteAt(b []byte, at int64) (int, error) {
	if _, _, err := f.disk.faults(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, at)
}

// Allocate reserves space, or fails as a write does.
func (f diskFile) Allocate(n int64) error {
	if _, _, err := f.disk.faults(); err != nil {
		return err
	}
	return f.File.Allocate(n)
}
