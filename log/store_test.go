package log_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// small are options with files small enough that every path is taken with little data.
func small(disk *faultfs.Disk) log.Options {
	return log.Options{
		Dir: "/data", FS: disk, MemoryBytes: 8 << 20, SegmentBytes: 16 << 10, CommitFileBytes: 32 << 10,
		CommitLogBytes: 128 << 10, Poison: true, CheckpointInterval: time.Hour,
	}
}

func open(t *testing.T, o log.Options) *log.Store {
	t.Helper()
	s, err := log.Open(o)
	require.NoError(t, err)
	return s
}

func openLog(t *testing.T, s *log.Store, id wire.Identity, c log.Config) *log.Log {
	t.Helper()
	l, err := s.OpenLog(id, c)
	require.NoError(t, err)
	return l
}

// readAll reads every data entry from First to Next, cold or hot.
func readAll(t *testing.T, l *log.Log) []wire.Entry {
	t.Helper()
	p := l.Positions()
	return readFrom(t, l, p.First, p.Next)
}

func readFrom(t *testing.T, l *log.Log, offset, limit uint64) []wire.Entry {
	t.Helper()
	var all []wire.Entry
	var c log.Chunk
	for offset < limit {
		require.NoError(t, l.ReadCold(&c, offset, limit, 8<<10))
		for _, e := range entries(t, l.Identity(), &c) {
			e.Payload = append([]byte(nil), e.Payload...)
			all = append(all, e)
		}
		if c.Next == offset {
			return all // the limit is inside an entry
		}
		offset = c.Next
		c.Release()
	}
	return all
}

func appendN(t *testing.T, l *log.Log, from, n uint64) {
	t.Helper()
	for i := from; i < from+n; i++ {
		_, _, err := l.Append(data(i, 1+uint32(i%3), 30+int(i*37%900)))
		require.NoError(t, err)
	}
}

func TestReopenAfterClose(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 500)
	want, p := readAll(t, l), l.Positions()
	require.NoError(t, s.Close())

	s = open(t, small(disk))
	require.Equal(t, []wire.Identity{identity(1)}, s.Logs())
	l = openLog(t, s, identity(1), log.Config{})
	got := l.Positions()
	require.Equal(t, p.Next, got.Next)
	require.Equal(t, got.Next, got.Durable)
	require.Equal(t, want, readAll(t, l))
	appendN(t, l, 500, 100)
	want = readAll(t, l)
	require.NoError(t, s.Close())

	s = open(t, small(disk))
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, want, readAll(t, l))
	require.Greater(t, l.Stats().Segments, 5)
	require.Zero(t, s.Stats().Damage)
	require.NoError(t, s.Close())
}

func TestReopenOnTheOperatingSystem(t *testing.T) {
	o := log.Options{Dir: t.TempDir() + "/a/b", MemoryBytes: 8 << 20, SegmentBytes: 256 << 10, CommitFileBytes: 1 << 20}
	s := open(t, o)
	_, err := log.Open(o)
	require.ErrorIs(t, err, log.ErrLocked)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1000)
	require.NoError(t, s.Sync())
	want := readAll(t, l)
	require.NoError(t, s.Close())
	s = open(t, o)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, want, readAll(t, l))
	require.NoError(t, s.Close())
}

// TestLevelsTakeTurns makes rounds through the page cache and past it on a real file system: they
// share pages.
func TestLevelsTakeTurns(t *testing.T) {
	o := log.Options{Dir: t.TempDir(), MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20}
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(400) {
		appendN(t, l, 3*i, 1+rng.Uint64N(3))
		l.Flush(wire.LevelOS + wire.Level(rng.IntN(2)))
		s.Round()
		require.Equal(t, l.Positions().NextIndex, l.Positions().WrittenIndex)
	}
	want := readAll(t, l)
	s.Drop()
	s = open(t, o)
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	require.Zero(t, s.Stats().TornTails)
	require.NoError(t, s.Close())
}

