package log_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
)

// A store whose directory is removed under it does not go on acknowledging what nobody will find. What comes in its
// place is left alone.
func TestAStoreNoticesThatItsDirectoryIsGone(t *testing.T) {
	for name, lose := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"replaced": func(dir string) error {
			return os.Rename(dir, dir+".old")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := open(t, log.Options{Dir: dir, MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
			l := openLog(t, s, identity(1), log.Config{})
			appendN(t, l, 0, 10)
			require.NoError(t, s.Sync())
			require.Eventually(t, func() bool { return lose(dir) == nil }, 10*time.Second, time.Millisecond) // a file may be made meanwhile
			require.NoError(t, os.Mkdir(dir, 0o755))
			eventually(t, "read-only", func() bool { return l.Stats().ReadOnly })
			_, _, err := l.Append(data(10, 1, 10))
			require.ErrorIs(t, err, log.ErrReadOnly)
			require.ErrorContains(t, l.Stats().Err, "removed or replaced")
			require.Len(t, readAll(t, l), 10, "reads go on")
			require.ErrorIs(t, s.Close(), log.ErrReadOnly)
			list, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, list)
		})
	}
}

// A file system that is unmounted takes no record away: readers that were told so would pass over all of them.
func TestRecordsOfADirectoryThatIsGoneAreNotLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, log.Options{Dir: dir, MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	s.Forget()
	require.Eventually(t, func() bool { return os.Rename(dir, dir+".old") == nil }, 10*time.Second, time.Millisecond)
	var c log.Chunk
	err := l.ReadCold(&c, 0, l.Positions().Next, 1<<20)
	require.ErrorContains(t, err, "removed or replaced")
	require.NotErrorAs(t, err, new(*log.CorruptError))
	require.Zero(t, l.Stats().Corrupt)

	require.NoError(t, os.Rename(dir+".old", dir))
	require.Len(t, readAll(t, l), 10)
	_ = s.Close() // it may be read-only by now
}
