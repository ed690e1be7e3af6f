package log_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// manyLogs opens n logs with an entry each, of which every second one is only in memory.
func manyLogs(t *testing.T, s *log.Store, n int) (logs []*log.Log) {
	for i := range n {
		l := openLog(t, s, wire.Identity{Topic: [16]byte{1}, Partition: uint32(i)}, log.Config{})
		appendN(t, l, 0, 1)
		if i%2 == 0 {
			l.Ask(wire.LevelDisk)
		}
		logs = append(logs, l)
	}
	s.Round()
	return logs
}

// A stop does not wait for a flush of each of many files: the commit log has what is in them.
func TestAStopWithManyPartitionsIsNotSlow(t *testing.T) {
	flushes := func(n int) (flushes int, disk *faultfs.Disk) {
		disk = faultfs.New()
		o := small(disk)
		o.MemoryBytes, o.CommitFileBytes, o.CommitLogBytes = 128<<20, 1<<20, 4<<20
		s := open(t, o)
		manyLogs(t, s, n)
		disk.Fail(func(op faultfs.Op, _ string) error {
			if op == faultfs.OpSync || op == faultfs.OpSyncDir {
				flushes++
			}
			return nil
		})
		require.NoError(t, s.Close())
		return flushes, disk
	}
	few, disk := flushes(20)
	require.Len(t, segmentFiles(disk), 20, "a next start has nothing to replay")
	many, disk := flushes(1000)
	require.Less(t, many, few)
	require.Empty(t, segmentFiles(disk))
	s := openStill(t, disk)
	for _, id := range s.Logs() {
		require.Len(t, readAll(t, openLog(t, s, id, log.Config{})), 1)
	}
	require.Len(t, s.Logs(), 1000)
	require.Zero(t, s.Stats().Damage)
	s.Drop()
}

// A stop does not wait for a checkpoint of many files either, or of many segments of one log, that has begun before.
func TestAStopEndsACheckpoint(t *testing.T) {
	for name, fill := range map[string]func(t *testing.T, s *log.Store) int{
		"many new logs": func(t *testing.T, s *log.Store) int { return len(manyLogs(t, s, 1000)) },
		"many logs": func(t *testing.T, s *log.Store) int {
			logs := manyLogs(t, s, 500)
			require.NoError(t, s.Checkpoint())
			for _, l := range logs {
				appendN(t, l, 1, 1)
			}
			return len(logs)
		},
		"one log": func(t *testing.T, s *log.Store) int {
			l := openLog(t, s, identity(1), log.Config{SegmentBytes: 4 << 10})
			for i := range uint64(1000) {
				_, _, err := l.Append(data(i, 1, 4<<10))
				require.NoError(t, err)
			}
			require.NoError(t, s.Sync())
			return 1000
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := faultfs.New()
			o := small(disk)
			o.MemoryBytes, o.CommitFileBytes, o.CommitLogBytes = 128<<20, 1<<20, 64<<20
			s := open(t, o)
			files := fill(t, s)
			require.Less(t, opensOfAStop(t, disk, s), files/2)

			s = openStill(t, disk)
			entries := 0
			for _, id := range s.Logs() {
				entries += len(readAll(t, openLog(t, s, id, log.Config{})))
			}
			require.Equal(t, 1000, entries)
			require.Zero(t, s.Stats().ReadOnly)
			require.NoError(t, s.Checkpoint())
			s.Drop()
			report, err := log.VerifyFS(disk, "/data")
			require.NoError(t, err)
			require.True(t, report.OK(), "%v", report.Damage)
		})
	}
}

// opensOfAStop begins a checkpoint, and stops the store when that has opened 100 segments. It returns how many it opens.
func opensOfAStop(t *testing.T, disk *faultfs.Disk, s *log.Store) int {
	var opened atomic.Int64
	begun, stopping := make(chan struct{}), make(chan struct{})
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpOpen && strings.Contains(name, ".seg") && opened.Add(1) == 100 {
			close(begun)
			<-stopping
		}
		return nil
	})
	var wg sync.WaitGroup
	var filed, closed error
	wg.Go(func() { filed = s.Checkpoint() })
	<-begun
	wg.Go(func() { closed = s.Close() })
	eventually(t, "stopping", s.Stopping)
	close(stopping)
	wg.Wait()
	require.ErrorIs(t, filed, log.ErrClosed)
	require.NoError(t, closed)
	return int(opened.Load())
}

// A stop of a store that is quiet has nothing to flush: the mark behind the last chunk says so.
func TestAStopOfAQuietStoreFlushesNothing(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 10, 1)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Checkpoint())
	s.Mark()
	calls := disk.Calls()
	require.NoError(t, s.Close())
	require.Equal(t, calls, disk.Calls())
	s = openStill(t, disk)
	require.Len(t, readAll(t, openLog(t, s, identity(1), log.Config{})), 11)
	require.NoError(t, s.Close())
}
