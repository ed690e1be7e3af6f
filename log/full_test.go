package log_test

import (
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// Consumers commit on a full disk until the reserve is used up, and not a byte is free. Then somebody purges.
func TestAPurgeMakesSpaceOnADiskWithoutAny(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	l := openLog(t, s, identity(1), log.Config{})
	const records = 300
	appendN(t, l, 0, records)
	require.NoError(t, s.Checkpoint())
	disk.SetCapacity(disk.Used())
	reserve := func() bool {
		files, err := disk.ReadDir("/data/commit")
		require.NoError(t, err)
		return slices.ContainsFunc(files, func(d log.DirEntry) bool { return d.Name == "reserve" })
	}
	require.True(t, reserve())
	for synced := true; synced; {
		_, _, err := l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(1, 1000)})
		require.NoError(t, err)
		synced = s.Sync() == nil
		disk.SetCapacity(disk.Used()) // what was freed is taken by others
	}
	require.False(t, reserve())
	for range 2 { // what sealing a segment and giving up a file leaves is taken, too
		require.ErrorIs(t, s.Checkpoint(), syscall.ENOSPC)
		disk.SetCapacity(disk.Used())
	}
	require.NoError(t, l.TruncatePrefix(records))
	eventually(t, "space", func() bool { _, _, err := l.Append(data(records, 1, 1000)); return err == nil })
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())
}
