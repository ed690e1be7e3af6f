package log_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// limitVariable tells a child process of the test the directory to use.
const limitVariable = "RAFKA_TEST_FILE_LIMIT_DIR"

// TestSegmentsStayWithinTheLimitOfFileSizes runs in a process of its own, because the limit applies to all of a process.
func TestSegmentsStayWithinTheLimitOfFileSizes(t *testing.T) {
	const limit = 20 << 20
	dir := os.Getenv(limitVariable)
	if dir == "" {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), limitVariable+"="+t.TempDir())
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}))
	o := log.Options{Dir: dir, MemoryBytes: 64 << 20, CommitFileBytes: 1 << 20}
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{SegmentBytes: 64 << 20})
	for i := range uint64(40) {
		_, _, err := l.Append(data(i, 1, 1<<20))
		require.NoError(t, err)
		require.NoError(t, s.Sync())
		require.NoError(t, s.Checkpoint())
	}
	require.NoError(t, s.Close())
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	require.NoError(t, err)
	require.Greater(t, len(files), 2)
	report, err := log.Verify(dir)
	require.NoError(t, err)
	require.Empty(t, report.Damage)
	require.EqualValues(t, 40, report.Records)

	o.Dir, o.CommitFileBytes = filepath.Join(dir, "other"), limit+1
	_, err = log.OpenStill(o)
	require.ErrorIs(t, err, unix.EFBIG, "the commit log does not fit")
}

// A file that may not grow is like a full disk: nothing becomes read-only.
func TestTheLimitOfFileSizesIsAFullDisk(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 5)
	require.NoError(t, s.Sync())
	disk.Fail(func(op faultfs.Op, _ string) error {
		if op == faultfs.OpAllocate || op == faultfs.OpWrite {
			return unix.EFBIG
		}
		return nil
	})
	appendN(t, l, 5, 5)
	require.ErrorIs(t, s.Sync(), log.ErrFull)
	require.ErrorIs(t, s.Checkpoint(), unix.EFBIG)
	require.False(t, l.Stats().ReadOnly)
	disk.Fail(nil)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())
}
