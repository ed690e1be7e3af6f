package client

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

var cursorID = wire.Identity{Topic: [16]byte{7}, Partition: 3}

// entry makes one stored entry of the values.
func entry(kind wire.Kind, flags uint8, base uint64, c wire.Codec, values ...string) []byte {
	var payload []byte
	if kind == wire.KindData {
		var b wire.BatchBuilder
		for _, v := range values {
			b.Add(wire.Record{Value: []byte(v), Headers: wire.Headers(nil).Append("h", []byte(v))})
		}
		payload = b.Bytes()
		if c != wire.CodecNone {
			payload = b.AppendCompressed(nil, c, codec.Compress(nil, c, b.Records()))
		}
	} else {
		payload = wire.AppendPayload(nil, []byte("of the broker"))
	}
	e := append(make([]byte, wire.StampBytes), payload...)
	s := wire.Stamp{
		Length: uint32(len(payload)), Kind: kind, Flags: flags, Count: uint32(len(values)), Term: 1, Index: base + 1,
		BaseOffset: base, Time: 1000,
	}
	s.Put(e, cursorID.Seed())
	return e
}

func mixed() []byte {
	return bytes.Join([][]byte{
		entry(wire.KindTerm, 0, 10, 0),
		entry(wire.KindData, 0, 10, wire.CodecNone, "a", "b"),
		entry(wire.KindState, 0, 12, 0),
		entry(wire.KindData, wire.StampCut, 12, wire.CodecS2, "c", "d", "e"),
		entry(wire.KindConfig, 0, 15, 0),
		entry(wire.KindData, 0, 15, wire.CodecLZ4, "f"),
	}, nil)
}

// walk returns what a cursor yields.
func walk(entries []byte, seed uint32, from uint64) (values []string, first uint64, err error) {
	var c cursor
	c.reset(entries, seed, from)
	for {
		ok, err := c.more()
		if !ok {
			return values, first, err
		}
		var m Message
		c.take(&m)
		if len(values) == 0 {
			first = m.Offset
		}
		values = append(values, string(m.Value))
	}
}

func TestACursorYieldsDataFromTheOffsetOn(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e", "f"}
	for from := uint64(0); from < 18; from++ {
		got, first, err := walk(mixed(), cursorID.Seed(), from)
		require.NoError(t, err)
		skip := min(max(from, 10)-10, 6)
		require.Equal(t, all[skip:], append([]string{}, got...))
		if len(got) > 0 {
			require.Equal(t, max(from, 10), first)
		}
	}
}

func TestACursorRefusesForeignCutAndFlippedEntries(t *testing.T) {
	whole := mixed()
	_, _, err := walk(whole, wire.Identity{Partition: 4}.Seed(), 0)
	require.ErrorIs(t, err, wire.ErrEntry)
	ends := map[int]bool{0: true}
	at := 0
	for rest := whole; len(rest) > 0; {
		e, behind, err := wire.ViewEntry(rest)
		require.NoError(t, err)
		at += e.Size()
		ends[at] = true
		rest = behind
	}
	for n := range whole {
		_, _, err := walk(whole[:n], cursorID.Seed(), 0)
		if ends[n] {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, "cut at %d", n)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		_, _, err := walk(bad, cursorID.Seed(), 0)
		require.Error(t, err, "flipped at %d", i)
	}
}

func TestZerosAreNotMessages(t *testing.T) {
	_, _, err := walk(make([]byte, 100), cursorID.Seed(), 0)
	require.ErrorIs(t, err, wire.ErrEnd)
}

func FuzzCursor(f *testing.F) {
	f.Add(mixed(), uint64(0))
	f.Add(mixed(), uint64(13))
	f.Fuzz(func(t *testing.T, b []byte, from uint64) {
		restamp(b)
		_, _, _ = walk(b, cursorID.Seed(), from)
		_ = countRecords(b)
	})
}

// restamp makes the checksums of the first entry fit, so that fuzzing reaches what is behind them.
func restamp(b []byte) {
	e, _, err := wire.ViewEntry(b)
	if err != nil {
		return
	}
	fixed := wire.AppendPayload(nil, e.Payload[4:])
	copy(e.Payload, fixed[:4])
	e.Stamp.Put(b, cursorID.Seed())
}

func TestACloneOutlivesItsMessage(t *testing.T) {
	buf := []byte("keyvalueheader")
	m := &Message{Topic: "t", Key: buf[:3], Value: buf[3:8], Headers: []Header{{"h", buf[8:]}}, Offset: 7}
	c := m.Clone()
	clear(buf)
	require.Equal(t, &Message{
		Topic: "t", Key: []byte("key"), Value: []byte("value"), Headers: []Header{{"h", []byte("header")}}, Offset: 7,
	}, c)
	require.Nil(t, (&Message{}).Clone().Value)
}
