package log_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// extentFS counts the writes to commit log files that come to blocks which were never written.
type extentFS struct {
	log.FS
	mu      sync.Mutex        // guards the rest
	written map[string]*int64 // by file: where the last block ends that was written
	writes  int
	first   int // writes to new blocks
	longest int // bytes
}

func (x *extentFS) OpenDirect(name string) (log.File, error) {
	f, err := x.FS.OpenDirect(name)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.written[name] == nil {
		x.written[name] = new(int64)
	}
	return extentFile{f, x, x.written[name]}, err
}

// Rename keeps what is known of a file that changes its name.
func (x *extentFS) Rename(from, to string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n, ok := x.written[from]; ok {
		delete(x.written, from)
		x.written[to] = n
	}
	return x.FS.Rename(from, to)
}

type extentFile struct {
	log.File
	fs      *extentFS
	written *int64
}

func (f extentFile) WriteAt(b []byte, pos int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.writes++
	f.fs.longest = max(f.fs.longest, len(b))
	if end := pos + int64(len(b)); end > *f.written {
		*f.written = end
		f.fs.first++
	}
	return f.File.WriteAt(b, pos)
}

// rounds makes n rounds of one entry of size bytes and returns what they wrote.
func (x *extentFS) rounds(t *testing.T, s *log.Store, l *log.Log, n, size int) (writes, first, longest int) {
	t.Helper()
	x.writes, x.first, x.longest = 0, 0, 0
	for i := range n {
		_, _, err := l.Append(data(uint64(i), 1, size))
		require.NoError(t, err)
		require.NoError(t, s.Sync())
	}
	return x.writes, x.first, x.longest
}

// Few of the small rounds come to blocks that were only reserved, since those that do write zeros ahead.
// Large rounds write none, and nothing is written ahead in a file that is used again.
func TestSmallRoundsWriteAhead(t *testing.T) {
	const rounds = 200
	disk := faultfs.New()
	x := &extentFS{FS: disk, written: map[string]*int64{}}
	o := small(disk)
	o.FS, o.CommitFileBytes, o.CommitLogBytes, o.MemoryBytes = x, 4<<20, 8<<20, 32<<20
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})

	writes, first, _ := x.rounds(t, s, l, rounds, 4<<10)
	require.LessOrEqual(t, writes, rounds+2, "one begins the file, and one says how far it is written")
	require.Less(t, first, rounds/20)
	require.NotZero(t, first)

	_, first, longest := x.rounds(t, s, l, 40, 64<<10)
	require.Greater(t, first, 30)
	require.Less(t, longest, 64<<10+4*4096)

	_, _, _ = x.rounds(t, s, l, 40, 64<<10) // comes to the next file
	require.NoError(t, s.Checkpoint())
	require.True(t, spared(disk), "the first file is there to be used again")
	_, _, _ = x.rounds(t, s, l, 60, 64<<10) // comes to the third, which was the first
	require.NoError(t, s.Checkpoint())
	_, first, longest = x.rounds(t, s, l, rounds, 4<<10)
	require.Zero(t, first)
	require.LessOrEqual(t, longest, 3*4096)
	want := readAll(t, l)
	s.Drop()

	s = open(t, o)
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	require.NoError(t, s.Close())
}

// What filing writes at a time follows the size of the rounds.
func TestTheSizeOfARoundIsKnown(t *testing.T) {
	o := small(faultfs.New())
	o.CommitFileBytes = 1 << 20
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for _, size := range []int{1 << 10, 300 << 10, 100} {
		_, _, err := l.Append(data(1, 1, size))
		require.NoError(t, err)
		require.NoError(t, s.Sync())
		require.InDelta(t, size, s.LastRound(), 512)
		s.Round() // of nobody
		require.InDelta(t, size, s.LastRound(), 512)
	}
	s.Drop()
}

// spared reports whether a commit log file waits to be used again.
func spared(disk *faultfs.Disk) bool {
	for _, name := range disk.Names() {
		if strings.HasSuffix(name, ".spare") {
			return true
		}
	}
	return false
}