func TestLargestEntriesThroughFiles(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.MemoryBytes = 64 << 20
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(3) {
		_, _, err := l.Append(data(i, 1, wire.MaxFrameBytes-int(i)))
		require.NoError(t, err)
		appendN(t, l, i, 3)
	}
	require.NoError(t, s.Sync())
	want := readAll(t, l)
	killed := disk.Clone()
	require.NoError(t, s.Close())
	for _, d := range []*faultfs.Disk{disk, killed} {
		o.FS = d
		s = open(t, o)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		require.NoError(t, s.Close())
	}
}

func TestThousandIdlePartitionsFitIn100MB(t *testing.T) {
	s := open(t, log.Options{})
	for i := range 1000 {
		l := openLog(t, s, wire.Identity{Partition: uint32(i)}, log.Config{})
		appendN(t, l, 0, 50)
	}
	require.Less(t, s.Stats().MemoryMapped, int64(90<<20))
	require.NoError(t, s.Close())
}

func TestIdleMemoryIsSmall(t *testing.T) {
	s := open(t, log.Options{Dir: t.TempDir()})
	openLog(t, s, identity(1), log.Config{})
	eventually(t, "ready slabs", func() bool { return s.Stats().MemoryMapped > 1<<20 })
	require.Less(t, s.Stats().MemoryMapped, int64(4<<20))
	require.NoError(t, s.Close())
}

func TestClosedStoreRefusesEverything(t *testing.T) {
	s := open(t, small(faultfs.New()))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	require.NoError(t, s.Close())
	_, _, err := l.Append(data(1, 1, 10))
	require.ErrorIs(t, err, log.ErrClosed)
	var c log.Chunk
	require.ErrorIs(t, l.Read(&c, 0, 1, 1), log.ErrClosed)
	_, err = s.OpenLog(identity(1), log.Config{})
	require.ErrorIs(t, err, log.ErrClosed)
	require.ErrorIs(t, s.Close(), log.ErrClosed)
	l.Flush(wire.LevelDisk)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []log.Options{
		{MemoryBytes: 1}, {SegmentBytes: 1}, {CommitFileBytes: 1}, {CommitLogBytes: -1}, {RetentionInterval: -1},
	} {
		_, err := log.Open(o)
		require.Error(t, err)
	}
}

func TestFlushTellsWhatIsDurable(t *testing.T) {
	for _, level := range []wire.Level{wire.LevelOS, wire.LevelDisk} {
		s := open(t, small(faultfs.New()))
		told := make(chan log.Positions, 100)
		l := openLog(t, s, identity(1), log.Config{Notify: func(p log.Positions, err error) {
			require.NoError(t, err)
			told <- p
		}})
		for i := range uint64(20) {
			_, _, err := l.Append(data(i, 2, 100))
			require.NoError(t, err)
			l.Flush(level)
			for p := range told {
				if level == wire.LevelOS && p.Written == 2*i+2 || p.Durable == 2*i+2 {
					break
				}
			}
		}
		require.NoError(t, s.Close())
	}
}

func TestTwoStoresOnOneDirectory(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	_, err := log.Open(small(disk))
	require.ErrorIs(t, err, log.ErrLocked)
	require.NoError(t, s.Close())
	s = open(t, small(disk))
	require.NoError(t, s.Close())
}

func TestColdReadsUnderMemoryPressure(t *testing.T) {
	o := small(faultfs.New())
	o.MemoryBytes = 1 << 20
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	const n = 3000
	for i := uint64(0); i < n; {
		_, _, err := l.Append(data(i, 1, 1000))
		if err == nil {
			i++
			continue
		}
		require.ErrorIs(t, err, log.ErrBusy)
		time.Sleep(time.Millisecond) // what a caller does with ErrBusy
	}
	got := readAll(t, l)
	require.Len(t, got, n)
	for i, e := range got {
		require.Equal(t, payload(uint64(i), 1000), e.Payload)
	}
	var c log.Chunk
	require.ErrorIs(t, l.Read(&c, 0, 1, 1), log.ErrCold)
	require.LessOrEqual(t, s.Stats().MemoryPeak, int64(1<<20))
	require.NoError(t, s.Close())
}

