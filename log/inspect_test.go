package log_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

func TestInspectFindsEveryEntry(t *testing.T) {
	disk, all := damagedDisk(t)
	seen := map[uint64]bool{}
	kinds := map[log.ItemKind]int{}
	for it, err := range log.InspectFS(disk, "/data") {
		require.NoError(t, err)
		kinds[it.Kind]++
		if it.Kind == log.ItemEntry {
			require.Equal(t, all[it.Index-1].Stamp, it.Stamp)
			seen[it.Index] = true
		}
	}
	require.Len(t, seen, len(all))
	require.Zero(t, kinds[log.ItemDamage])
	require.Equal(t, 1, kinds[log.ItemCheckpoint])
	require.Equal(t, 1, kinds[log.ItemLog])
	require.GreaterOrEqual(t, kinds[log.ItemSegment], 2)
	require.Greater(t, kinds[log.ItemChunk], 2)

	n := 0
	for range log.InspectFS(disk, "/data") {
		if n++; n == 3 {
			break
		}
	}
}

// What is only in the commit log counts once, whatever a checkpoint has put into segments of the rest.
func TestVerifyCountsWhatNoSegmentHolds(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	a, b := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	count := func(records, waiting uint64) {
		t.Helper()
		require.NoError(t, s.Sync())
		r, err := log.VerifyFS(disk.Clone(), "/data")
		require.NoError(t, err)
		require.True(t, r.OK(), r.Damage)
		require.Equal(t, records, r.Records)
		require.Equal(t, waiting, r.Waiting)
	}
	offset := func(l *log.Log) uint64 { return l.Positions().Next }
	count(0, 0)
	appendN(t, a, 0, 10)
	appendN(t, b, 0, 3)
	count(0, offset(a)+offset(b))
	require.NoError(t, s.Checkpoint())
	segments := offset(a) + offset(b)
	count(segments, 0)
	appendN(t, b, 3, 5)
	count(segments, offset(a)+offset(b)-segments)
	require.NoError(t, s.Close())
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.Equal(t, offset(a)+offset(b), r.Records)
	require.Zero(t, r.Waiting)
}

func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	disk, _ := damagedDisk(t)
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.True(t, r.OK(), r.Damage)
	require.NotZero(t, r.Chunks)
	require.NotZero(t, r.Entries)
	for it, err := range log.InspectFS(disk, "/data") {
		require.NoError(t, err)
		if it.Kind != log.ItemEntry || !it.Counted {
			continue
		}
		flipped := disk.Clone()
		b := flipped.Bytes("/data/" + it.Path)
		b[it.Pos+it.Bytes/2] ^= 4
		flipped.SetBytes("/data/"+it.Path, b)
		r, err := log.VerifyFS(flipped, "/data")
		require.NoError(t, err)
		require.Len(t, r.Damage, 1)
		require.Equal(t, it.Path, r.Damage[0].Path)
	}
}

func TestInspectAnEmptyDirectory(t *testing.T) {
	r, err := log.Verify(t.TempDir())
	require.NoError(t, err)
	require.False(t, r.OK(), "there is no checkpoint")
}

// A segment to which a write failed has no footer, and may have anything at its end. Its entries continue in the next
// one: nothing is damaged.
func TestAFailedWriteOfASegmentIsNoDamage(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	segments := func(d *faultfs.Disk) (names []string) {
		for _, name := range d.Names() {
			if strings.HasSuffix(name, ".seg") {
				names = append(names, name)
			}
		}
		return names
	}
	failed := segments(disk)[0]
	appendN(t, l, 10, 5)
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpWrite && name == failed {
			return syscall.EIO
		}
		return nil
	})
	require.ErrorIs(t, s.Checkpoint(), syscall.EIO)
	disk.Fail(nil)
	torn := func(want int) {
		t.Helper()
		r, err := log.VerifyFS(disk, "/data")
		require.NoError(t, err)
		require.Empty(t, r.Damage)
		require.Equal(t, want, r.Torn)
	}
	require.NoError(t, s.Checkpoint())
	require.Len(t, segments(disk), 2)
	b := disk.Bytes(failed)
	for i := len(b) - 60; i < len(b); i++ { // what the failed write may have left
		b[i] = byte(i)
	}
	disk.SetBytes(failed, b)
	torn(1)
	_ = s.Close()
	torn(1)

	s, err = log.OpenStill(small(disk))
	require.NoError(t, err)
	l = openLog(t, s, identity(1), log.Config{})
	require.Len(t, readAll(t, l), 15)
	require.Zero(t, s.Stats().Damage)
	require.Zero(t, l.Stats().Corrupt)
	appendN(t, l, 15, 5)
	require.NoError(t, s.Close())
	torn(1)

	// A missing entry is damage.
	disk.SetBytes(failed, b[:1<<10])
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.NotEmpty(t, r.Damage)
	s, err = log.OpenStill(small(disk))
	require.NoError(t, err)
	var c log.Chunk
	_ = openLog(t, s, identity(1), log.Config{}).ReadCold(&c, 0, 10, 64<<10)
	c.Release()
	require.NotZero(t, s.Stats().Damage)
	s.Drop()
}

