package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
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

// A kilobyte may unpack to 64 MiB, in every partition.
func TestALookUpKeepsNoLargeScratchSpace(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("users", 1, "cleanup", "compact").Partition(0)
	var b wire.BatchBuilder
	b.Add(wire.Record{Key: []byte("k"), Value: make([]byte, 2*maxUnpackKept)})
	batch, err := wire.ParseBatch(b.AppendCompressed(nil, wire.CodecZstd, codec.Compress(nil, wire.CodecZstd, b.Records())))
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
	require.NoError(t, err)
	p.Flush(wire.LevelDisk)
	eventually(t, func() bool { return p.Visible() == p.Next() })
	var c log.Chunk
	_, err = p.Latest(&c, []byte("k"))
	require.NoError(t, err)
	c.Release()
	require.Less(t, cap(p.latest.unpack), maxUnpackKept)
}

// The first look-up reads the whole partition, in steps between which others can read.
func TestALookUpReadsInSteps(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("users", 1, "cleanup", "compact").Partition(0)
	for _, key := range []string{"a", "b", "c", "d"} {
		var b wire.BatchBuilder
		b.Add(wire.Record{Key: []byte(key), Value: make([]byte, lookBytes/2)})
		batch, err := wire.ParseBatch(b.Bytes())
		require.NoError(t, err)
		_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
		require.NoError(t, err)
	}
	p.Flush(wire.LevelDisk)
	eventually(t, func() bool { return p.Visible() == p.Next() })
	var c log.Chunk
	_, err := p.Latest(&c, []byte("d"))
	require.ErrorIs(t, err, ErrMore)
	require.Equal(t, uint64(2), p.latest.next)
	offset, err := p.Latest(&c, []byte("d"))
	require.NoError(t, err)
	c.Release()
	require.Equal(t, uint64(3), offset)
}

// With too many keys no call finds a record, because it may not be the latest. When there is room again, for example
// because the first keys were purged, all calls do.
func TestALookUpAmongTooManyKeys(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("users", 1, "cleanup", "compact").Partition(0)
	p.latest.most = 10
	put := func(keys ...string) {
		t.Helper()
		for _, k := range keys {
			var b wire.BatchBuilder
			b.Add(wire.Record{Key: []byte(k), Value: []byte("v")})
			batch, err := wire.ParseBatch(b.Bytes())
			require.NoError(t, err)
			_, _, _, err = p.Publish(&batch, time.Now().UnixMilli())
			require.NoError(t, err)
		}
		p.Flush(wire.LevelDisk)
		eventually(t, func() bool { return p.Visible() == p.Next() })
	}
	get := func(key string) (offset uint64, err error) {
		var c log.Chunk
		defer c.Release()
		for offset, err = p.Latest(&c, []byte(key)); err == ErrMore; offset, err = p.Latest(&c, []byte(key)) {
			c.Release()
		}
		return offset, err
	}
	put("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "9")
	at, err := get("9")
	require.NoError(t, err, "a known key needs no room")
	require.EqualValues(t, 10, at)
	put("10", "9")
	for range 3 {
		_, err = get("9")
		code(t, wire.CodeLimit, err)
	}
	require.NoError(t, n.Purge("users", 0, 5))
	put("10", "10", "10", "10", "10", "10", "10", "10", "10", "10")
	at, err = get("9")
	require.NoError(t, err)
	require.EqualValues(t, 12, at)
	at, err = get("10")
	require.NoError(t, err)
	require.EqualValues(t, 22, at)
}
