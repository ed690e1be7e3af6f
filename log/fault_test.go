package log_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// watcher collects what Notify says.
type watcher struct {
	mu   sync.Mutex
	last log.Positions
	err  error
}

func (w *watcher) notify(p log.Positions, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.DurableIndex > w.last.DurableIndex {
		w.last = p
	}
	if err != nil {
		w.err = err
	}
}

func (w *watcher) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watcher) durable() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.DurableIndex
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, time.Millisecond, what)
}

func failOn(op faultfs.Op, part string, nth int) func(faultfs.Op, string) error {
	n := 0
	return func(o faultfs.Op, name string) error {
		if o != op || !strings.Contains(name, part) {
			return nil
		}
		if n++; n == nth {
			return errors.Join(faultfs.ErrInjected, syscall.EIO)
		}
		return nil
	}
}

func TestFailedCommitLogMakesItsLogsReadOnlyAndOthersGoOn(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.OpSync, faultfs.OpWrite} {
		disk := faultfs.New()
		s := open(t, small(disk))
		var w1, w2 watcher
		l1 := openLog(t, s, identity(1), log.Config{Notify: w1.notify})
		l2 := openLog(t, s, identity(2), log.Config{Notify: w2.notify})
		appendN(t, l1, 0, 10)
		appendN(t, l2, 0, 10)
		require.NoError(t, s.Sync())
		appendN(t, l2, 10, 5)
		l2.Flush(wire.LevelOS)
		eventually(t, "os", func() bool { return l2.Positions().WrittenIndex == 16 })

		disk.Fail(failOn(op, "/commit/0000000000000001", 1)) // no spare, which may be in the making: it fails without harm
		appendN(t, l1, 10, 10)
		l1.Flush(wire.LevelDisk)
		eventually(t, "read-only", func() bool { return w1.failed() != nil })
		disk.Fail(nil)
		require.ErrorIs(t, w1.failed(), log.ErrReadOnly)
		require.Less(t, w1.durable(), uint64(12), "nothing of the failed round is durable")
		_, _, err := l1.Append(data(1, 1, 10))
		require.ErrorIs(t, err, log.ErrReadOnly)
		require.Len(t, readAll(t, l1), 20, "reads go on")

		appendN(t, l2, 15, 10)
		l2.Flush(wire.LevelDisk)
		eventually(t, "other log", func() bool { return w2.durable() == 26 })
		require.NoError(t, w2.failed())
		require.Equal(t, 1, s.Stats().ReadOnly)
		require.Equal(t, uint64(1), s.Stats().Failures)

		// After a power cut the other log has everything, also what was written before the failure.
		disk = disk.Clone()
		_ = s.Close()
		s = open(t, small(disk))
		require.Equal(t, uint64(26), openLog(t, s, identity(2), log.Config{}).Positions().NextIndex)
		l1 = openLog(t, s, identity(1), log.Config{})
		require.GreaterOrEqual(t, l1.Positions().NextIndex, uint64(11))
		require.Zero(t, l1.Stats().Corrupt)
		appendN(t, l1, 30, 1)
		require.NoError(t, s.Close())
	}
}

func TestFailedSegmentMakesOnlyItsLogReadOnly(t *testing.T) {
	for _, op := range []faultfs.Op{
		faultfs.OpSync, faultfs.OpWriteOut, faultfs.OpStartOut, faultfs.OpWrite, faultfs.OpAllocate, faultfs.OpRename,
	} {
		for nth := range 3 {
			disk := faultfs.New()
			s := open(t, small(disk))
			l1, l2 := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
			appendN(t, l1, 0, 100)
			appendN(t, l2, 0, 100)
			require.NoError(t, s.Sync())
			disk.Fail(failOn(op, "/02010203", nth+1))
			err := s.Checkpoint()
			disk.Fail(nil)
			if err == nil {
				require.Zero(t, s.Stats().ReadOnly)
			} else {
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.True(t, l2.Stats().ReadOnly)
				_, _, err = l2.Append(data(1, 1, 10))
				require.ErrorIs(t, err, log.ErrReadOnly)
			}
			require.Len(t, readAll(t, l2), 100)
			appendN(t, l1, 100, 100)
			require.NoError(t, s.Checkpoint(), "a new file takes what the failed one did not")
			require.Len(t, readAll(t, l1), 200)
			disk = disk.Clone()
			_ = s.Close()
			s = open(t, small(disk))
			l2 = openLog(t, s, identity(2), log.Config{})
			require.Len(t, readAll(t, l2), 100)
			appendN(t, l2, 100, 1)
			require.NoError(t, s.Close())
		}
	}
}

