package log_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
)

// What others put into a data directory stays, is named in the log, and is in nobody's way: a copy of a file that
// somebody made before a repair, or a directory that a program for backups left.
func TestFilesOfOthersStay(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	o := log.Options{Dir: dir, MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	c := log.Config{SegmentBytes: 4 << 10}
	s := open(t, o)
	l := openLog(t, s, identity(1), c)
	appendN(t, l, 0, 100)
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Close())

	segments, err := filepath.Glob(filepath.Join(dir, "partitions", "01*", "*.seg"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	logDir, commits := filepath.Dir(segments[0]), filepath.Join(dir, "commit")
	strangers := []string{
		segments[0] + ".bak", filepath.Join(logDir, "kept", "x"),
		filepath.Join(commits, "0000000000000001.log.bak"), filepath.Join(commits, "kept", "x"),
	}
	for _, name := range strangers {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte("precious"), 0o600))
	}
	unfinished := []string{segments[0] + ".tmp", segments[0] + ".compact", filepath.Join(commits, "00000000000000ff.tmp")}
	for _, name := range unfinished {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}

	s = open(t, o)
	for _, name := range []string{strangers[0], filepath.Dir(strangers[1]), strangers[2], filepath.Dir(strangers[3])} {
		require.Contains(t, said.String(), `msg="unknown file in the data directory" path=`+name+"\n")
	}
	l = openLog(t, s, identity(1), c)
	appendN(t, l, 100, 100)
	require.NoError(t, s.Checkpoint())
	require.Len(t, readAll(t, l), 200)
	for _, name := range unfinished {
		require.NoFileExists(t, name)
	}
	require.NoError(t, s.RemoveLogs(identity(1)))
	require.NoError(t, s.Checkpoint())
	for range 2 {
		require.NoError(t, s.Close())
		s = open(t, o)
	}
	require.NoError(t, s.Close())
	left, err := os.ReadDir(logDir)
	require.NoError(t, err)
	require.Len(t, left, 2, "only what others put there")
	for _, name := range strangers {
		require.FileExists(t, name)
	}
}
