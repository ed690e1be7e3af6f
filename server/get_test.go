package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A look-up that reads a large partition waits for its turn several times.
func TestGetReadsALargePartition(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir()})
	topic, err := srv.registry.Create("users", 1, []wire.Setting{{Key: "cleanup", Value: "compact"}})
	require.NoError(t, err)
	part := topic.Partition(0)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		var b wire.BatchBuilder
		b.Add(wire.Record{Key: []byte(key), Value: make([]byte, 3<<20)})
		batch, err := wire.ParseBatch(b.Bytes())
		require.NoError(t, err)
		_, _, _, err = part.Publish(&batch, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	part.Flush(wire.LevelDisk)
	require.Eventually(t, func() bool { return part.Visible() == part.Next() }, waitLimit, time.Millisecond)
	p := login(t, srv)
	h := p.resolve("users").Handle
	f := p.call(wire.OpGet, 0, (&wire.Get{Handle: h, Key: []byte("e")}).Append)
	var m wire.Entries
	require.NoError(t, m.Parse(f.Body))
	require.Equal(t, uint64(5), m.Next)
}