func TestFailedCheckpointFileLosesNothing(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.OpSync, faultfs.OpWrite, faultfs.OpRename} {
		disk := faultfs.New()
		s := open(t, small(disk))
		l := openLog(t, s, identity(1), log.Config{})
		appendN(t, l, 0, 100)
		disk.Fail(failOn(op, "checkpoint", 1))
		require.ErrorIs(t, s.Checkpoint(), faultfs.ErrInjected)
		disk.Fail(nil)
		appendN(t, l, 100, 50)
		require.NoError(t, s.Checkpoint())
		require.Len(t, readAll(t, l), 150)
		require.NoError(t, s.Close())
		s = open(t, small(disk.Clone()))
		require.Len(t, readAll(t, openLog(t, s, identity(1), log.Config{})), 150)
		require.NoError(t, s.Close())
	}
}

// When the flush of the directory fails, a restart may find either checkpoint, also if the reason is a full disk. A second
// attempt that succeeds would prove nothing.
func TestAnUncertainCheckpointIsNotWrittenAgain(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 100)
	flushes := 0
	disk.Fail(func(op faultfs.Op, name string) error {
		if op != faultfs.OpSyncDir || name != "/data" {
			return nil
		}
		if flushes++; flushes > 1 {
			return nil
		}
		return syscall.ENOSPC
	})
	require.Error(t, s.Checkpoint())
	disk.Fail(nil)
	require.Equal(t, 1, flushes)
	_, _, err := l.Append(data(1, 1, 10))
	require.ErrorIs(t, err, log.ErrReadOnly)
	require.Len(t, readAll(t, l), 100, "reads go on")
	_ = s.Close()
}

func TestShortWritesAreNoticed(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	var w watcher
	l := openLog(t, s, identity(1), log.Config{Notify: w.notify})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Sync())
	disk.ShortWrites(true)
	for i := uint64(10); w.failed() == nil && i < 100; i++ {
		if _, _, err := l.Append(data(i, 1, 500)); err != nil {
			break
		}
		_ = s.Sync()
	}
	require.ErrorIs(t, w.failed(), log.ErrReadOnly)
	promised := l.Positions().DurableIndex
	after := disk.Clone()
	_ = s.Close()
	s = open(t, small(after))
	require.GreaterOrEqual(t, openLog(t, s, identity(1), log.Config{}).Positions().NextIndex, promised)
	require.NoError(t, s.Close())
}

func TestFullDiskRefusesDataAndHeals(t *testing.T) {
	disk := faultfs.New()
	disk.SetCapacity(600 << 10)
	s := open(t, small(disk))
	var w watcher
	l := openLog(t, s, identity(1), log.Config{Notify: w.notify})
	var err error
	n := uint64(0)
	for range 100_000 {
		if _, _, err = l.Append(data(n, 1, 1000)); err != nil {
			break
		}
		n++
		if n%4 == 0 {
			l.Flush(wire.LevelDisk)
			eventually(t, "flushed or full", func() bool { return w.durable() == n+1 || s.Stats().Full })
		}
	}
	require.ErrorIs(t, err, log.ErrFull)
	require.NoError(t, w.failed(), "a full disk is no failure")
	require.Len(t, readAll(t, l), int(n), "reads go on")
	_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 50)})
	require.NoError(t, err, "commits go on")

	disk.SetCapacity(0)
	eventually(t, "healed", func() bool { _, _, err := l.Append(data(n, 1, 1000)); return err == nil })
	require.NoError(t, s.Sync())
	require.Zero(t, s.Stats().ReadOnly)
	want := readAll(t, l)
	require.NoError(t, s.Close())
	s = open(t, small(disk.Clone()))
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	require.NoError(t, s.Close())
}