// Memory is let go of when there is no more than needed, so what fills half of it is filed before.
func TestEntriesAreFiledBeforeMemoryRunsShort(t *testing.T) {
	o := small(faultfs.New())
	o.MemoryBytes = 16 << 20 // half of which is the working set
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(50) { // 5 MB
		_, _, err := l.Append(data(i, 1, 100_000))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return l.Stats().Unfiled < 2<<20 }, 10*time.Second, time.Millisecond)
	var c log.Chunk
	require.NoError(t, l.Read(&c, 0, 1, 1), "what is filed stays in memory while there is room")
	c.Release()
	require.NoError(t, s.Close())
}

// A checkpoint costs a flush for each log and the states of all of them.
func TestFilingWaitsForMoreWhenItCostsMore(t *testing.T) {
	require.EqualValues(t, 65<<20, log.FilesAt(1<<30, 1, 0))
	require.EqualValues(t, 128<<20, log.FilesAt(1<<30, 64, 0))
	require.EqualValues(t, 193<<20, log.FilesAt(1<<30, 1, 16<<20))
	require.EqualValues(t, 448<<20, log.FilesAt(1<<30, 1000, 0))
	require.EqualValues(t, 8<<20, log.FilesAt(32<<20, 1000, 0))
}

func TestStateAndReplay(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	var l *log.Log
	state := func() ([]byte, uint64) {
		return []byte("upto"), l.Positions().NextIndex - 1
	}
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return state() }})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	for range 5 {
		_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(9, 50)})
		require.NoError(t, err)
	}
	state = func() ([]byte, uint64) { return []byte("upto"), 10 }
	require.NoError(t, s.Close())

	s = open(t, small(disk))
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, "upto", string(l.State()))
	var got []uint64
	require.NoError(t, l.Replay(func(e wire.Entry) error {
		require.Equal(t, wire.KindState, e.Kind)
		got = append(got, e.Index)
		return nil
	}))
	require.Equal(t, []uint64{11, 12, 13, 14, 15}, got)
	require.NoError(t, s.Close())
}

func TestRemoveLogIsDurable(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	a, b := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, a, 0, 50)
	appendN(t, b, 0, 50)
	require.NoError(t, s.Sync())
	require.NoError(t, s.RemoveLogs(identity(1)))
	_, _, err := a.Append(data(1, 1, 10))
	require.ErrorIs(t, err, log.ErrClosed)
	require.NoError(t, s.Close())
	s = open(t, small(disk))
	require.Equal(t, []wire.Identity{identity(2)}, s.Logs())
	require.NoError(t, s.Close())
}

func TestTruncatePrefix(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 500)
	next := l.Positions().Next
	require.NoError(t, l.TruncatePrefix(next/2))
	p := l.Positions()
	require.Equal(t, next/2, p.First)
	require.Greater(t, p.FirstIndex, uint64(100))
	require.ErrorIs(t, l.TruncatePrefix(next+1), log.ErrOutOfRange)
	index, term := l.Prev()
	require.Equal(t, p.FirstIndex-1, index)
	require.Equal(t, uint64(1), term)
	want := readAll(t, l)
	require.NoError(t, s.Close())

	s = open(t, small(disk))
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, want, readAll(t, l))
	require.Equal(t, p.First, l.Positions().First)
	require.NoError(t, l.TruncatePrefix(next))
	require.Zero(t, l.Stats().Segments)
	appendN(t, l, 500, 10)
	want = readAll(t, l)
	require.Len(t, want, 10)
	require.NoError(t, s.Close())
	s = open(t, small(disk))
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, want, readAll(t, l))
	require.NoError(t, s.Close())
}

