package log_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// Without sizes of its own, the commit log takes a part of what the disk has.
func TestTheCommitLogFitsTheDisk(t *testing.T) {
	for capacity, size := range map[int64]int{0: 64 << 20, 8 << 30: 64 << 20, 256 << 20: 8 << 20, 16 << 20: 1 << 20} {
		disk := faultfs.New()
		disk.SetCapacity(capacity)
		s, err := log.OpenStill(log.Options{Dir: "/data", FS: disk, MemoryBytes: 8 << 20})
		require.NoError(t, err)
		require.Len(t, disk.Bytes("/data/commit/reserve"), size)
		s.Drop()
	}
}

// withSpares returns a store whose commit log was busy once.
func withSpares(t *testing.T, disk *faultfs.Disk) (*log.Store, *log.Log) {
	t.Helper()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(5) {
		appendN(t, l, 50*i, 50)
		require.NoError(t, s.Sync())
	}
	require.NoError(t, s.Checkpoint())
	require.True(t, spared(disk))
	return s, l
}

// What is kept ready for the commit log goes when what is to be filed has no space.
func TestSparesGiveWayToWhatIsFiled(t *testing.T) {
	disk := faultfs.New()
	s, l := withSpares(t, disk)
	appendN(t, l, 0, 40)
	require.NoError(t, s.Sync())
	disk.SetCapacity(disk.Used() + 1<<10)
	require.NoError(t, s.Checkpoint())
	require.False(t, spared(disk))
	require.False(t, s.Stats().Full)
	want := readAll(t, l)
	require.NoError(t, s.Close())

	s, err := log.OpenStill(small(disk.Clone()))
	require.NoError(t, err)
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	s.Drop()
}

// They go, too, when a chunk comes for which they are too small, and one becomes the reserve when that is
// missing.
func TestSparesGiveWayToTheCommitLog(t *testing.T) {
	disk := faultfs.New()
	s, l := withSpares(t, disk)
	disk.SetCapacity(disk.Used() + 16<<10)
	_, _, err := l.Append(data(1, 1, 40<<10))
	require.NoError(t, err)
	require.NoError(t, s.Sync())
	require.False(t, spared(disk))
	s.Drop()

	disk = faultfs.New()
	s, _ = withSpares(t, disk)
	s.Drop()
	disk.Delete("/data/commit/reserve")
	disk.SetCapacity(disk.Used())
	s, err = log.OpenStill(small(disk))
	require.NoError(t, err)
	require.False(t, s.Stats().Full)
	require.NotEmpty(t, disk.Bytes("/data/commit/reserve"))
	s.Drop()
}

// A store that is closed on a full disk has everything in the commit log.
func TestACloseOnAFullDiskLosesNothing(t *testing.T) {
	disk := faultfs.New()
	s, l := withSpares(t, disk)
	appendN(t, l, 0, 20)
	require.NoError(t, s.Sync())
	appendN(t, l, 20, 20) // of level memory
	l.Flush(wire.LevelOS)
	disk.SetCapacity(1)
	want := readAll(t, l)
	require.NoError(t, s.Close())
	require.True(t, s.Stats().Full)

	for _, capacity := range []int64{1, 0} {
		disk.SetCapacity(capacity)
		s, err := log.OpenStill(small(disk))
		require.NoError(t, err)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		require.NoError(t, s.Close())
	}
}
