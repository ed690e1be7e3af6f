package log_test

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// noSpace makes an operation on files whose names contain part fail as a flush does on a device that has promised more
// space than it has.
func noSpace(op faultfs.Op, part string) func(faultfs.Op, string) error {
	return func(o faultfs.Op, name string) error {
		if o == op && strings.Contains(name, part) {
			return syscall.ENOSPC
		}
		return nil
	}
}

func openStill(t *testing.T, disk *faultfs.Disk) *log.Store {
	t.Helper()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	return s
}

// What a flush did not get to the device does not get there when the same file is written and flushed again.
func TestASegmentWhoseFlushFindsNoSpace(t *testing.T) {
	restart := map[string]func(t *testing.T, s *log.Store, disk *faultfs.Disk) (*log.Store, *faultfs.Disk){
		"the broker goes on": func(_ *testing.T, s *log.Store, disk *faultfs.Disk) (*log.Store, *faultfs.Disk) { return s, disk },
		"the broker is killed": func(t *testing.T, s *log.Store, disk *faultfs.Disk) (*log.Store, *faultfs.Disk) {
			s.Drop()
			disk = disk.Clone()
			return openStill(t, disk), disk
		},
	}
	for name, next := range restart {
		for _, op := range []faultfs.Op{faultfs.OpSync, faultfs.OpStartOut} {
			t.Run(name+" "+string(op), func(t *testing.T) {
				disk := faultfs.New()
				s := openStill(t, disk)
				l := openLog(t, s, identity(1), log.Config{})
				appendN(t, l, 0, 10)
				require.NoError(t, s.Checkpoint())
				appendN(t, l, 10, 60)
				require.NoError(t, s.Sync())
				want := readAll(t, l)
				disk.Fail(noSpace(op, "/partitions/"))
				require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
				disk.Fail(nil)
				s, disk = next(t, s, disk)
				require.NoError(t, s.Checkpoint())

				disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
				s.Drop()
				s = openStill(t, disk)
				require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
				require.Zero(t, s.Stats().Damage)
				require.NoError(t, s.Close())
			})
		}
	}
}

// A commit log file whose flush failed is not written to again, under no other name either.
func TestACommitLogFileWhoseFlushFailedIsNotUsedAgain(t *testing.T) {
	for _, killed := range []bool{false, true} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		other := openLog(t, s, identity(2), log.Config{})
		flush := func() {
			l.Ask(wire.LevelDisk)
			s.Round()
			require.Equal(t, l.Positions().NextIndex, l.Positions().DurableIndex)
		}
		fill := func(n uint64) { // through the page cache
			for range n {
				appendN(t, l, l.Positions().NextIndex-1, 1)
				l.Ask(wire.LevelOS)
				s.Round()
			}
		}
		fill(20)
		disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
		appendN(t, other, 0, 1)
		other.Ask(wire.LevelDisk)
		s.Round()
		require.Equal(t, 1, s.Stats().ReadOnly)
		disk.Fail(nil)
		if killed {
			s.Drop()
			disk = disk.Clone()
			s = openStill(t, disk)
			l = openLog(t, s, identity(1), log.Config{})
		}
		flush()
		require.NoError(t, s.Checkpoint()) // the file is not needed any more
		fill(60)
		flush()
		want := readAll(t, l)
		disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
		s.Drop()
		s = openStill(t, disk)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})), "killed: %v", killed)
		require.NoError(t, s.Close())
	}
}

// A start without a checkpoint makes the last segments durable. A flush of them may have failed before the kill.
func TestAStartWithoutACheckpointAfterAFlushThatFailed(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 20)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 20, 20)
	require.NoError(t, s.Sync())
	want := readAll(t, l)
	disk.Fail(noSpace(faultfs.OpSync, "/partitions/"))
	require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
	disk.Fail(nil)
	s.Drop()
	disk = disk.Clone()
	disk.Delete("/data/checkpoint")
	s = openStill(t, disk)
	openLog(t, s, identity(1), log.Config{})
	require.NoError(t, s.Checkpoint())

	disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
	s.Drop()
	s = openStill(t, disk)
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	require.NoError(t, s.Close())
}

// A spare that could not be prepared is no spare any more: not even its space is kept from others.
func TestASpareWhoseFlushFindsNoSpace(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	require.NoError(t, s.Sync())
	eventually(t, "a spare", func() bool { return spared(disk) })
	spares := spareFiles(disk)
	disk.Fail(noSpace(faultfs.OpSync, ".spare"))
	for next := uint64(1); !s.Stats().Full; next++ {
		appendN(t, l, next, 1)
		_ = s.Sync() // it finds no space in the end
	}
	for _, name := range spareFiles(disk) { // another one may have been made before the disk was found full
		require.NotContains(t, spares, name)
	}
	disk.Fail(nil)
	require.NoError(t, s.Close())
}

// A commit log file whose beginning could not be flushed, and that could not be removed, is begun again: as the reserve of a
// full disk, which a next process takes, too, or under the number that was not used.
func TestAFileThatCouldNotBeginIsBegunAgain(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		why    error
		killed bool
	}{
		"reserve":               {"/commit/reserve", syscall.ENOSPC, false},
		"reserve of the killed": {"/commit/reserve", syscall.ENOSPC, true},
		"a number that is free": {".tmp", syscall.EIO, false},
	} {
		t.Run(name, func(t *testing.T) {
			disk := faultfs.New()
			s := openStill(t, disk)
			l := openLog(t, s, identity(1), log.Config{})
			if c.why == syscall.ENOSPC {
				disk.SetCapacity(disk.Used())
			}
			disk.Fail(func(op faultfs.Op, file string) error {
				if (op == faultfs.OpSync || op == faultfs.OpRemove) && strings.HasSuffix(file, c.file) {
					return c.why
				}
				return nil
			})
			appendN(t, l, 0, 10)
			require.Error(t, s.Sync())
			disk.Fail(nil)
			switch {
			case c.killed:
				s.Drop()
				disk = disk.Clone()
				disk.SetCapacity(disk.Used())
				s = openStill(t, disk)
				l = openLog(t, s, identity(1), log.Config{})
				appendN(t, l, 0, 10)
			case c.why == syscall.EIO: // which has made it read-only
				l = openLog(t, s, identity(2), log.Config{})
				appendN(t, l, 0, 10)
			default:
				require.NoError(t, s.KeepReserve())
			}
			require.NoError(t, l.Sync())
			s.Drop()
			for seed := range uint64(8) {
				s, _, got, _ := survivors(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 1))), l.Identity())
				require.Len(t, got, 10)
				require.Zero(t, s.Stats().Damage)
				s.Drop()
			}
		})
	}
}
