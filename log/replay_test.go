package log_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
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
