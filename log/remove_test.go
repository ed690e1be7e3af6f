package log_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// stubborn makes the removal of a log's files fail, and those of its directory if so asked.
func stubborn(id wire.Identity, only string) func(faultfs.Op, string) error {
	return func(op faultfs.Op, name string) error {
		if op == faultfs.OpRemove && strings.Contains(name, log.DirOf(id)) && strings.HasSuffix(name, only) {
			return syscall.EIO
		}
		return nil
	}
}

// ofLog returns the names of a log's files.
func ofLog(disk *faultfs.Disk, id wire.Identity) (names []string) {
	for _, name := range segmentFiles(disk) {
		if strings.Contains(name, log.DirOf(id)) {
			names = append(names, name)
		}
	}
	return names
}

// What cannot be removed is removed when that works again, and until then is nobody else's failure.
func TestWhatCannotBeRemovedIsRemovedLater(t *testing.T) {
	for what, remove := range map[string]func(s *log.Store, l *log.Log) error{
		"log":      func(s *log.Store, l *log.Log) error { return s.RemoveLogs(l.Identity()) },
		"segments": func(_ *log.Store, l *log.Log) error { return l.TruncatePrefix(l.Positions().Next) },
	} {
		for _, only := range []string{"", ".seg", "-1"} { // anything, the files, the directory
			if what == "segments" && only == "-1" {
				continue
			}
			t.Run(what+only, func(t *testing.T) {
				disk := faultfs.New()
				s := openStill(t, disk)
				a, b := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
				next := func() {
					t.Helper()
					appendN(t, b, b.Positions().Next, 1)
					require.NoError(t, s.Checkpoint())
				}
				appendN(t, a, 0, 60)
				next()
				disk.Fail(stubborn(identity(1), only))
				require.ErrorIs(t, remove(s, a), syscall.EIO)
				next()
				require.NoError(t, b.TruncatePrefix(1))
				if what == "log" {
					require.ErrorIs(t, remove(s, a), syscall.EIO, "it is still there")
				}
				disk.Fail(nil)
				require.NoError(t, s.Checkpoint()) // which has nothing to file
				require.Empty(t, ofLog(disk, identity(1)))
				require.NoError(t, remove(s, a))
				dirs, err := disk.ReadDir("/data/partitions")
				require.NoError(t, err)
				require.Equal(t, what == "log", len(dirs) == 1)
				require.NoError(t, s.Close())
			})
		}
	}
}

// A start that cannot remove the directory of a removed log serves the others.
func TestAStartThatCannotRemoveADirectory(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	a, b := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, a, 0, 60)
	require.NoError(t, s.Checkpoint())
	appendN(t, b, 0, 10)
	require.NoError(t, b.Sync()) // its chunks keep the mark of what is removed
	disk.Fail(stubborn(identity(1), ""))
	require.Error(t, s.RemoveLogs(identity(1)))
	for range 2 {
		s.Drop()
		s = openStill(t, disk)
		require.Equal(t, []wire.Identity{identity(2)}, s.Logs())
		b = openLog(t, s, identity(2), log.Config{})
		require.Len(t, readAll(t, b), 10)
		require.NotEmpty(t, ofLog(disk, identity(1)))
	}
	disk.Fail(nil)
	require.NoError(t, s.Checkpoint())
	require.Empty(t, ofLog(disk, identity(1)))
	require.NoError(t, s.Close())
}
