package log_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// A state that does not fit in a checkpoint hurts neither its own log nor the others: everything is filed, and a restart
// replays what the last state that fitted does not have.
func TestAStateThatIsTooLargeIsNotStored(t *testing.T) {
	disk := faultfs.New()
	s := open(t, small(disk))
	blob, covered := []byte("old"), uint64(10)
	large := openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return blob, covered }})
	other := openLog(t, s, identity(2), log.Config{})
	appendN(t, large, 0, 10)
	require.NoError(t, s.Checkpoint())

	blob = make([]byte, log.MaxStateBytes+1)
	for covered = 10; covered < 15; covered++ {
		_, _, err := large.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: payload(9, 50)})
		require.NoError(t, err)
	}
	appendN(t, other, 0, 10)
	require.NoError(t, s.Checkpoint())
	require.Zero(t, s.Stats().CommitLogBytes, "nothing is left for a restart to replay from the commit log")
	appendN(t, large, 10, 1)
	require.NoError(t, s.Close())

	s = open(t, small(disk))
	large = openLog(t, s, identity(1), log.Config{})
	require.Equal(t, "old", string(large.State()))
	var got []uint64
	require.NoError(t, large.Replay(func(e wire.Entry) error {
		got = append(got, e.Index)
		return nil
	}))
	require.Equal(t, []uint64{11, 12, 13, 14, 15, 16}, got)
	require.NoError(t, s.Close())
}
