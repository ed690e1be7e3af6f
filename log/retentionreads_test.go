package log_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// counted counts the segments that are opened.
type counted struct {
	*faultfs.Disk
	opened *int
}

func (c counted) Open(name string, write, create bool) (log.File, error) {
	if strings.HasSuffix(name, ".seg") {
		*c.opened++
	}
	return c.Disk.Open(name, write, create)
}

// Behind a restart, retention reads when the oldest segments end. It does so once, and not every time: there can be
// more of them than files that are kept open.
func TestRetentionReadsTheEndOfASegmentOnce(t *testing.T) {
	const logs = 100
	opened := 0
	disk := counted{faultfs.New(), &opened}
	o := small(disk.Disk)
	o.FS, o.MemoryBytes = disk, 64<<20
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	config := log.Config{SegmentBytes: 4 << 10, Retention: log.Retention{Bytes: 1 << 20}}
	id := func(i int) wire.Identity { return wire.Identity{Topic: [16]byte{1}, Partition: uint32(i)} }
	for i := range logs {
		appendN(t, openLog(t, s, id(i), config), 0, 40)
	}
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Close())
	s, err = log.OpenStill(o)
	require.NoError(t, err)
	for i := range logs {
		require.Greater(t, openLog(t, s, id(i), config).Stats().Segments, 2)
	}
	require.NoError(t, s.Retain())
	opened = 0
	require.NoError(t, s.Retain())
	require.Zero(t, opened)
	require.NoError(t, s.Close())
}
