package log_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
)

// filedLog returns a log of a directory on a real disk, none of which is in memory, and its only segment.
func filedLog(t *testing.T) (l *log.Log, segment string) {
	t.Helper()
	o := small(nil)
	o.Dir, o.FS, o.SegmentBytes = t.TempDir(), nil, 1<<20
	s := open(t, o)
	appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 1000)
	require.NoError(t, s.Close())
	s = open(t, o)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	var found []string
	require.NoError(t, filepath.WalkDir(o.Dir, func(path string, _ os.DirEntry, err error) error {
		if filepath.Ext(path) == ".seg" {
			found = append(found, path)
		}
		return err
	}))
	require.Len(t, found, 1)
	skipWithoutCachedReads(t, found[0])
	return openLog(t, s, identity(1), log.Config{}), found[0]
}

// skipWithoutCachedReads skips a test where the system cannot read from the page cache only.
func skipWithoutCachedReads(t *testing.T, path string) {
	t.Helper()
	f, err := log.OS.Open(path, false, false)
	require.NoError(t, err)
	defer f.Close()
	cached, ok := f.(interface {
		ReadCached(b []byte, pos int64) bool
	})
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil || !ok || !cached.ReadCached(make([]byte, 1), 0) {
		t.Skip("this file system cannot be asked for what is in memory")
	}
}

func TestACachedReadGoesOnWhereTheLastOneEnded(t *testing.T) {
	l, _ := filedLog(t)
	next := l.Positions().Next
	var c, want log.Chunk
	require.ErrorIs(t, l.ReadCached(&c, 0, next, 16<<10), log.ErrCold, "nobody has read the segment")
	require.NoError(t, l.ReadCold(&c, 0, next, 16<<10))
	at := c.Next
	c.Release()
	require.ErrorIs(t, l.ReadCached(&c, at, next, 2<<20), log.ErrCold, "too much for an event loop")
	require.ErrorIs(t, l.ReadCached(&c, next/2, next, 16<<10), log.ErrCold, "another place")
	reads := 0
	for ; at < next; reads++ {
		require.NoError(t, l.ReadCached(&c, at, next, 16<<10))
		require.NoError(t, l.ReadCold(&want, at, next, 16<<10))
		require.Positive(t, c.Bytes)
		require.Equal(t, want.Next, c.Next)
		require.Equal(t, bytes.Join(want.Slices, nil), bytes.Join(c.Slices, nil))
		at = c.Next
		c.Release()
		want.Release()
	}
	require.Greater(t, reads, 10)
	require.ErrorIs(t, l.ReadCached(&c, at, next, 16<<10), log.ErrCold, "the end")
	require.NoError(t, l.ReadCold(&c, 0, next, 1))
	at = c.Next
	c.Release()
	require.ErrorIs(t, l.ReadCached(&c, at, at, 16<<10), log.ErrCold, "nothing is visible there")
	require.Equal(t, at, c.Next)
}

func TestACachedReadLeavesDamageToAColdOne(t *testing.T) {
	l, path := filedLog(t)
	next := l.Positions().Next
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	var c log.Chunk
	var at uint64
	require.NoError(t, l.ReadCold(&c, 0, next, 1))
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 64<<10), info.Size()/2)
	require.NoError(t, err)
	for err == nil {
		at = c.Next
		c.Release()
		err = l.ReadCached(&c, at, next, 16<<10)
	}
	require.ErrorIs(t, err, log.ErrCold)
	require.Less(t, at, next)
	var damage *log.CorruptError
	require.ErrorAs(t, l.ReadCold(&c, at, next, 16<<10), &damage)
	require.Equal(t, at, damage.First)
}
