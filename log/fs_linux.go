package log

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func dataSync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func writeOut(f *os.File, pos, n int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		err := unix.SyncFileRange(int(f.Fd()), pos, n, all)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS):
			return dataSync(f)
		}
		return &os.PathError{Op: "sync_file_range", Path: f.Name(), Err: err}
	}
}

func allocate(f *os.File, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, n)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP):
			return extend(f, n)
		}
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
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
