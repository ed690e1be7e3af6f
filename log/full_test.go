package log_test

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// Consumers commit on a full disk until the reserve is used up, and not a byte is free. Then somebody purges.
func TestAPurgeMakesSpaceOnADiskWithoutAny(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	const records = 300
	appendN(t, l, 0, records)
	require.NoError(t, s.Checkpoint())
	disk.SetCapacity(disk.Used())
	reserve := func() bool {
		files, err := disk.ReadDir("/data/commit")
		require.NoError(t, err)
		return slices.ContainsFunc(files, func(d log.DirEntry) bool { return d.Name == "reserve" })
	}
	require.True(t, reserve())
	for synced := true; synced; {
		_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 1000)})
		require.NoError(t, err)
		synced = s.Sync() == nil
		disk.SetCapacity(disk.Used()) // what was freed is taken by others
	}
	require.False(t, reserve())
	for range 2 { // what sealing a segment and giving up a file leaves is taken, too
		require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
		disk.SetCapacity(disk.Used())
	}
	require.NoError(t, l.TruncatePrefix(560)) // for the round that waits, a file of the commit log, its reserve and a segment
	eventually(t, "space", func() bool { _, _, err := l.Append(data(records, 1, 1000)); return err == nil })
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())
}

// A purge is done when its start is durable and its files are gone, even if others take the space before the log can file
// the rest.
func TestAPurgeWhoseSpaceOthersTake(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 300)
	require.NoError(t, s.Checkpoint())
	segments, middle := l.Stats().Segments, l.Positions().Next/2
	appendN(t, l, 300, 10)
	require.NoError(t, s.Sync())
	next := l.Positions().Next
	disk.Fail(noSpace(faultfs.OpWrite, "/partitions/"))
	require.NoError(t, l.TruncatePrefix(middle))
	require.Less(t, l.Stats().Segments, segments)
	disk.Fail(nil)
	s.Drop()

	s = openStill(t, disk.PowerCut(rand.New(rand.NewPCG(1, 1))))
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, []uint64{middle, next}, []uint64{l.Positions().First, l.Positions().Next})
	require.NoError(t, l.CheckPlaces())
	readAll(t, l)
	require.NoError(t, s.Close())
}

// The start of a log that was never filed is durable, too, when TruncatePrefix returns nil.
func TestAPurgeOfALogWithoutAFile(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 20)
	require.NoError(t, s.Sync())
	middle, next := l.Positions().Next/2, l.Positions().Next
	disk.Fail(noSpace(faultfs.OpWrite, "/partitions/"))
	require.NoError(t, l.TruncatePrefix(middle))
	require.Zero(t, l.Stats().Segments)
	disk.Fail(nil)
	for range 2 { // the second start has the checkpoint of the first
		s.Drop()
		s = openStill(t, disk.PowerCut(rand.New(rand.NewPCG(1, 1))))
		l = openLog(t, s, identity(1), log.Config{})
		require.Equal(t, []uint64{middle, next}, []uint64{l.Positions().First, l.Positions().Next})
		require.NoError(t, l.CheckPlaces())
		require.NotEmpty(t, readAll(t, l))
		require.NoError(t, s.Checkpoint())
	}
	require.NoError(t, s.Close())
}

// A partition that never filled a segment has one file, and entries that are not in it. Nothing can be filed on a disk
// without a free byte, so nothing must have to be.
func TestAPurgeOfEverythingNeedsNoSpace(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	state := []byte("state")
	var l *log.Log
	c := log.Config{State: func() ([]byte, uint64) { return state, l.Positions().NextIndex - 1 }}
	l = openLog(t, s, identity(1), c)
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 10, 60)
	_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 100)})
	require.NoError(t, err)
	require.NoError(t, s.Sync())
	disk.SetCapacity(disk.Used())
	require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
	disk.SetCapacity(disk.Used())
	require.NoError(t, l.TruncatePrefix(l.Positions().Next))
	require.Zero(t, l.Stats().Segments)
	for _, name := range disk.Names() {
		require.NotEqual(t, ".seg", path.Ext(name), "the files are gone")
	}
	require.NoError(t, l.CheckPlaces())
	before := l.Positions()
	s.Drop()

	disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
	s = openStill(t, disk)
	require.Equal(t, state, func() []byte { l = openLog(t, s, identity(1), log.Config{}); return l.State() }())
	after := l.Positions()
	require.Equal(t, []uint64{before.First, before.Next, before.FirstIndex, before.NextIndex},
		[]uint64{after.First, after.Next, after.FirstIndex, after.NextIndex})
	require.Zero(t, s.Stats().Damage)
	disk.SetCapacity(0)
	appendN(t, l, 70, 5)
	require.NoError(t, s.Sync())
	require.Len(t, readAll(t, l), 5)
	require.NoError(t, s.Close())
}

// Records that were purged before they were durable are not there after a power failure, and their offsets are given to
// others, which were not purged.
func TestAPurgeOfRecordsThatWereNeverDurable(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	durable := l.Positions().Next
	appendN(t, l, 10, 10)
	disk.Fail(noSpace(faultfs.OpSync, "/partitions/"))
	require.ErrorIs(t, l.TruncatePrefix(l.Positions().Next-1), syscall.ENOSPC)
	disk.Fail(nil)
	disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
	s.Drop()

	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, durable, l.Positions().Next)
	require.NoError(t, l.CheckPlaces())
	appendN(t, l, 10, 3)
	require.NoError(t, s.Sync())
	require.Len(t, readAll(t, l), 3)
	require.NoError(t, s.Close())
}

