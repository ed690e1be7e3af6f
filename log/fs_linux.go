package log

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// called makes a system call on f, again when a signal has interrupted it.
func called(f *os.File, name string, call func(fd int) error) error {
	for {
		err := call(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: name, Path: f.Name(), Err: err}
		}
	}
}

func dataSync(f *os.File) error { return called(f, "fdatasync", unix.Fdatasync) }

func writeOut(f *os.File, pos, n int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	err := called(f, "sync_file_range", func(fd int) error { return unix.SyncFileRange(fd, pos, n, all) })
	if errors.Is(err, unix.ENOSYS) {
		return dataSync(f)
	}
	return err
}

func startOut(f *os.File) error {
	const toEnd = 0
	err := called(f, "sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, 0, toEnd, unix.SYNC_FILE_RANGE_WRITE)
	})
	if errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

func allocate(f *os.File, n int64) error {
	err := called(f, "fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, n) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return extend(f, n)
	}
	return err
}

// ReadCached reads from the page cache.
func (f osFile) ReadCached(b []byte, pos int64) bool {
	n, err := unix.Preadv2(int(f.Fd()), [][]byte{b}, pos, unix.RWF_NOWAIT)
	return err == nil && n == len(b)
}

// directFile is a file that was opened with O_DIRECT.
type directFile struct{ osFile }

// openDirect opens a file with O_DIRECT, or in the usual way on file systems that do not support that.
func openDirect(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return OS.Open(name, true, false)
	}
	if err != nil {
		return nil, err
	}
	return directFile{osFile{f}}, nil
}

// WriteAt writes through the page cache after the file system has refused an aligned direct write.
func (f directFile) WriteAt(b []byte, pos int64) (int, error) {
	n, err := f.osFile.WriteAt(b, pos)
	if !errors.Is(err, unix.EINVAL) {
		return n, err
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	if err != nil {
		return n, &os.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
	m, err := f.osFile.WriteAt(b[n:], pos+int64(n))
	return n + m, err
}
