package log_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// eightLogs returns a store without goroutines that has 8 logs with as much to file each, in their order.
func eightLogs(t *testing.T, disk *faultfs.Disk) (*log.Store, []*log.Log) {
	o := small(disk)
	o.CommitFileBytes, o.CommitLogBytes = 1<<20, 4<<20
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	var logs []*log.Log
	for i := range 8 {
		l := openLog(t, s, identity(byte(i+1)), log.Config{})
		for n := range uint64(10) {
			_, _, err := l.Append(data(n, 1, 10_000))
			require.NoError(t, err)
		}
		l.Flush(wire.LevelOS)
		logs = append(logs, l)
	}
	s.Round()
	return s, logs
}

func unfiled(logs []*log.Log) (n []bool) {
	for _, l := range logs {
		n = append(n, l.Stats().Unfiled > 0)
	}
	return n
}

func TestAPartIsFiledAtATimeTheOldestFirst(t *testing.T) {
	s, logs := eightLogs(t, faultfs.New())
	all := s.Stats().CommitLogBytes
	require.Positive(t, all)

	require.NoError(t, s.FileOldest())
	require.Equal(t, []bool{false, false, true, true, true, true, true, true}, unfiled(logs))
	require.InDelta(t, float64(all)*3/4, s.Stats().CommitLogBytes, 10)

	// What came since is younger than what waited.
	_, _, err := logs[0].Append(data(10, 1, 300_000))
	require.NoError(t, err)
	require.NoError(t, s.FileOldest())
	require.Equal(t, []bool{true, false, false, false, false, true, true, true}, unfiled(logs))

	for range 3 {
		require.NoError(t, s.FileOldest())
	}
	require.Equal(t, make([]bool, 8), unfiled(logs))
	require.Zero(t, s.Stats().CommitLogBytes)
	require.NoError(t, s.Close())
}

func TestALogThatCannotBeFiledStandsInNobodysWay(t *testing.T) {
	disk := faultfs.New()
	s, logs := eightLogs(t, disk)
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpWrite && strings.Contains(name, "/01") {
			return errors.New("broken")
		}
		return nil
	})
	require.Error(t, s.FileOldest())
	for range 8 {
		_ = s.FileOldest() // the first log fails again
	}
	require.Equal(t, []bool{true, false, false, false, false, false, false, false}, unfiled(logs))
	require.Error(t, s.Close())
}

// Many logs that grow together take little more memory than they hold. A few get large slabs.
func TestManyLogsGetSmallSlabs(t *testing.T) {
	f := func(count int, least, most float64) {
		t.Helper()
		o := small(faultfs.New())
		o.MemoryBytes = 32 << 20
		s, err := log.OpenStill(o)
		require.NoError(t, err)
		defer s.Drop()
		held := 0
		for n := range uint64(50) {
			for i := range count {
				b := data(n, 1, 8000)
				_, _, err := openLog(t, s, identity(byte(i+1)), log.Config{}).Append(b)
				require.NoError(t, err)
				held += wire.StampBytes + len(b.Payload)
			}
			if n == 0 {
				require.NoError(t, s.Relieve())
			}
		}
		used := float64(s.Stats().MemoryUsed) / float64(held)
		require.GreaterOrEqual(t, used, least)
		require.LessOrEqual(t, used, most)
	}
	f(40, 1, 1.2) // pages of 64 KiB make them twice as large
	f(4, 2, 4)
}