// The same for retention.
func TestRetentionOfEverythingNeedsNoSpace(t *testing.T) {
	disk := faultfs.New()
	begin := time.UnixMilli(1_763_800_000_000)
	passed := time.Duration(0)
	o := small(disk)
	o.SetClock(func() (time.Time, time.Duration) { return begin.Add(passed), passed })
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{Retention: log.Retention{Age: time.Hour}})
	fill := func(n int) {
		for range n {
			b := data(0, 1, 500)
			b.Time = begin.UnixMilli()
			_, _, err := l.Append(b)
			require.NoError(t, err)
		}
	}
	fill(10)
	require.NoError(t, s.Checkpoint())
	fill(60)
	require.NoError(t, s.Sync())
	disk.SetCapacity(disk.Used())
	require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
	disk.SetCapacity(disk.Used())
	passed = 2 * time.Hour
	require.NoError(t, s.Retain())
	require.Zero(t, l.Stats().Segments)
	require.Equal(t, l.Positions().Next, l.Positions().First)
	require.NoError(t, l.CheckPlaces())
	s.Drop()
}

// Before the owner of a log has opened it, nobody knows what of its state is in no checkpoint.
func TestEntriesOfALogThatNobodyHasOpenedAreKept(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	covered := uint64(5) // the state lags behind
	c := log.Config{State: func() ([]byte, uint64) { return []byte("state"), covered }}
	l := openLog(t, s, identity(1), c)
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 10, 60)
	_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 100)})
	require.NoError(t, err)
	require.NoError(t, s.Sync())
	disk.SetCapacity(disk.Used())
	require.ErrorIs(t, l.TruncatePrefix(l.Positions().Next), syscall.ENOSPC)
	s.Drop()
	disk = disk.Clone()
	disk.SetCapacity(0)

	s = openStill(t, disk)
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Retain())
	l = openLog(t, s, identity(1), c)
	states := 0
	require.NoError(t, l.Replay(func(e wire.Entry) error {
		if e.Kind == wire.KindState {
			states++
		}
		return nil
	}))
	require.Equal(t, 1, states)
	require.NoError(t, s.Close())
}

// The states of consumers grow on a full disk, and the checkpoint behind which files are removed has all of them.
func TestTheReserveOfTheCheckpointLeavesRoomForItToGrow(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	var l *log.Log
	state := []byte{}
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return state, l.Positions().NextIndex - 1 }})
	for range 20 {
		state = append(state, make([]byte, 5<<10)...)
		appendN(t, l, l.Positions().NextIndex, 1)
		require.NoError(t, s.Checkpoint())
		size := len(disk.Bytes("/data/checkpoint"))
		require.GreaterOrEqual(t, len(disk.Bytes("/data/checkpoint.reserve")), size+size/2)
	}
	require.NoError(t, s.Close())
}

// renamingFS calls a hook before every renaming of a checkpoint.
type renamingFS struct {
	log.FS
	hook func()
}

func (f *renamingFS) Rename(from, to string) error {
	if hook := f.hook; hook != nil && strings.HasSuffix(to, "/checkpoint") {
		f.hook = nil
		hook()
	}
	return f.FS.Rename(from, to)
}

// What is appended while everything before is dropped stays, whatever its level.
func TestAnAppendDuringAPurgeOfEverythingStays(t *testing.T) {
	for _, level := range []wire.Level{wire.LevelMemory, wire.LevelOS, wire.LevelDisk} {
		for _, killed := range []bool{false, true} {
			disk := faultfs.New()
			fs := &renamingFS{FS: disk}
			o := small(disk)
			o.FS = fs
			s, err := log.OpenStill(o)
			require.NoError(t, err)
			l := openLog(t, s, identity(1), log.Config{})
			appendN(t, l, 0, 50)
			require.NoError(t, s.Checkpoint())
			appendN(t, l, 50, 20)
			l.Flush(wire.LevelOS)
			s.Round()
			purged := l.Positions().Next
			fs.hook = func() {
				appendN(t, l, 70, 9)
				if level > wire.LevelMemory {
					l.Flush(level)
					s.Round()
				}
			}
			require.NoError(t, l.TruncatePrefix(purged))
			require.Nil(t, fs.hook)
			require.NoError(t, l.CheckPlaces())
			require.Len(t, readAll(t, l), 9)
			if !killed {
				require.NoError(t, s.Checkpoint())
				require.Len(t, readAll(t, l), 9)
			}
			s.Drop()
			disk = disk.Clone()
			if level == wire.LevelDisk || !killed {
				disk = disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
			}
			s, err = log.OpenStill(small(disk))
			require.NoError(t, err)
			l = openLog(t, s, identity(1), log.Config{})
			require.Equal(t, purged, l.Positions().First)
			if level > wire.LevelMemory || !killed {
				require.Len(t, readAll(t, l), 9)
			}
			require.Zero(t, s.Stats().Damage)
			s.Drop()
		}
	}
}

// What waited for space at level disk is flushed when there is some, also when nobody asks for it again.
func TestWhatWaitsForSpaceIsFlushedByItself(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.Hurry(time.Millisecond)
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	full := func(parts ...string) func(faultfs.Op, string) error {
		return func(op faultfs.Op, name string) error {
			for _, part := range parts {
				if op != faultfs.OpRemove && strings.Contains(name, part) {
					return syscall.ENOSPC
				}
			}
			return nil
		}
	}
	disk.Fail(full("/commit/", "/partitions/"))
	appendN(t, l, 0, 10)
	l.Flush(wire.LevelDisk)
	eventually(t, "full", func() bool { return s.Stats().Full })
	require.Equal(t, uint64(1), l.Positions().DurableIndex)
	disk.Fail(full("/partitions/")) // filing would flush it, too
	eventually(t, "durable", func() bool { return l.Positions().DurableIndex == 11 })
	disk.Fail(nil)
	require.NoError(t, s.Close())
}