// A segment whose footer was cleared has all of its entries. Verify names it, and the store says so once.
func TestASegmentWithoutItsFooterIsNamed(t *testing.T) {
	disk, all := damagedDisk(t)
	name := ""
	for it, err := range log.InspectFS(disk, "/data") {
		require.NoError(t, err)
		if it.Kind == log.ItemSegment && it.Sealed && name == "" {
			name = "/data/" + it.Path
		}
	}
	b := disk.Bytes(name)
	end := binary.LittleEndian.Uint64(b[len(b)-72:])
	clear(b[end:])
	disk.SetBytes(name, b)
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.True(t, r.OK())
	require.Equal(t, 1, r.Torn)
	require.Len(t, r.Unsealed, 1)
	require.Equal(t, name, "/data/"+r.Unsealed[0].Path)
	require.EqualValues(t, end, r.Unsealed[0].Pos)

	var said bytes.Buffer
	o := small(disk)
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for range 3 {
		require.Len(t, readAll(t, l), len(all))
		s.Forget()
	}
	require.Equal(t, 1, strings.Count(said.String(), "segment has no footer"), said.String())
	require.Contains(t, said.String(), name)
	require.Zero(t, s.Stats().Damage)
	s.Drop()
}

// A start that failed before it wrote the first checkpoint leaves nothing that is damaged. Where there are entries, a
// missing checkpoint is damage.
func TestADirectoryThatHeldNothingIsNotDamaged(t *testing.T) {
	disk := faultfs.New()
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpWrite && strings.Contains(name, "checkpoint") {
			return syscall.ENOSPC
		}
		return nil
	})
	_, err := log.OpenStill(small(disk))
	require.ErrorIs(t, err, syscall.ENOSPC)
	disk.Fail(nil)
	r, err := log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.Empty(t, r.Damage)

	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 5)
	require.NoError(t, s.Close())
	disk.Delete("/data/checkpoint")
	r, err = log.VerifyFS(disk, "/data")
	require.NoError(t, err)
	require.NotEmpty(t, r.Damage)
}

// cuttingFS is a file system on which somebody cuts a file while it is read.
type cuttingFS struct {
	log.FS
	name string
}

func (f *cuttingFS) Open(name string, write, create bool) (log.File, error) {
	file, err := f.FS.Open(name, write, create)
	if err == nil && path.Base(name) == f.name {
		file = cutFile{file}
	}
	return file, err
}

type cutFile struct{ log.File }

func (f cutFile) ReadAt(b []byte, pos int64) (int, error) {
	if len(b) <= 100 { // of a header
		return f.File.ReadAt(b, pos)
	}
	n, err := f.File.ReadAt(b[:len(b)/2], pos)
	return n, errors.Join(err, io.EOF)
}

// In a directory in use a file may become shorter while it is read: the error names it.
func TestVerifyNamesAFileThatShrinks(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	defer s.Drop()
	appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 5)
	require.NoError(t, s.Checkpoint())
	appendN(t, openLog(t, s, identity(1), log.Config{}), 5, 5)
	require.NoError(t, s.Sync())
	for _, name := range []string{"/data/checkpoint", commitFiles(disk)[0]} {
		_, err := log.VerifyFS(&cuttingFS{disk, path.Base(name)}, "/data")
		require.ErrorIs(t, err, io.EOF)
		require.ErrorContains(t, err, name)
	}
}
