package log_test

import (
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// handleFS knows which files are open.
type handleFS struct {
	log.FS
	mu   sync.Mutex
	open map[string]int // by name at the time of opening
}

func (h *handleFS) Open(name string, write, create bool) (log.File, error) {
	f, err := h.FS.Open(name, write, create)
	return h.watch(name, f, err)
}

func (h *handleFS) OpenDirect(name string) (log.File, error) {
	f, err := h.FS.OpenDirect(name)
	return h.watch(name, f, err)
}

func (h *handleFS) watch(name string, f log.File, err error) (log.File, error) {
	if err != nil {
		return nil, err
	}
	h.add(name, 1)
	return &handle{File: f, closed: func() { h.add(name, -1) }}, nil
}

func (h *handleFS) add(name string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[name] += n
}

// count returns how many files are open whose paths hold part.
func (h *handleFS) count(part string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, k := range h.open {
		if strings.Contains(name, part) {
			n += k
		}
	}
	return n
}

type handle struct {
	log.File
	closed func()
}

func (h *handle) Close() error {
	h.closed()
	return h.File.Close()
}

// TestFilesAreClosed takes a store through whatever opens files. One that stays open keeps its space on the disk when it
// is removed, and there may be only so many.
func TestFilesAreClosed(t *testing.T) {
	disk := faultfs.New()
	h := &handleFS{FS: disk, open: map[string]int{}}
	o := small(disk)
	o.FS = h
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	a, b := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	for i := range uint64(6) { // several commit log files
		appendN(t, a, i*40, 40)
		appendN(t, b, i*40, 40)
		require.NoError(t, s.Sync())
		require.LessOrEqual(t, h.count("/commit/"), 2, "one file, opened twice")
	}
	for _, op := range []faultfs.Op{faultfs.OpWrite, faultfs.OpSync} {
		disk.Fail(func(o faultfs.Op, name string) error {
			if o == op && strings.Contains(name, "/partitions/") {
				return syscall.EMFILE
			}
			return nil
		})
		require.Error(t, s.Checkpoint())
		disk.Fail(nil)
		require.Zero(t, h.count("/partitions/"), "of a checkpoint that failed")
	}
	require.NoError(t, s.Checkpoint())
	require.Zero(t, h.count("/partitions/"))
	s.Forget()
	require.Len(t, readAll(t, a), 240)
	require.NotZero(t, h.count(log.DirOf(a.Identity())), "for the next reader")
	require.NoError(t, s.RemoveLogs(a.Identity()))
	require.Zero(t, h.count(log.DirOf(a.Identity())))

	appendN(t, b, 240, 10)
	disk.Fail(failOn(faultfs.OpSync, "/commit/", 1))
	b.Flush(wire.LevelDisk)
	s.Round()
	disk.Fail(nil)
	require.True(t, b.Stats().ReadOnly)
	require.Zero(t, h.count("/commit/"), "of the file whose flush failed")
	s.Round()
	require.NoError(t, s.Close())
	require.Zero(t, h.count("/"))
}
