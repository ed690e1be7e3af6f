package log_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// killedWhileRecycling returns a disk as a kill leaves it while a checkpoint recycles commit log files: they are spares,
// which no flush of the directory has made durable. The open file has entries that were acknowledged, and no mark says so.
func killedWhileRecycling(t *testing.T) (disk *faultfs.Disk, entries int) {
	disk = faultfs.New()
	files := &renamingFS{FS: disk}
	o := small(disk)
	o.FS = files
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	defer s.Drop()
	l := openLog(t, s, identity(1), log.Config{})
	for len(commitFiles(disk)) < 3 {
		appendN(t, l, l.Positions().Next, 10)
		require.NoError(t, s.Sync())
	}
	recycling, killed := false, false
	files.hook = func() {
		recycling = true
		appendN(t, l, l.Positions().Next, 10)
		require.NoError(t, l.Sync())
	}
	disk.Fail(func(op faultfs.Op, name string) error {
		if killed = killed || recycling && op == faultfs.OpSyncDir && name == "/data/commit"; killed {
			return faultfs.ErrInjected
		}
		return nil
	})
	require.NoError(t, s.Checkpoint())
	require.True(t, killed)
	require.NotEmpty(t, spareFiles(disk))
	return disk.Clone(), int(l.Positions().NextIndex - 1)
}

// A start does not write to a spare whose name may not be durable: after a power loss the file could be there under its old
// name, with a header that takes back what is in others.
func TestASpareOfAKilledBrokerLosesNothing(t *testing.T) {
	base, want := killedWhileRecycling(t)
	for crash := 1; ; crash++ {
		disk := base.Clone()
		disk.CrashAt(crash)
		if s, err := log.OpenStill(small(disk)); err == nil {
			s.Drop()
		}
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(crash, seed), func(t *testing.T) {
				s, _, got, _ := survivors(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 9))), identity(1))
				defer s.Drop()
				require.Equal(t, want, len(got))
				require.Zero(t, s.Stats().Damage)
			})
		}
		if !disk.Dead() {
			return
		}
	}
}

// shortFS is a file system for a process that has too many files open when somebody opens a spare.
type shortFS struct {
	log.FS
	short atomic.Bool
}

func (f *shortFS) Open(name string, write, create bool) (log.File, error) {
	if f.short.Load() && path.Ext(name) == ".spare" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.Open(name, write, create)
}

// A spare that could not be opened because too many files are open is used later.
func TestASpareThatCannotBeOpenedIsUsedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.New()
		files := &shortFS{FS: disk}
		o := small(disk)
		o.FS = files
		s := open(t, o)
		l := openLog(t, s, identity(1), log.Config{})
		fill := func(done func() bool) {
			for n := 0; !done(); n++ {
				require.Less(t, n, 100)
				appendN(t, l, l.Positions().Next, 10)
				_ = s.Sync() // it is tried again
				synctest.Wait()
			}
		}
		fill(func() bool { return len(commitFiles(disk)) == 3 })
		require.NoError(t, s.Checkpoint())
		spares := spareFiles(disk)
		require.NotEmpty(t, spares)
		files.short.Store(true)
		fill(func() bool { return s.Sync() != nil })
		require.Equal(t, spares, spareFiles(disk))
		files.short.Store(false)
		time.Sleep(time.Second)
		fill(func() bool {
			return !slices.ContainsFunc(spareFiles(disk), func(name string) bool { return slices.Contains(spares, name) })
		})
		require.NoError(t, s.Close())
	})
}
