package log_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// countingFS counts reads.
type countingFS struct {
	log.FS
	reads atomic.Int64
}

func (c *countingFS) Open(name string, write, create bool) (log.File, error) {
	f, err := c.FS.Open(name, write, create)
	return countedFile{f, &c.reads}, err
}

type countedFile struct {
	log.File
	reads *atomic.Int64
}

func (f countedFile) ReadAt(b []byte, pos int64) (int, error) {
	f.reads.Add(1)
	return f.File.ReadAt(b, pos)
}

func TestAColdReadGoesOnWhereTheLastOneEnded(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.SegmentBytes = 1 << 20
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1000)
	next := l.Positions().Next
	require.NoError(t, s.Close())

	fs := &countingFS{FS: disk}
	o.FS = fs
	s = open(t, o)
	l = openLog(t, s, identity(1), log.Config{})
	var c log.Chunk
	each := func(maxBytes, least int) {
		t.Helper()
		var reads []int64
		for offset := uint64(0); offset < next; offset = c.Next {
			c.Release()
			before := fs.reads.Load()
			require.NoError(t, l.ReadCold(&c, offset, next, maxBytes))
			require.Positive(t, c.Bytes)
			reads = append(reads, fs.reads.Load()-before)
		}
		c.Release()
		require.Greater(t, len(reads), least)
		for _, n := range reads[1:] {
			require.Equal(t, int64(1), n)
		}
	}
	each(16<<10, 10)
	each(1, 900) // entry by entry
	// Elsewhere it looks again.
	require.NoError(t, l.ReadCold(&c, next/2, next, 16<<10))
	require.Positive(t, c.Bytes)
	c.Release()
	require.NoError(t, s.Close())
}
