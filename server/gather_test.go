package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// The checksum of a batch that is cut is looked at once, and a damaged one is refused every time.
func TestABatchIsCheckedBeforeItIsCut(t *testing.T) {
	var b wire.BatchBuilder
	for range 3 {
		b.Add(wire.Record{Value: []byte("x")})
	}
	good, bad := append([]byte(nil), b.Bytes()...), append([]byte(nil), b.Bytes()...)
	bad[0]++
	checked := checkedEntry{}
	cut := func(id wire.Identity, index uint64, payload []byte) error {
		g := gatherer{id: id, checked: &checked}
		_, err := g.open(&wire.Entry{Stamp: wire.Stamp{Index: index}, Payload: payload})
		return err
	}
	one := wire.Identity{Partition: 1}
	for range 2 {
		require.Error(t, cut(one, 1, bad))
	}
	require.NoError(t, cut(one, 1, good))
	require.NoError(t, cut(one, 1, bad), "not looked at again")
	require.Error(t, cut(one, 2, bad))
	require.Error(t, cut(wire.Identity{Partition: 2}, 1, bad))
	require.NoError(t, cut(one, 1, good))
}
