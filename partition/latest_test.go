package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// It has replaced the earlier ones of its key, whether Get looked at it in time or not.
func TestTheLatestOfAKeyIsGoneWhenItsTimeIsOver(t *testing.T) {
	f := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	n := openNode(t, t.TempDir(), Options{Now: f.Now})
	p := n.create("users", 1, "cleanup", "compact").Partition(0)
	put := func(value string, ttl int64) {
		var b wire.BatchBuilder
		b.SetTTL(ttl)
		b.Add(wire.Record{Key: []byte("k"), Value: []byte(value)})
		batch, err := wire.ParseBatch(b.Bytes())
		require.NoError(t, err)
		_, _, _, err = p.Publish(&batch, f.Now().UnixMilli())
		require.NoError(t, err)
		p.Flush(wire.LevelDisk)
		eventually(t, func() bool { return p.Visible() == p.Next() })
	}
	get := func() error {
		var c log.Chunk
		defer c.Release()
		_, err := p.Latest(&c, []byte("k"))
		return err
	}
	put("old", 0)
	put("new", 1000)
	f.add(time.Minute)
	code(t, wire.CodeKeyNotFound, get())
	put("again", 0)
	require.NoError(t, get())
}
