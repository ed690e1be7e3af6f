package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

func TestVerifyFindsStateThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 1 << 20})
	require.NoError(t, err)
	for i, state := range []string{"", "this is no state of anybody"} {
		id := wire.Identity{Topic: [16]byte{1}, Partition: uint32(i)}
		l, err := s.OpenLog(id, log.Config{State: func() ([]byte, uint64) { return []byte(state), 1 }})
		require.NoError(t, err)
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: wire.AppendPayload(nil, []byte("entry"))})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	r, err := log.Verify(dir)
	require.NoError(t, err)
	require.True(t, r.OK(), "every checksum is right")
	bad, err := damagedStates(dir)
	require.NoError(t, err)
	require.Len(t, bad, 1)
	require.Equal(t, uint32(1), bad[0].Partition)
	require.Contains(t, bad[0].Damage, "consumer state")
}
