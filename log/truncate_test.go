package log_test

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// cuttable returns a store with three logs, each with entries in files and in memory only, and cuts of them: one of all
// records, one in the middle of the files, one behind them.
func cuttable(t *testing.T, disk *faultfs.Disk) (*log.Store, []log.Cut) {
	t.Helper()
	s := openStill(t, disk)
	var cuts []log.Cut
	for i := range byte(3) {
		l := openLog(t, s, identity(1+i), log.Config{})
		appendN(t, l, 0, 60)
		cuts = append(cuts, log.Cut{Log: l, Before: l.Positions().Next / 2})
	}
	require.NoError(t, s.Checkpoint())
	for i := range cuts {
		appendN(t, cuts[i].Log, 60, 20)
	}
	require.NoError(t, s.Sync())
	cuts[0].Before, cuts[2].Before = cuts[0].Log.Positions().Next, cuts[2].Log.Positions().Next-1
	return s, cuts
}

// At whatever call of the file system a kill or a power cut ends Truncate, each log has all of its records or those
// that are not cut. When it had returned, none is back.
func TestACrashDuringATruncationOfSeveralLogs(t *testing.T) {
	for _, power := range []bool{false, true} {
		for crash, dead := 1, true; dead; crash++ {
			disk := faultfs.New()
			s, cuts := cuttable(t, disk)
			next := cuts[0].Log.Positions().Next
			disk.CrashAt(crash)
			err := s.Truncate(cuts...)
			dead = disk.Dead()
			if !dead {
				require.NoError(t, err)
				require.Greater(t, crash, 20)
			}
			disk.CrashAt(1 << 30)
			if power {
				disk = disk.PowerCut(rand.New(rand.NewPCG(uint64(crash), 0)))
			} else {
				disk = disk.Clone()
			}
			s.Drop()
			s = openStill(t, disk)
			for i, c := range cuts {
				l := openLog(t, s, c.Log.Identity(), log.Config{})
				p := l.Positions()
				require.Equal(t, next, p.Next)
				if p.First != 0 || err == nil {
					require.Equal(t, c.Before, p.First, "log %d, crash at call %d", i, crash)
				}
				readAll(t, l)
			}
			require.Zero(t, s.Stats().Damage)
			require.NoError(t, s.Close())
		}
	}
}

// Truncations that wait for another one are done together.
func TestTruncationsThatWaitShareTheirCheckpoints(t *testing.T) {
	const waiting = 12
	disk := faultfs.New()
	s := openStill(t, disk)
	var cuts []log.Cut
	for i := range byte(1 + waiting) {
		l := openLog(t, s, identity(1+i), log.Config{})
		appendN(t, l, 0, 60)
		cuts = append(cuts, log.Cut{Log: l, Before: l.Positions().Next / 2})
	}
	var wg sync.WaitGroup
	var once sync.Once
	disk.Fail(func(op faultfs.Op, name string) error {
		if op != faultfs.OpSync || !strings.HasSuffix(name, "checkpoint.tmp") {
			return nil
		}
		once.Do(func() { // during the checkpoint of the first one
			for _, c := range cuts[1:] {
				wg.Go(func() {
					if err := c.Log.TruncatePrefix(c.Before); err != nil {
						t.Error(err)
					}
				})
			}
			for s.Cutting() < waiting {
				runtime.Gosched()
			}
		})
		return nil
	})
	before := s.Stats().Checkpoints
	require.NoError(t, s.Truncate(cuts[0]))
	wg.Wait()
	require.LessOrEqual(t, s.Stats().Checkpoints-before, uint64(4), "two for the first one, two for all others")
	s.Drop()
	s = openStill(t, disk.Clone())
	for _, c := range cuts {
		require.Equal(t, c.Before, openLog(t, s, c.Log.Identity(), log.Config{}).Positions().First)
	}
	require.NoError(t, s.Close())
}

// A cut that cannot be made is no reason not to make the others, and is the error of its own call only.
func TestATruncationWithACutThatCannotBeMade(t *testing.T) {
	s, cuts := cuttable(t, faultfs.New())
	require.NoError(t, s.RemoveLogs(cuts[1].Log.Identity()))
	require.ErrorIs(t, s.Truncate(cuts...), log.ErrClosed)
	for _, i := range []int{0, 2} {
		require.Equal(t, cuts[i].Before, cuts[i].Log.Positions().First)
	}
	cuts[0].Before++
	require.ErrorIs(t, s.Truncate(cuts[0]), log.ErrOutOfRange)
	require.NoError(t, s.Truncate())
	require.NoError(t, s.Close())
}

// Who asks for something while many logs are filed does not wait for all of them, and they are filed all the same.
func TestWhoAsksIsLetInBetween(t *testing.T) {
	const logs = 1500
	for what, ask := range map[string]func(s *log.Store, l *log.Log) error{
		"purge":    func(_ *log.Store, l *log.Log) error { return l.TruncatePrefix(l.Positions().Next) },
		"deletion": func(s *log.Store, l *log.Log) error { return s.RemoveLogs(l.Identity()) },
	} {
		t.Run(what, func(t *testing.T) {
			disk := faultfs.New()
			o := small(disk)
			o.MemoryBytes = 64 << 20
			s, err := log.OpenStill(o)
			require.NoError(t, err)
			var all []*log.Log
			for i := range uint32(logs) {
				all = append(all, openLog(t, s, wire.Identity{Topic: [16]byte{1}, Partition: i}, log.Config{}))
				appendN(t, all[i], 0, 1)
			}
			gone := openLog(t, s, identity(2), log.Config{})
			appendN(t, gone, 0, 1)
			var wg sync.WaitGroup
			var once sync.Once
			var filed, before atomic.Int64
			disk.Fail(func(op faultfs.Op, name string) error {
				if op != faultfs.OpSync || !strings.Contains(name, "/partitions/") {
					return nil
				}
				filed.Add(1)
				once.Do(func() {
					wg.Go(func() {
						if err := ask(s, gone); err != nil {
							t.Error(err)
						}
						before.Store(filed.Load())
					})
					for s.Asking() == 0 {
						runtime.Gosched()
					}
				})
				return nil
			})
			require.NoError(t, s.Checkpoint())
			wg.Wait()
			require.Less(t, before.Load(), int64(logs), "when the one who asked had an answer, some were not filed")
			require.False(t, slices.ContainsFunc(all, (*log.Log).Dirty))
			require.NoError(t, s.Close())
		})
	}
}

func TestBytesBelowAreThoseThatATruncationGivesBack(t *testing.T) {
	s, cuts := cuttable(t, faultfs.New())
	memory, err := log.Open(log.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, memory.Close()) })
	only := openLog(t, memory, identity(9), log.Config{})
	appendN(t, only, 0, 60)
	require.NoError(t, s.Sync())
	for _, l := range []*log.Log{cuts[0].Log, only} {
		held, next := l.Stats().Bytes, l.Positions().Next
		require.Zero(t, l.BytesBelow(0))
		below := l.BytesBelow(next)
		require.Greater(t, below, held/2)
		require.LessOrEqual(t, l.BytesBelow(next-1), below)
		require.NoError(t, l.TruncatePrefix(next))
		require.InDelta(t, held-below, l.Stats().Bytes, float64(held)/4)
	}
}
