package log_test

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

var update = flag.Bool("update", false, "write the golden data directory anew")

const goldenDir = "testdata/v1"

// goldenDisk returns a directory with every kind of file, as a kill left it.
func goldenDisk(t *testing.T) *faultfs.Disk {
	t.Helper()
	disk := faultfs.New()
	o := small(disk)
	o.SegmentBytes, o.CommitFileBytes = 4<<10, 16<<10
	o.Now = func() time.Time { return time.UnixMilli(5000) }
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	var l *log.Log
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) {
		return []byte("golden state"), l.Positions().NextIndex - 1
	}})
	appendN(t, l, 0, 20)
	require.NoError(t, s.Sync())
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 20, 5)
	_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Time: 1000, Payload: payload(9, 40)})
	require.NoError(t, err)
	appendN(t, l, 25, 3)
	require.NoError(t, s.Sync())
	after := disk.Clone()
	s.Drop()
	return after
}

// TestGoldenDirectory opens a directory that an earlier version wrote. When this fails, old data
// directories no longer open: raise the format version instead of running -update.
func TestGoldenDirectory(t *testing.T) {
	if *update {
		require.NoError(t, os.RemoveAll(goldenDir))
		disk := goldenDisk(t)
		for _, name := range disk.Names() {
			if b := disk.Bytes(name); path.Base(name) != "reserve" {
				file := filepath.Join(goldenDir, name[len("/data/"):])
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
				require.NoError(t, os.WriteFile(file, b, 0o644))
			}
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(goldenDir)))
	s := open(t, log.Options{Dir: dir, MemoryBytes: 8 << 20, CommitFileBytes: 16 << 10})
	require.Equal(t, []wire.Identity{identity(1)}, s.Logs())
	l := openLog(t, s, identity(1), log.Config{})
	require.Equal(t, "golden state", string(l.State()))
	var replayed []uint64
	require.NoError(t, l.Replay(func(e wire.Entry) error { replayed = append(replayed, e.Index); return nil }))
	require.Equal(t, []uint64{21, 22, 23, 24, 25, 26, 27, 28, 29}, replayed)
	got := readAll(t, l)
	require.Len(t, got, 28)
	for i, e := range got {
		want := data(uint64(i), 1+uint32(i%3), 30+i*37%900)
		require.Equal(t, want.Payload, e.Payload)
		require.Equal(t, want.Count, e.Count)
	}
	require.Zero(t, s.Stats().Damage)
	require.NoError(t, s.Close())
	r, err := log.Verify(dir)
	require.NoError(t, err)
	require.True(t, r.OK(), r.Damage)
}
