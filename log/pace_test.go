package log_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// While rounds are made durable, filing has the device take one piece after the other. It flushes the segment
// once, however much it files.
func TestFilingWaitsForTheDeviceWhileRoundsAreFlushed(t *testing.T) {
	disk := faultfs.New()
	o := small(disk)
	o.MemoryBytes, o.SegmentBytes, o.CommitFileBytes, o.CommitLogBytes = 64<<20, 1<<30, 4<<20, 64<<20
	s := open(t, o)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	require.NoError(t, s.Checkpoint()) // makes the segment

	counts := map[faultfs.Op]int{}
	disk.Fail(func(op faultfs.Op, name string) error {
		if strings.Contains(name, "/01010203") {
			counts[op]++
		}
		return nil
	})
	eventually(t, "a checkpoint right behind a round", func() bool {
		for i := range uint64(15) {
			_, _, err := l.Append(data(1+i, 1, 100_000))
			require.NoError(t, err)
		}
		require.NoError(t, s.Sync())
		clear(counts)
		require.NoError(t, s.Checkpoint())
		require.Equal(t, 1, counts[faultfs.OpSync])
		return counts[faultfs.OpWriteOut] >= 2
	})
	disk.Fail(nil)
	require.NoError(t, s.Close())
}
