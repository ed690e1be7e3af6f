package log

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// FS is the file system of a store. Tests replace it by a simulated disk. Names are slash-separated paths
// that begin with Options.Dir. Errors wrap fs.ErrNotExist and syscall.ENOSPC as those of package os do.
type FS interface {
	// Open opens a file for reading and, with write, for writing. With create it creates a missing file.
	Open(name string, write, create bool) (File, error)
	// OpenDirect opens a file for writes that wait for the device and bypass the page cache, if the system
	// can do that. Positions, lengths and memory addresses of its writes must be multiples of 4 KiB. Sync
	// of any File of that name covers them.
	OpenDirect(name string) (File, error)
	// Rename replaces newName by oldName. It is durable after SyncDir.
	Rename(oldName, newName string) error
	// Remove unlinks a file or an empty directory.
	Remove(name string) error
	// MakeDir creates one directory. An existing one is not an error.
	MakeDir(name string) error
	// ReadDir lists a directory in name order.
	ReadDir(name string) ([]DirEntry, error)
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(name string) error
	// Space returns the total and the free bytes of the file system that holds a file or directory.
	Space(name string) (total, free int64, err error)
	// Lock locks a file exclusively, after creating it if necessary, or returns ErrLocked.
	Lock(name string) (io.Closer, error)
}

// DirEntry is one name in a directory.
type DirEntry struct {
	Name string
	Dir  bool
	Size int64
}

// File is an open file. Reads and writes are positional and safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes all written bytes durable, with the size that is needed to read them.
	Sync() error
	// WriteOut sends n bytes that were written at pos to the device, and waits until it has them. That
	// does not make them durable, which takes a Sync. After an error the file must be given up, as after an
	// error of Sync.
	WriteOut(pos, n int64) error
	// StartOut begins to send what was written to the device and does not wait for it, so that the next Sync
	// waits for less. An error is one of Sync.
	StartOut() error
	// Allocate reserves the space of the first n bytes and makes the file at least that large. Bytes that
	// were not written read as zeros.
	Allocate(n int64) error
	// Truncate sets the size.
	Truncate(n int64) error
	// Size returns the size.
	Size() (int64, error)
	Close() error
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Open(name string, write, create bool) (File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	if create {
		flag |= os.O_CREATE
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) OpenDirect(name string) (File, error) { return openDirect(name) }

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) MakeDir(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (osFS) ReadDir(name string) ([]DirEntry, error) {
	list, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	entries := make([]DirEntry, 0, len(list))
	for _, d := range list {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, DirEntry{Name: d.Name(), Dir: d.IsDir(), Size: info.Size()})
	}
	return entries, nil
}

// dirPatience is how long SyncDir waits for a free file descriptor. When it fails behind a rename, nobody knows which
// name is durable.
const dirPatience = 2 * time.Second

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	for begin := time.Now(); isShort(err) && time.Since(begin) < dirPatience; d, err = os.Open(name) {
		time.Sleep(dirPatience / 100)
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Space(name string) (total, free int64, err error) {
	var s unix.Statfs_t
	for {
		if err = unix.Statfs(name, &s); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	block := int64(s.Bsize) //nolint:unconvert // 32 bits on some systems
	return int64(s.Blocks) * block, int64(s.Bavail) * block, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, f.Close())
	}
	return lockFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return dataSync(f.File) }

func (f osFile) WriteOut(pos, n int64) error { return writeOut(f.File, pos, n) }

func (f osFile) StartOut() error { return startOut(f.File) }

func (f osFile) Allocate(n int64) error { return allocate(f.File, n) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writeFull is WriteAt that returns an error for a short write without one.
func writeFull(f File, b []byte, pos int64) error {
	n, err := f.WriteAt(b, pos)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// extend makes a file at least n bytes large. It replaces Allocate on file systems that cannot reserve space.
func extend(f *os.File, n int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= n {
		return err
	}
	return f.Truncate(n)
}