// Commits and settlements go on while the disk is full. They must not put off the look for space.
func TestAFullDiskHealsWhileStateIsWritten(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	require.NoError(t, s.Sync())
	disk.SetCapacity(1)
	eventually(t, "full", func() bool {
		_, _, err := l.Append(data(1, 1, 1000))
		l.Flush(wire.LevelDisk)
		return errors.Is(err, log.ErrFull)
	})
	disk.SetCapacity(0)
	eventually(t, "healed", func() bool {
		_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 50)})
		require.NoError(t, err)
		l.Flush(wire.LevelDisk)
		return !s.Stats().Full
	})
	require.NoError(t, s.Close())
}

func TestRetentionDropsFilesAlsoOfIdleLogs(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	var mu sync.Mutex
	now := time.UnixMilli(1_000_000)
	o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	o.RetentionInterval = time.Millisecond
	s := open(t, o)
	byAge := openLog(t, s, identity(1), log.Config{Retention: log.Retention{Age: time.Hour}})
	byBytes := openLog(t, s, identity(2), log.Config{Retention: log.Retention{Bytes: 40 << 10}})
	byCount := openLog(t, s, identity(3), log.Config{Retention: log.Retention{Count: 60}})
	for i := range uint64(300) {
		for _, l := range []*log.Log{byAge, byBytes, byCount} {
			b := data(i, 1, 1000)
			b.Time = o.Now().UnixMilli()
			_, _, err := l.Append(b)
			require.NoError(t, err)
		}
	}
	require.NoError(t, s.Checkpoint())
	eventually(t, "bytes", func() bool { st := byBytes.Stats(); return st.Bytes < 70<<10 && st.Bytes >= 40<<10 })
	eventually(t, "count", func() bool { st := byCount.Stats(); return st.Records < 100 && st.Records >= 60 })
	require.Equal(t, uint64(300), byAge.Stats().Records)
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	eventually(t, "age", func() bool { return byAge.Stats().Records == 0 })
	require.Equal(t, uint64(300), byAge.Positions().First)
	eventually(t, "unlinked", func() bool {
		for _, name := range disk.Names() {
			if strings.Contains(name, "/01010203") {
				return false
			}
		}
		return true
	})
	first := byBytes.Positions().First
	require.NoError(t, s.Close())
	s = open(t, o)
	byAge = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, uint64(300), byAge.Positions().Next, "offsets go on")
	require.Equal(t, first, openLog(t, s, identity(2), log.Config{}).Positions().First)
	require.NoError(t, s.Close())
}

func TestRecycledCommitFilesHideTheirFormerLife(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(40) {
		appendN(t, l, i*20, 20)
		require.NoError(t, s.Sync())
		if i%5 == 4 {
			require.NoError(t, s.Checkpoint())
		}
		if i%7 == 6 {
			want := readAll(t, l)
			after := disk.Clone()
			_ = s.Close()
			disk, o.FS = after, after
			s = open(t, o)
			l = openLog(t, s, identity(1), log.Config{})
			require.Equal(t, want, readAll(t, l))
			require.Zero(t, s.Stats().TornTails)
			require.Zero(t, s.Stats().Damage)
		}
	}
	commits := 0
	for _, name := range disk.Names() {
		if path.Dir(name) == "/data/commit" {
			commits++
		}
	}
	require.Less(t, commits, 10, fmt.Sprint(disk.Names()))
	require.NoError(t, s.Close())
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, small(faultfs.New()))
	var wg sync.WaitGroup
	for i := range 3 {
		var w watcher
		l := openLog(t, s, identity(byte(i)), log.Config{Notify: w.notify, Retention: log.Retention{Bytes: 1 << 20}})
		for k := range 2 {
			wg.Go(func() {
				for n := range uint64(1000) {
					_, _, err := l.Append(data(n, 1, 200))
					if errors.Is(err, log.ErrBusy) {
						time.Sleep(time.Millisecond)
						continue
					}
					require.NoError(t, err)
					if n%10 == 0 {
						l.Flush(wire.LevelOS + wire.Level(k))
					}
					if n%25 == 0 {
						l.FlushHere(wire.LevelDisk)
					}
				}
			})
		}
		wg.Go(func() {
			var c log.Chunk
			for offset := uint64(0); offset < 1500; {
				p := l.Positions()
				offset = max(offset, p.First)
				err := l.ReadCold(&c, offset, p.Next, 4<<10)
				if !errors.Is(err, log.ErrTruncated) {
					require.NoError(t, err)
				}
				for _, b := range c.Slices {
					for len(b) > 0 {
						e, rest, err := wire.ParseEntry(b, l.Identity().Seed())
						require.NoError(t, err)
						require.True(t, wire.PayloadOK(e.Payload))
						b = rest
					}
				}
				offset = max(offset, c.Next)
				c.Release()
				if s.Stats().Logs == 0 || l.Positions().Next >= 1900 && offset >= 1500 {
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			require.NoError(t, s.Checkpoint())
		}
	})
	wg.Wait()
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())
}