// A checkpoint between the start and the owner's coming knows no state, and says so.
func TestACheckpointBeforeTheOwnerHasNoState(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 10)
	require.NoError(t, s.Sync())
	for range 2 {
		disk = disk.Clone()
		_ = s.Close() // on a disk that nobody looks at any more
		s = open(t, small(disk))
		require.NoError(t, s.Checkpoint())
	}
	l := openLog(t, s, identity(1), log.Config{})
	require.Nil(t, l.State())
	n := 0
	require.NoError(t, l.Replay(func(wire.Entry) error { n++; return nil }))
	require.Equal(t, 10, n)
	require.NoError(t, s.Close())
}

func TestOffsetsByTime(t *testing.T) {
	s := open(t, small(faultfs.New()))
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(600) {
		b := data(i, 1, 200)
		b.Term, b.Time = 1+i/100, int64(1000+i*10)
		_, _, err := l.Append(b)
		require.NoError(t, err)
		if i == 300 {
			require.NoError(t, s.Checkpoint())
		}
	}
	for i := range uint64(600) {
		off, err := l.OffsetAt(int64(1000 + i*10 - 5))
		require.NoError(t, err)
		require.Equal(t, i, off)
	}
	off, err := l.OffsetAt(1 << 40)
	require.NoError(t, err)
	require.Equal(t, uint64(600), off)
	require.NoError(t, s.Close())
}

// Sync of a log waits for that one, and says why it failed.
func TestSyncOfOneLogLeavesTheOthersAlone(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l, other := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, l, 0, 3)
	appendN(t, other, 0, 3)
	require.NoError(t, l.Sync())
	require.Equal(t, uint64(4), l.Positions().DurableIndex)
	require.Equal(t, uint64(1), other.Positions().DurableIndex)
	calls := disk.Calls()
	require.NoError(t, l.Sync())
	require.Equal(t, calls, disk.Calls(), "nothing is left to flush")

	appendN(t, l, 3, 1)
	disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
	require.ErrorIs(t, l.Sync(), log.ErrReadOnly)
	require.ErrorIs(t, l.Sync(), log.ErrReadOnly, "a flush that failed is not tried again")
	s.Drop()

	s, err = log.OpenStill(log.Options{})
	require.NoError(t, err)
	l = openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 3)
	require.NoError(t, l.Sync(), "nothing can be durable")
	s.Drop()
}

// TestARemovedLogStaysRemoved removes logs whose entries are in the commit log, which another log still needs. The files
// of the last one cannot be removed before the end of the process.
func TestARemovedLogStaysRemoved(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	a, b, c := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{}), openLog(t, s, identity(3), log.Config{})
	appendN(t, a, 0, 10)
	appendN(t, c, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, b, 0, 10)
	require.NoError(t, b.Sync())
	for _, l := range []*log.Log{a, c} {
		appendN(t, l, 10, 10)
		require.NoError(t, l.Sync())
	}
	left := func(l *log.Log) bool {
		return slices.ContainsFunc(disk.Names(), func(name string) bool { return strings.Contains(name, log.DirOf(l.Identity())) })
	}
	require.NoError(t, s.RemoveLogs(identity(1)))
	require.False(t, left(a), "its files are gone")
	disk.Fail(failOn(faultfs.OpRemove, "/partitions/", 1))
	require.Error(t, s.RemoveLogs(identity(3)))
	disk.Fail(nil)
	require.True(t, left(c))
	require.Equal(t, []wire.Identity{identity(2)}, s.Logs())
	for range 3 { // each start writes what was not durable for certain again
		s.Drop()
		disk = disk.Clone()
		s = openStill(t, disk)
		require.Equal(t, []wire.Identity{identity(2)}, s.Logs())
		require.False(t, left(c))
		require.Len(t, readAll(t, openLog(t, s, identity(2), log.Config{})), 10)
	}
	require.NoError(t, s.Close())
}
