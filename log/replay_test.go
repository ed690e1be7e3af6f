package log_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// TestAReplayThatRunsOutOfMemoryKeepsItsChunks restarts with less memory than the commit log has
// entries: a part of a chunk is filed during the replay, the rest later. The chunk must stay until then.
func TestAReplayThatRunsOutOfMemoryKeepsItsChunks(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.CommitFileBytes, o.CommitLogBytes = 4<<20, 64<<20
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	busy, other := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, other, 0, 10)
	require.NoError(t, s.Sync())
	appendN(t, busy, 0, 3000)
	require.NoError(t, s.Sync())
	appendN(t, busy, 3000, 1) // its chunk says that those before are durable, so nobody writes them again
	require.NoError(t, s.Sync())
	want, next := readAll(t, busy), busy.Positions().NextIndex
	s.Drop()

	o.MemoryBytes = 1 << 20
	disk = disk.Clone()
	o.FS = disk
	s, err = log.OpenStill(o)
	require.NoError(t, err)
	require.Equal(t, next, openLog(t, s, identity(1), log.Config{}).Positions().DurableIndex)
	other = openLog(t, s, identity(2), log.Config{})
	require.NoError(t, other.TruncatePrefix(3)) // a checkpoint that files this log only
	cut := disk.PowerCut(rand.New(rand.NewPCG(1, 1)))
	s.Drop()

	o.FS, o.MemoryBytes = cut, 8<<20
	s, err = log.OpenStill(o)
	require.NoError(t, err)
	busy = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, next, busy.Positions().NextIndex)
	require.Equal(t, want, readAll(t, busy))
	s.Drop()
}

// TestWhatATearCutStaysCut tears the chunk of one log, with a chunk of another log behind it. Then the
// first log is filed past the tear, and the process dies before it writes to the commit log.
func TestWhatATearCutStaysCut(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	torn, behind := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, behind, 0, 5)
	require.NoError(t, s.Sync())
	for _, l := range []*log.Log{torn, behind} {
		appendN(t, l, 10, 5)
		l.Flush(wire.LevelOS)
		s.Round()
	}
	s.Drop()
	disk = disk.Clone()
	tearChunk(t, disk, identity(1), 0)

	reopen := func() (torn, behind *log.Log) {
		o := small(disk)
		s, err = log.OpenStill(o)
		require.NoError(t, err)
		return openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	}
	torn, behind = reopen()
	require.Equal(t, uint64(6), behind.Positions().NextIndex)
	require.Zero(t, torn.Positions().Next)
	appendN(t, torn, 20, 9)
	require.NoError(t, torn.TruncatePrefix(3)) // a checkpoint that files this log only
	s.Drop()
	disk = disk.Clone()
	torn, behind = reopen()
	require.Equal(t, uint64(6), behind.Positions().NextIndex)
	require.Equal(t, uint64(10), torn.Positions().NextIndex)
	s.Drop()
}

// TestATearOnAFullDiskIsCutToo has no room for the file that says so: the store opens and takes no data.
func TestATearOnAFullDiskIsCutToo(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 5)
	l.Flush(wire.LevelOS)
	s.Round()
	s.Drop()
	disk = disk.Clone()
	tearChunk(t, disk, identity(1), 0)
	disk.Delete("/data/commit/reserve")
	disk.SetCapacity(disk.Used())
	s, err = log.OpenStill(small(disk))
	require.NoError(t, err)
	l = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, uint64(1), l.Positions().NextIndex)
	_, _, err = l.Append(data(1, 1, 100))
	require.ErrorIs(t, err, log.ErrFull)
	s.Drop()
}

// TestATearInWhatIsWrittenAgainTakesNothingAway fails to begin a commit log file when the one before is
// durable already. The log of the round before writes its entries again, and of those the first is torn.
func TestATearInWhatIsWrittenAgainTakesNothingAway(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l, other := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, l, 0, 10)
	l.Flush(wire.LevelOS)
	s.Round()
	want := readAll(t, l)
	_, _, err = other.Append(data(10, 1, 40<<10))
	require.NoError(t, err)
	other.Flush(wire.LevelDisk)
	disk.Fail(failOn(faultfs.OpOpen, "/commit/", 1))
	s.Round()
	require.True(t, other.Stats().ReadOnly)
	disk.Fail(nil)
	s.Round()
	s.Drop()
	disk = disk.Clone()
	tearChunk(t, disk, identity(1), 1)
	for range 3 {
		s, err = log.OpenStill(small(disk))
		require.NoError(t, err)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		s.Drop()
		disk = disk.Clone()
	}
}

// tearChunk damages the first entry of a log's nth chunk in the commit log, counted from 0.
func tearChunk(t *testing.T, disk *faultfs.Disk, id wire.Identity, nth int) {
	for it, err := range log.InspectFS(disk, "/data") {
		require.NoError(t, err)
		if it.Kind != log.ItemChunk || it.Identity != id {
			continue
		}
		if nth--; nth < 0 {
			name := "/data/" + it.Path
			b := disk.Bytes(name)
			b[it.Pos+160] ^= 1 // behind the header of the chunk and the stamp of the entry
			disk.SetBytes(name, b)
			return
		}
	}
	require.Fail(t, "no chunk")
}

// shrinkingFS cuts commit log files short once a start has seen their size.
type shrinkingFS struct {
	log.FS
	size int64
}

func (f *shrinkingFS) Open(name string, write, create bool) (log.File, error) {
	file, err := f.FS.Open(name, write, create)
	if err != nil || write || path.Ext(name) != ".log" {
		return file, err
	}
	return &shortFile{file, f.size}, nil
}

type shortFile struct {
	log.File
	size int64
}

func (f *shortFile) ReadAt(b []byte, pos int64) (int, error) {
	n, err := f.File.ReadAt(b[:max(0, min(int64(len(b)), f.size-pos))], pos)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// A commit log file that is cut short while a start reads it is damaged from there on.
func TestACommitFileThatShrinksWhileItIsRead(t *testing.T) {
	for _, size := range []int64{100, 4 << 10, 9000} {
		disk := faultfs.New()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		appendN(t, l, 0, 40)
		require.NoError(t, s.Sync())
		want := readAll(t, l)
		s.Drop()
		var out bytes.Buffer
		o := small(disk)
		o.FS, o.Logger = &shrinkingFS{disk, size}, slog.New(slog.NewTextHandler(&out, nil))
		s, err := log.OpenStill(o)
		require.NoError(t, err)
		require.Positive(t, s.Stats().Damage)
		require.Contains(t, out.String(), fmt.Sprintf("path=%s pos=%d ", commitFiles(disk)[0], size))
		got := readAll(t, openLog(t, s, identity(1), log.Config{}))
		require.Equal(t, size > 4<<10, len(got) > 0)
		require.Less(t, len(got), len(want))
		for i := range got {
			require.Equal(t, want[i], got[i])
		}
		s.Drop()
	}
}
