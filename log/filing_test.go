package log_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

const partitions = "/data/partitions"

// Each step of filing is done for many logs before the next one begins, because the first flush of a step makes the
// others cheap. The directory of all logs is flushed once.
func TestLogsAreFiledStepByStep(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	for i := range byte(8) {
		appendN(t, openLog(t, s, identity(i+1), log.Config{}), 0, 10)
	}
	var steps []string
	disk.Fail(func(op faultfs.Op, name string) error {
		name, segment := strings.CutPrefix(name, partitions)
		if !segment {
			return nil
		}
		step := string(op)
		switch {
		case name == "":
			step += " all"
		case op == faultfs.OpSync || op == faultfs.OpRename || op == faultfs.OpSyncDir:
		default:
			return nil
		}
		if n := len(steps); n == 0 || steps[n-1] != step {
			steps = append(steps, step)
		}
		return nil
	})
	require.NoError(t, s.Checkpoint())
	require.Equal(t, []string{"syncdir all", "sync", "rename", "syncdir"}, steps)
	disk.Fail(nil)
	require.NoError(t, s.Close())
}

// The segments that one log fills are made durable together: many flushes of files, then their names, then one flush of
// the directory.
func TestManySegmentsOfALogAreFiledTogether(t *testing.T) {
	const segments, together = 100, 32
	disk := faultfs.New()
	o := small(disk)
	o.SegmentBytes = 4 << 10
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 1)
	require.NoError(t, s.Checkpoint())
	for i := range uint64(segments) {
		_, _, err := l.Append(data(i, 1, 3<<10))
		require.NoError(t, err)
	}
	dirs, unnamed, most := 0, map[string]bool{}, 0
	disk.Fail(func(op faultfs.Op, name string) error {
		switch {
		case !strings.HasPrefix(name, partitions):
		case op == faultfs.OpOpen && path.Ext(name) == ".tmp":
			unnamed[strings.TrimSuffix(name, ".tmp")] = true
			most = max(most, len(unnamed))
		case op == faultfs.OpRename:
			delete(unnamed, name)
		case op == faultfs.OpSyncDir:
			require.Empty(t, unnamed)
			dirs++
		}
		return nil
	})
	require.NoError(t, s.Checkpoint())
	disk.Fail(nil)
	require.LessOrEqual(t, dirs, 1+segments/together)
	require.LessOrEqual(t, most, together)
	require.NoError(t, s.Close())
	s = open(t, o)
	require.Len(t, readAll(t, openLog(t, s, identity(1), log.Config{})), segments+1)
	require.NoError(t, s.Close())
}

// A segment whose header holds a state larger than segments should be has more than one entry.
func TestSegmentsHoldAsMuchAsTheirHeaders(t *testing.T) {
	const state, entries = 20 << 10, 400
	disk := faultfs.New()
	o := small(disk)
	o.SegmentBytes = 4 << 10
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return make([]byte, state), 0 }})
	total := 0
	for i := range uint64(entries) {
		_, _, err := l.Append(data(i, 1, 200))
		require.NoError(t, err)
		total += 200
	}
	require.NoError(t, s.Checkpoint())
	segments := 0
	for _, name := range disk.Names() {
		if strings.HasSuffix(name, ".seg") {
			segments++
		}
	}
	require.Greater(t, segments, 1)
	require.LessOrEqual(t, segments, 2+total/state)
	require.NoError(t, s.Close())
}

// When the directory of all logs cannot be flushed, the logs that are new in it become read-only.
func TestAFailedFlushOfAllLogsConcernsNewOnes(t *testing.T) {
	disk := faultfs.New()
	s, err := log.OpenStill(small(disk))
	require.NoError(t, err)
	known, fresh := openLog(t, s, identity(1), log.Config{}), openLog(t, s, identity(2), log.Config{})
	appendN(t, known, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, known, 10, 10)
	appendN(t, fresh, 0, 10)
	broken := errors.New("broken")
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpSyncDir && path.Clean(name) == partitions {
			return broken
		}
		return nil
	})
	require.ErrorIs(t, s.Checkpoint(), broken)
	require.False(t, known.Stats().ReadOnly)
	require.Zero(t, known.Stats().Unfiled)
	require.True(t, fresh.Stats().ReadOnly)
	require.Positive(t, fresh.Stats().Unfiled)
	disk.Fail(nil)
	require.NoError(t, s.Close())
}
