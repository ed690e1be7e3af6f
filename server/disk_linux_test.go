package server

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mountedDisk is a real file system in memory with its own limit.
func mountedDisk(t *testing.T) *smallDisk { return mountDisk(t, "256m") }

// tinyDisk has room for a few rounds.
func tinyDisk(t *testing.T) *smallDisk { return mountDisk(t, "64m") }

func mountDisk(t *testing.T, size string) *smallDisk {
	dir := t.TempDir()
	if err := unix.Mount("rafka", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("needs the right to mount a file system: ", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	ballast := filepath.Join(dir, "ballast")
	return &smallDisk{
		dir: filepath.Join(dir, "data"),
		fill: func() {
			f, err := os.Create(ballast)
			require.NoError(t, err)
			require.Eventually(t, func() bool { // the broker makes files meanwhile
				var s unix.Statfs_t
				return unix.Statfs(dir, &s) == nil &&
					unix.Fallocate(int(f.Fd()), 0, 0, int64(s.Bfree)*s.Bsize-8<<20) == nil
			}, waitLimit, time.Millisecond)
			require.NoError(t, f.Close())
		},
		free: func() { require.NoError(t, os.Remove(ballast)) },
	}
}
