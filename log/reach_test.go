package log_test

import (
	"path"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// readFS counts what is read of commit log files.
type readFS struct {
	log.FS
	bytes atomic.Int64
}

func (r *readFS) Open(name string, write, create bool) (log.File, error) {
	f, err := r.FS.Open(name, write, create)
	if path.Base(path.Dir(name)) == "commit" {
		return readFile{f, &r.bytes}, err
	}
	return f, err
}

type readFile struct {
	log.File
	bytes *atomic.Int64
}

func (f readFile) ReadAt(b []byte, pos int64) (int, error) {
	f.bytes.Add(int64(len(b)))
	return f.File.ReadAt(b, pos)
}

// A start reads of the commit log what was written, not all that its files have room for, in a new
// directory as in one whose files were used before.
func TestAStartReadsWhatWasWritten(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.CommitFileBytes, o.CommitLogBytes, o.MemoryBytes = 4<<20, 4<<20, 32<<20
	const ahead = 4 << 20 / 8
	restart := func(s *log.Store) (*log.Store, int64) {
		s.Drop()
		count := &readFS{FS: disk}
		o.FS = count
		s, err := log.OpenStill(o)
		require.NoError(t, err)
		return s, count.bytes.Load()
	}
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 100)
	require.NoError(t, s.Sync())
	s, read := restart(s)
	require.Less(t, read, int64(ahead+16<<10))

	l = openLog(t, s, identity(1), log.Config{})
	for range 3 { // files become spares, and then files again
		for range 100 {
			_, _, err := l.Append(data(1, 1, 64<<10))
			require.NoError(t, err)
			require.NoError(t, s.Sync())
		}
		require.NoError(t, s.Checkpoint())
	}
	require.True(t, spared(disk))
	s, _ = restart(s)
	l = openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 100)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Checkpoint())
	want := readAll(t, l)
	s, read = restart(s)
	require.Less(t, read, int64(2*ahead))
	require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
	s.Drop()
}

// How far a file is written is said with the rounds, and when it cannot be read all of the file counts.
func TestAFileThatDoesNotSayHowFarItIsWrittenIsReadWhole(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range uint64(20) { // far behind what the new file said
		appendN(t, l, i*2, 2)
		l.Flush(wire.LevelOS + wire.Level(i%2))
		s.Round()
	}
	want := readAll(t, l)
	s.Drop()
	names := commitFiles(disk)
	require.Len(t, names, 1)
	require.Greater(t, end(disk.Bytes(names[0])), 12<<10)
	for pos := 512; pos < 512+12; pos++ {
		damaged := disk.Clone()
		b := damaged.Bytes(names[0])
		b[pos] ^= 0x10
		damaged.SetBytes(names[0], b)
		s, err := log.OpenStill(small(damaged))
		require.NoError(t, err)
		require.Equal(t, want, readAll(t, openLog(t, s, identity(1), log.Config{})))
		require.Zero(t, s.Stats().TornTails)
		s.Drop()
		report, err := log.VerifyFS(damaged, "/data")
		require.NoError(t, err)
		require.True(t, report.OK())
	}
}
