package log_test

import (
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