// A flush of the commit log fails. Before everything that was only at level os is written again the
// process is killed, at every step of that, also when it fails once more: nothing of it is lost,
// because the file whose flush failed counts until then.
func TestAKillBehindAFailedFlushLosesNothingOfLevelOS(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.OpSync, faultfs.OpWrite, faultfs.OpRename} {
		killed := 0
		for step := 1; killed == step-1; step++ {
			disk := faultfs.New()
			s, err := log.OpenStill(small(disk))
			require.NoError(t, err)
			var logs []*log.Log
			for i := range byte(6) {
				logs = append(logs, openLog(t, s, identity(i), log.Config{}))
			}
			for _, l := range logs[1:] {
				appendN(t, l, 0, 20) // together more than a file of the commit log
				l.Flush(wire.LevelOS)
				s.Round()
			}
			disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
			appendN(t, logs[0], 0, 3)
			logs[0].Flush(wire.LevelDisk)
			s.Round()
			require.Equal(t, uint64(1), s.Stats().Failures)
			disk.Fail(failOn(op, "/commit/", 1))
			disk.CrashAt(step)
			s.Round()
			s.Round()
			if disk.Dead() {
				killed++
			}
			disk = disk.Clone()
			s.Drop()

			s, err = log.OpenStill(small(disk))
			require.NoError(t, err)
			for i, l := range logs[1:] {
				l = openLog(t, s, l.Identity(), log.Config{})
				require.Equal(t, uint64(21), l.Positions().NextIndex, "log %d, killed at step %d", i+1, step)
				require.Zero(t, l.Stats().Corrupt)
			}
			require.Zero(t, s.Stats().Damage)
			require.NoError(t, s.Close())
		}
		require.Greater(t, killed, 5)
	}
}

// A flush fails, and the process is killed. The next one reads what the kernel still holds as if it were
// on the device; what it then says to be durable must survive a power cut.
func TestWhatAKillLeftOfAFailedFlushIsWrittenAgain(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := faultfs.New()
		s, err := log.OpenStill(small(disk))
		require.NoError(t, err)
		l, other := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
		appendN(t, l, 0, 10)
		require.NoError(t, s.Sync())
		appendN(t, l, 10, 10)
		l.Flush(wire.LevelOS)
		s.Round()
		disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
		appendN(t, other, 0, 3)
		other.Flush(wire.LevelDisk)
		s.Round()
		want := readAll(t, l)
		disk = disk.Clone()
		s.Drop()

		s, err = log.OpenStill(small(disk))
		require.NoError(t, err)
		l = openLog(t, s, identity(1), log.Config{})
		require.Equal(t, uint64(21), l.Positions().DurableIndex)
		disk = disk.PowerCut(rng)
		s.Drop()

		s, err = log.OpenStill(small(disk))
		require.NoError(t, err)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		require.Zero(t, s.Stats().Damage)
		s.Drop()
	}
}

// TestASegmentHasItsNameWhenItIsDurable cuts the power while a segment waits for its flush: what the flush would have
// made durable may be there or not, and is no damage.
func TestASegmentHasItsNameWhenItIsDurable(t *testing.T) {
	for seed := range uint64(20) {
		disk := faultfs.New()
		s, err := log.OpenStill(small(disk))
		require.NoError(t, err)
		appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 10)
		require.NoError(t, s.Sync())
		disk.Fail(failOn(faultfs.OpSync, "/partitions/", 1))
		require.ErrorIs(t, s.Checkpoint(), faultfs.ErrInjected)
		s.Drop()

		disk = disk.PowerCut(rand.New(rand.NewPCG(seed, 1)))
		report, err := log.VerifyFS(disk, "/data")
		require.NoError(t, err)
		require.Empty(t, report.Damage)
	}
}

