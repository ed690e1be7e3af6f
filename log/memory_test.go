package log_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

func identity(n byte) wire.Identity {
	return wire.Identity{Topic: [16]byte{n, 1, 2, 3}, Partition: uint32(n)}
}

// payload returns a batch payload of n bytes with a right checksum, different for each seq.
func payload(seq uint64, n int) []byte {
	body := make([]byte, max(n-4, 8))
	for i := range body {
		body[i] = byte(seq>>3) + byte(i)
	}
	binary.LittleEndian.PutUint64(body, seq)
	return wire.AppendPayload(nil, body)
}

func data(seq uint64, count uint32, n int) log.Batch {
	return log.Batch{Kind: wire.KindData, Count: count, Term: 1, Time: 1000, Payload: payload(seq, n)}
}

func openMemory(t *testing.T, o log.Options) *log.Store {
	t.Helper()
	o.Poison = true
	s, err := log.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// entries parses a chunk and checks every checksum.
func entries(t *testing.T, id wire.Identity, c *log.Chunk) []wire.Entry {
	t.Helper()
	var all []wire.Entry
	total := 0
	for _, b := range c.Slices {
		total += len(b)
		for len(b) > 0 {
			e, rest, err := wire.ParseEntry(b, id.Seed())
			require.NoError(t, err)
			all = append(all, e)
			b = rest
		}
	}
	require.Equal(t, c.Bytes, total)
	return all
}

// What is in two parts is stored as if it were one.
func TestAPayloadCanHaveAHead(t *testing.T) {
	s := openMemory(t, log.Options{})
	id := identity(1)
	l, err := s.OpenLog(id, log.Config{})
	require.NoError(t, err)
	for _, n := range []int{0, 1, 1000, 100_000} {
		var b wire.BatchBuilder
		b.Add(wire.Record{Value: make([]byte, n)})
		batch, err := wire.ParseBatch(b.Bytes())
		require.NoError(t, err)
		head := []byte("    in front")
		wire.SealHead(head, &batch)
		base, _, err := l.Append(log.Batch{Kind: wire.KindData, Count: 1, Term: 1, Head: head, Payload: batch.Raw()})
		require.NoError(t, err)
		var c log.Chunk
		require.NoError(t, l.Read(&c, base, base+1, 1))
		all := entries(t, id, &c)
		require.Equal(t, append(head, batch.Raw()...), all[0].Payload)
		require.True(t, wire.PayloadOK(all[0].Payload))
		c.Release()
	}
	_, _, err = l.Append(log.Batch{Kind: wire.KindData, Count: 1, Term: 1, Head: make([]byte, 10), Payload: make([]byte, wire.MaxFrameBytes)})
	require.ErrorIs(t, err, log.ErrPayload)
}

func TestAppendAndReadInMemory(t *testing.T) {
	s := openMemory(t, log.Options{})
	id := identity(1)
	l, err := s.OpenLog(id, log.Config{})
	require.NoError(t, err)

	const n = 5000
	var want []uint64
	for i := range uint64(n) {
		b := data(i, 1+uint32(i%3), 20+int(i%700))
		if i%10 == 9 {
			b.Kind, b.Count = wire.KindState, 0
		}
		base, index, err := l.Append(b)
		require.NoError(t, err)
		require.Equal(t, i+1, index)
		if b.Kind == wire.KindData {
			want = append(want, base)
		}
	}
	end := l.Positions().Next
	var c log.Chunk
	var got []uint64
	for off := uint64(0); off < end; {
		require.NoError(t, l.Read(&c, off, end, 64<<10))
		for _, e := range entries(t, id, &c) {
			require.Equal(t, wire.KindData, e.Kind)
			got = append(got, e.BaseOffset)
		}
		require.LessOrEqual(t, c.Bytes, 64<<10)
		off = c.Next
		c.Release()
	}
	require.Equal(t, want, got)

	require.NoError(t, l.Read(&c, end, end, 100))
	require.Zero(t, c.Bytes)
	require.ErrorIs(t, l.Read(&c, end+1, end+2, 100), log.ErrOutOfRange)
}

func TestReadStopsAtTheLimitAndStartsInsideAnEntry(t *testing.T) {
	s := openMemory(t, log.Options{})
	l, err := s.OpenLog(identity(1), log.Config{})
	require.NoError(t, err)
	for i := range uint64(4) {
		_, _, err := l.Append(data(i, 10, 100))
		require.NoError(t, err)
	}
	var c log.Chunk
	require.NoError(t, l.Read(&c, 15, 35, 1<<20))
	got := entries(t, identity(1), &c)
	require.Len(t, got, 2)
	require.Equal(t, uint64(10), got[0].BaseOffset)
	require.Equal(t, uint64(30), c.Next)
	c.Release()

	require.NoError(t, l.Read(&c, 15, 19, 1<<20), "an entry that ends beyond the limit is not served")
	require.Zero(t, c.Bytes)
	require.Equal(t, uint64(15), c.Next)
}

func TestLargestEntryFitsAndLargerIsRefused(t *testing.T) {
	s := openMemory(t, log.Options{})
	l, err := s.OpenLog(identity(1), log.Config{})
	require.NoError(t, err)
	_, _, err = l.Append(data(1, 1, wire.MaxFrameBytes))
	require.NoError(t, err)
	_, _, err = l.Append(data(1, 1, wire.MaxFrameBytes+1))
	require.ErrorIs(t, err, log.ErrPayload)
	_, _, err = l.Append(log.Batch{Kind: wire.KindData, Payload: []byte{1}})
	require.ErrorIs(t, err, log.ErrPayload)
	var c log.Chunk
	require.NoError(t, l.Read(&c, 0, 1, 1))
	require.Len(t, entries(t, identity(1), &c), 1)
	c.Release()
}

func TestMemoryBudgetAndRetentionByBytes(t *testing.T) {
	s := openMemory(t, log.Options{MemoryBytes: 4 << 20})
	free, err := s.OpenLog(identity(1), log.Config{})
	require.NoError(t, err)
	for err == nil {
		_, _, err = free.Append(data(1, 1, 60<<10))
	}
	require.ErrorIs(t, err, log.ErrFull)
	require.NoError(t, s.RemoveLogs(identity(1)))

	kept, err := s.OpenLog(identity(2), log.Config{Retention: log.Retention{Bytes: 2 << 20}})
	require.NoError(t, err)
	var c log.Chunk
	for i := range uint64(1000) {
		_, _, err = kept.Append(data(i, 1, 60<<10))
		require.NoError(t, err)
	}
	p := kept.Positions()
	require.Equal(t, uint64(1000), p.Next)
	require.Greater(t, p.First, uint64(900))
	require.ErrorIs(t, kept.Read(&c, p.First-1, p.Next, 100), log.ErrTruncated)
	require.NoError(t, kept.Read(&c, p.First, p.Next, 100))
	c.Release()
}

// Many logs that grow together do not use up the budget with slabs that they do not fill.
func TestManyLogsInMemoryTakeLittleMoreThanTheyHold(t *testing.T) {
	const logs, kilobytes = 60, 600
	s := openMemory(t, log.Options{MemoryBytes: 64 << 20})
	list := make([]*log.Log, logs)
	for i := range list {
		var err error
		list[i], err = s.OpenLog(identity(byte(i)), log.Config{})
		require.NoError(t, err)
	}
	for n := range uint64(kilobytes) {
		for i, l := range list {
			_, _, err := l.Append(data(n, 1, 1<<10))
			require.NoError(t, err, "log %d after %d KiB", i, n)
		}
	}
	require.Less(t, s.Stats().MemoryUsed, int64(48<<20))

	// A log that is left alone gets large slabs again.
	for _, l := range list {
		require.NoError(t, l.TruncatePrefix(l.Positions().Next))
	}
	require.NoError(t, s.Retain())
	require.Zero(t, s.Stats().MemoryUsed)
	for n := range uint64(kilobytes) {
		_, _, err := list[0].Append(data(n, 1, 1<<10))
		require.NoError(t, err)
	}
	require.Equal(t, int64(1<<20), s.Stats().MemoryUsed)
}

func TestAppendAndHotReadDoNotAllocate(t *testing.T) {
	s := openMemory(t, log.Options{})
	l, err := s.OpenLog(identity(1), log.Config{Retention: log.Retention{Bytes: 1 << 20}})
	require.NoError(t, err)
	b := data(1, 1, 1000)
	for range 3000 {
		_, _, err = l.Append(b)
		require.NoError(t, err)
	}
	require.Zero(t, testing.AllocsPerRun(200, func() { _, _, _ = l.Append(b) }))
	var c log.Chunk
	read := func() {
		p := l.Positions()
		if err := l.Read(&c, p.Next-20, p.Next, 1<<20); err != nil {
			panic(err)
		}
		c.Release()
	}
	read()
	require.Zero(t, testing.AllocsPerRun(200, read))
}

func BenchmarkAppend(b *testing.B) {
	s, err := log.Open(log.Options{})
	require.NoError(b, err)
	defer s.Close()
	l, err := s.OpenLog(identity(1), log.Config{Retention: log.Retention{Bytes: 64 << 20}})
	require.NoError(b, err)
	batch := data(1, 1, 128)
	b.SetBytes(int64(len(batch.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads 256 KiB of entries that are in memory.
func BenchmarkRead(b *testing.B) {
	s, err := log.Open(log.Options{})
	require.NoError(b, err)
	defer s.Close()
	l, err := s.OpenLog(identity(1), log.Config{Retention: log.Retention{Bytes: 64 << 20}})
	require.NoError(b, err)
	const want = 256 << 10
	batch := data(1, 1, 1<<10)
	for n := 0; n < 16*want; n += len(batch.Payload) {
		_, _, err = l.Append(batch)
		require.NoError(b, err)
	}
	next := l.Positions().Next
	var c log.Chunk
	b.SetBytes(want)
	b.ReportAllocs()
	for from := uint64(0); b.Loop(); from = c.Next % (next / 2) {
		c.Release()
		if err := l.Read(&c, from, next, want); err != nil || c.Bytes < want/2 {
			b.Fatal(err, c.Bytes)
		}
	}
}
