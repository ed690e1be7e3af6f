package log_test

import (
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// fillFiles appends and flushes until there are n more commit log files.
func fillFiles(t *testing.T, disk *faultfs.Disk, s *log.Store, l *log.Log, n int) {
	t.Helper()
	for files := len(commitFiles(disk)); len(commitFiles(disk)) < files+n; {
		appendN(t, l, l.Positions().Next, 5)
		require.NoError(t, s.Sync())
	}
}

// failAll makes every operation of a kind on a file whose path holds part fail.
func failAll(op faultfs.Op, part string, why error) func(faultfs.Op, string) error {
	return func(o faultfs.Op, name string) error {
		if o == op && strings.Contains(name, part) {
			return why
		}
		return nil
	}
}

// commitBytes returns how much space the files of the commit log take.
func commitBytes(disk *faultfs.Disk) (n int) {
	for _, name := range disk.Names() {
		if path.Dir(name) == "/data/commit" {
			n += len(disk.Bytes(name))
		}
	}
	return n
}

// What begins a commit log file and fails, again and again, leaves no files behind.
func TestACommitFileThatCannotBeginTakesNoSpace(t *testing.T) {
	opened := 0
	for name, fail := range map[string]func(faultfs.Op, string) error{
		"no descriptor for the directory": failAll(faultfs.OpSyncDir, "/data/commit", syscall.EMFILE),
		"one descriptor": func(op faultfs.Op, name string) error {
			if op == faultfs.OpOpen && path.Dir(name) == "/data/commit" {
				if opened++; opened%2 == 0 {
					return syscall.EMFILE
				}
			}
			return nil
		},
		"no new name": failAll(faultfs.OpRename, "/data/commit", syscall.EMFILE),
	} {
		for _, spares := range []bool{false, true} {
			disk := faultfs.New()
			s := openStill(t, disk)
			l := openLog(t, s, identity(1), log.Config{})
			fillFiles(t, disk, s, l, 2)
			if spares {
				require.NoError(t, s.Checkpoint())
				require.NotEmpty(t, spareFiles(disk))
			}
			disk.Fail(fail)
			for s.Sync() == nil {
				appendN(t, l, l.Positions().Next, 1)
			}
			before := commitBytes(disk)
			for range 10 {
				require.Error(t, s.Sync())
			}
			require.Equal(t, before, commitBytes(disk), name)
			killed := disk.Clone()
			disk.Fail(nil)
			require.NoError(t, s.Sync())
			require.LessOrEqual(t, commitBytes(disk), before+int(small(disk).CommitFileBytes), name)
			want := readAll(t, l)
			s.Drop()
			for disk, least := range map[*faultfs.Disk]int{killed: len(want) - 1, disk: len(want)} {
				s, _, got, lost := survivors(t, disk, identity(1))
				require.GreaterOrEqual(t, len(got), least)
				require.Empty(t, lost)
				require.Zero(t, s.Stats().Damage)
				s.Drop()
			}
		}
	}
}

// A spare that cannot be removed is removed later.
func TestASpareThatCannotBeRemovedIsRemovedLater(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	fillFiles(t, disk, s, l, 3)
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpSyncDir && name == "/data/commit" || op == faultfs.OpRemove && path.Ext(name) == ".spare" {
			return syscall.EIO
		}
		return nil
	})
	require.NoError(t, s.Checkpoint())
	unsafe := spareFiles(disk)
	require.NotEmpty(t, unsafe)
	disk.Fail(failAll(faultfs.OpRemove, ".spare", syscall.EIO))
	fillFiles(t, disk, s, l, 2)
	require.Equal(t, unsafe, spareFiles(disk), "one whose name may not be durable is not used")
	disk.Fail(nil)
	require.NoError(t, s.Checkpoint())
	for _, name := range spareFiles(disk) {
		require.NotContains(t, unsafe, name)
	}
	s.Drop()
}

// A spare that could not become the reserve is still there when that is tried again.
func TestASpareThatCannotBecomeTheReserveIsTriedAgain(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	fillFiles(t, disk, s, openLog(t, s, identity(1), log.Config{}), 2)
	require.NoError(t, s.Checkpoint())
	require.NotEmpty(t, spareFiles(disk))
	disk.SetCapacity(disk.Used() - int64(small(disk).CommitFileBytes))
	disk.Fail(failAll(faultfs.OpRename, "/reserve", syscall.EIO))
	require.ErrorIs(t, s.RemakeReserve(), syscall.EIO)
	disk.Fail(nil)
	require.NoError(t, s.RemakeReserve())
	s.Drop()
}