// TestASegmentFoundWithoutACheckpointIsWrittenAgain fails to flush a segment, kills, and loses the checkpoint: the
// next start takes the segment from the page cache, and a checkpoint gives up what the commit log has of it.
func TestASegmentFoundWithoutACheckpointIsWrittenAgain(t *testing.T) {
	for seed := range uint64(20) {
		disk := faultfs.New()
		s, err := log.OpenStill(small(disk))
		require.NoError(t, err)
		l := openLog(t, s, identity(1), log.Config{})
		appendN(t, l, 0, 10)
		require.NoError(t, s.Sync())
		want := readAll(t, l)
		disk.Fail(failOn(faultfs.OpSync, "/partitions/", 1))
		require.ErrorIs(t, s.Checkpoint(), faultfs.ErrInjected)
		s.Drop()

		disk = disk.Clone()
		disk.Delete("/data/checkpoint")
		s, err = log.OpenStill(small(disk))
		require.NoError(t, err)
		l = openLog(t, s, identity(1), log.Config{})
		require.Equal(t, uint64(11), l.Positions().DurableIndex)
		require.NoError(t, s.Checkpoint())
		s.Drop()

		s, err = log.OpenStill(small(disk.PowerCut(rand.New(rand.NewPCG(seed, 1)))))
		require.NoError(t, err)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		s.Drop()
	}
}

// Too many open files are no failure of the disk: nothing becomes read-only, and all goes on when some are closed.
func TestTooManyOpenFilesPassByThemselves(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Sync())
	shortOf := func(part string) {
		disk.Fail(func(op faultfs.Op, name string) error {
			if op == faultfs.OpOpen && strings.Contains(name, part) {
				return syscall.EMFILE
			}
			return nil
		})
	}
	shortOf("/partitions/")
	require.ErrorIs(t, s.Checkpoint(), syscall.EMFILE)
	require.False(t, l.Stats().ReadOnly)
	disk.Fail(nil)
	require.NoError(t, s.Checkpoint())

	shortOf("/commit/")
	want := uint64(10)
	for ; !l.Stats().Full; want++ { // until the commit log needs another file
		if _, _, err := l.Append(data(want, 1, 8<<10)); err != nil {
			break
		}
		l.Flush(wire.LevelDisk)
	}
	require.False(t, l.Stats().ReadOnly)
	disk.Fail(nil)
	eventually(t, "durable", func() bool { return !l.Stats().Full && s.Sync() == nil })
	require.Len(t, readAll(t, l), int(l.Positions().NextIndex)-1)
	require.NoError(t, s.Close())
}

// A store without writers has no round that would find space again.
func TestAQuietStoreHealsFromAFullDisk(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.Hurry(time.Millisecond)
	o.CheckpointInterval = time.Hour
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 20)
	require.NoError(t, s.Sync())
	eventually(t, "quiet", s.Quiet)
	disk.Fail(noSpace(faultfs.OpSync, "/partitions/"))
	require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
	require.True(t, s.Stats().Full)
	disk.Fail(nil)
	eventually(t, "healed", func() bool { return !s.Stats().Full })
	require.NoError(t, s.Close())
}

// After a failed flush, what was written before goes to a new file, together with what the next round has. That is durable
// when the name of the file is, not before.
func TestARoundIsDurableWhenTheNameOfItsFileIs(t *testing.T) {
	// The file is created with the first flush, of itself and of its directory.
	for op, nth := range map[faultfs.Op]int{faultfs.OpRename: 1, faultfs.OpSyncDir: 2, faultfs.OpSync: 2} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l, other := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
		appendN(t, l, 0, 10)
		disk.Fail(failOn(faultfs.OpSync, "/commit/0000000000000001", 2)) // the first is of the new file
		l.Flush(wire.LevelDisk)
		s.Round()
		require.True(t, l.Stats().ReadOnly)
		appendN(t, other, 0, 10)
		other.Flush(wire.LevelDisk)
		disk.Fail(failOn(op, "/commit", nth))
		s.Round()
		disk.Fail(nil)
		require.Equal(t, uint64(1), other.Positions().DurableIndex, op)
		require.True(t, other.Stats().ReadOnly, op)
		s.Drop()
	}
}
