//go:build linux || darwin

package server

import "golang.org/x/sys/unix"

// diskSpace returns the bytes that are left for files in dir, and the size of its file system.
func diskSpace(dir string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return s.Bavail * block, s.Blocks * block, nil
}
