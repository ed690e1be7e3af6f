package log_test

import (
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// spareFiles returns the names of commit log files that are ready to be used again.
func spareFiles(disk *faultfs.Disk) (names []string) {
	for _, name := range disk.Names() {
		if path.Ext(name) == ".spare" {
			names = append(names, name)
		}
	}
	return names
}

// A commit log file whose new name may not be durable is not written to: after a power loss it could be there under the
// old one. Nor does it take space.
func TestASpareWhoseNameIsNotDurableIsNotUsed(t *testing.T) {
	for _, failing := range []bool{false, true} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		fill := func(from uint64) { // more than a file
			t.Helper()
			for i := range uint64(10) {
				appendN(t, l, from+10*i, 10)
				require.NoError(t, s.Sync())
			}
		}
		fill(0)
		require.Greater(t, len(commitFiles(disk)), 1)
		if failing {
			disk.Fail(failOn(faultfs.OpSyncDir, "/data/commit", 1))
		}
		require.NoError(t, s.Checkpoint())
		disk.Fail(nil)
		before := spareFiles(disk)
		require.Equal(t, failing, len(before) == 0)
		fill(100)
		require.True(t, failing || len(spareFiles(disk)) < len(before))
		want := readAll(t, l)
		for seed := range uint64(8) {
			s, _, got, _ := survivors(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 9))), identity(1))
			require.Len(t, got, len(want))
			require.Zero(t, s.Stats().Damage)
			s.Drop()
		}
		s.Drop()
	}
}

// A commit log file that is not needed any more, and cannot be renamed or removed, is so by the next checkpoint.
func TestACommitFileThatStaysIsRecycledLater(t *testing.T) {
	for _, op := range []faultfs.Op{faultfs.OpRename, faultfs.OpRemove} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		for len(commitFiles(disk)) < 8 { // more than are kept as spares
			appendN(t, l, l.Positions().Next, 10)
			require.NoError(t, s.Sync())
		}
		failed := 0
		disk.Fail(func(o faultfs.Op, name string) error {
			if o == op && path.Dir(name) == "/data/commit" {
				failed++
				return syscall.EIO
			}
			return nil
		})
		require.NoError(t, s.Checkpoint())
		require.Positive(t, failed)
		require.Greater(t, len(commitFiles(disk)), 1)
		disk.Fail(nil)
		appendN(t, l, l.Positions().Next, 1)
		require.NoError(t, s.Checkpoint())
		require.Len(t, commitFiles(disk), 1)
		require.Len(t, spareFiles(disk), 5)
		require.NoError(t, s.Close())
	}
}

// Files that never counted must be gone for good before the next segment gets its name: among later ones they would seem
// to count.
func TestALeftoverWhoseRemovalIsNotDurableStopsTheNextSegment(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 40)
	full := false
	disk.Fail(func(op faultfs.Op, name string) error {
		if full = full || op == faultfs.OpRename && strings.Contains(name, "/partitions/"); full {
			return syscall.ENOSPC // the file before has its name by then
		}
		return nil
	})
	require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
	disk.Fail(nil)
	var steps []faultfs.Op
	watch := func(failing bool) {
		steps = nil
		disk.Fail(func(op faultfs.Op, name string) error {
			if strings.Contains(name, "/partitions/") {
				steps = append(steps, op)
			}
			if failing && op == faultfs.OpSyncDir {
				failing = false
				return syscall.EIO
			}
			return nil
		})
	}
	watch(true)
	require.ErrorIs(t, s.Checkpoint(), syscall.EIO)
	require.NotContains(t, steps, faultfs.OpOpen)
	watch(false)
	require.NoError(t, s.Checkpoint())
	require.NotEqual(t, -1, strings.Index(join(steps), "remove"))
	require.Less(t, strings.Index(join(steps), "syncdir"), strings.Index(join(steps), "open"))
	disk.Fail(nil)
	want := readAll(t, l)
	s.Drop()
	for seed := range uint64(8) {
		s, _, got, _ := survivors(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 9))), identity(1))
		require.Len(t, got, len(want))
		s.Drop()
	}
}

func join(steps []faultfs.Op) string {
	var b strings.Builder
	for _, op := range steps {
		b.WriteString(string(op) + " ")
	}
	return b.String()
}
