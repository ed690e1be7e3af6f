package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire/crc32c"
)

func recordsOf(t testing.TB, b Batch) (got []Record) {
	t.Helper()
	for r, err := range b.Records() {
		require.NoError(t, err)
		got = append(got, r)
	}
	return got
}

func TestBatchesKeepEveryKindOfRecord(t *testing.T) {
	var want []Record
	for i := range 64 {
		r := Record{Time: 1000 + int64(i%2)*int64(i), Value: []byte{byte(i), 0xff, 0}}
		if i&1 != 0 {
			r.Key = bytes.Repeat([]byte{'k'}, i*3)
		}
		if i&2 != 0 {
			r.Headers = Headers(nil).Append("same", []byte{1}).Append("same", []byte{2}).Append("", nil)
		}
		if i&4 != 0 {
			r.Subject = []byte("orders.eu")
		}
		if i&8 != 0 {
			r.Value = nil
		}
		if i&16 != 0 {
			r.Value, r.Key = []byte{}, []byte{}
		}
		want = append(want, r)
	}
	var b BatchBuilder
	for range 2 { // a builder is used again after Reset
		b.Reset()
		for _, r := range want {
			b.Add(r)
		}
	}
	require.Equal(t, len(want), b.Count())
	require.LessOrEqual(t, len(b.Bytes()), b.Size())
	batch, err := ParseBatch(b.Bytes())
	require.NoError(t, err)
	require.NoError(t, batch.Validate(DefaultMaxRecordBytes))
	require.ErrorIs(t, batch.Validate(50), ErrRecordTooLarge)
	require.Equal(t, want, recordsOf(t, batch))
	require.Equal(t, uint32(64), batch.Count())
	require.Equal(t, int64(1000), batch.baseTime)
	values := 0
	for name, value := range want[2].Headers.All() {
		require.True(t, string(name) == "same" || len(value) == 0)
		values++
	}
	require.Equal(t, 3, values)
	v, ok := want[2].Headers.Get("same")
	require.True(t, ok)
	require.Equal(t, []byte{1}, v)
}

func TestBatchesWithoutTimesStaySmall(t *testing.T) {
	frame := func(r Record) int {
		var b BatchBuilder
		b.Add(r)
		m := Publish{Batch: b.Bytes()}
		f, at := BeginFrame(nil, OpPublish, 0, 1)
		return len(EndFrame(m.Append(f), at))
	}
	require.LessOrEqual(t, frame(Record{Key: []byte("k"), Value: []byte("v")})-2, 32, "framing of a small publish")
	b, at := BeginFrame(nil, OpPublish|OpReply, 0, 1)
	require.LessOrEqual(t, len(EndFrame(PublishReply{Base: 1 << 40}.Append(b, 0), at)), 16, "its acknowledgement")
}

func TestProducersAndTimesAreCarried(t *testing.T) {
	batch, err := ParseBatch(fullBatch())
	require.NoError(t, err)
	require.Equal(t, Producer{ID: 300, Epoch: 1, Sequence: 70000}, batch.Producer())
	got := recordsOf(t, batch)
	require.Equal(t, int64(1763800000005), got[1].Time)
	require.Nil(t, got[1].Value)
	require.NotNil(t, got[1].Key)
	require.NotNil(t, got[2].Value)
	require.Nil(t, got[2].Key)
}

// onceBatch is a batch with a message id and a time to live.
func onceBatch() []byte {
	var b BatchBuilder
	b.MarkIDs()
	b.SetTTL(60_000)
	b.Add(Record{Headers: Headers{}.Append(HeaderID, []byte("42")), Value: []byte("hello")})
	b.Add(Record{Headers: Headers{}.Append("nats-msg-id", []byte("43")), Value: []byte("world")})
	return b.Bytes()
}

func TestIDsAndTimesToLiveAreCarried(t *testing.T) {
	batch, err := ParseBatch(onceBatch())
	require.NoError(t, err)
	require.NoError(t, batch.Validate(DefaultMaxRecordBytes))
	cut, err := batch.Cut(nil, 1, 2)
	require.NoError(t, err)
	part, err := ParseBatch(cut)
	require.NoError(t, err)
	for ids, b := range map[string]*Batch{"42 43": &batch, "43": &part} {
		require.True(t, b.HasIDs())
		require.Equal(t, int64(60_000), b.TTL())
		var got []string
		for _, r := range recordsOf(t, *b) {
			got = append(got, string(r.Headers.ID()))
		}
		require.Equal(t, ids, strings.Join(got, " "))
	}
	require.Nil(t, Headers{}.Append("other", []byte("1")).Append(HeaderID, nil).ID())

	var b BatchBuilder
	b.SetTTL(MaxTTLMs)
	b.Add(Record{Value: []byte("x")})
	_, err = ParseBatch(b.Bytes())
	require.NoError(t, err)
	b.SetTTL(MaxTTLMs + 1)
	_, err = ParseBatch(b.Bytes())
	require.ErrorIs(t, err, ErrBatch)
	packed := b.AppendCompressed(nil, CodecS2, []byte("?"))
	_, err = ParseBatch(packed)
	require.ErrorIs(t, err, ErrBatch)
}

// sealed sets the checksum of hand-made batch bytes.
func sealed(b []byte) []byte {
	le.PutUint32(b, crc32c.Checksum(b[4:]))
	return b
}

func TestBatchesThatLieAreRefused(t *testing.T) {
	parses := func(b ...byte) error {
		batch, err := ParseBatch(sealed(append(make([]byte, 4), b...)))
		if err != nil {
			return err
		}
		return batch.Validate(DefaultMaxRecordBytes)
	}
	require.NoError(t, parses(0, 1, 2, 0, 'x'))
	for name, b := range map[string][]byte{
		"no records":                 {0, 0},
		"compacted by nobody":        {attrThinned, 1, 2, 0, 'x'},
		"time to live of zero":       {attrTTL, 1, 0, 2, 0, 'x'},
		"unknown codec":              {4, 1, 2, 0, 'x'},
		"more than it holds":         {0, 2, 2, 0, 'x'},
		"less than it holds":         {0, 1, 2, 0, 'x', 2, 0, 'y'},
		"record of no bytes":         {0, 1, 0},
		"record past the end":        {0, 1, 9, 0, 'x'},
		"unknown record flag":        {0, 1, 2, 0x40, 'x'},
		"removed record":             {0, 1, 1, recordRemoved},
		"key past the record":        {0, 1, 3, recordKey, 5, 'x'},
		"tombstone with a value":     {0, 1, 2, recordNull, 'x'},
		"empty headers":              {0, 1, 2, recordHeaders, 0},
		"half a header":              {0, 1, 4, recordHeaders, 2, 1, 'n'},
		"empty subject":              {0, 1, 2, recordSubject, 0},
		"time delta of zero":         {attrTime, 1, 0, 2, recordTime, 0},
		"producer zero":              {attrProducer, 1, 0, 0, 0, 2, 0, 'x'},
		"count that is not minimal":  {0, 0x81, 0, 2, 0, 'x'},
		"length that is not minimal": {0, 1, 0x82, 0, 0, 'x'},
		"varint without an end":      append([]byte{0}, bytes.Repeat([]byte{0x80}, 11)...),
		"count over the limit":       binary.AppendUvarint([]byte{0}, MaxBatchRecords+1),
		"unfolds to too much":        binary.AppendUvarint([]byte{1, 1}, MaxDecompressedBytes+1),
	} {
		require.Error(t, parses(b...), name)
	}
	whole := fullBatch()
	for cut := range whole {
		_, err := ParseBatch(whole[:cut])
		require.Error(t, err, "cut at %d", cut)
	}
	for bit := range len(whole) * 8 {
		flipped := bytes.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, err := ParseBatch(flipped)
		require.ErrorIs(t, err, ErrBatchChecksum, "bit %d", bit)
	}
}

func TestCompressedBatchesAreOpaque(t *testing.T) {
	var b BatchBuilder
	b.Add(Record{Value: []byte("hello")})
	packed := b.AppendCompressed(nil, CodecZstd, []byte("not really zstd"))
	batch, err := ParseBatch(packed)
	require.NoError(t, err)
	require.NoError(t, batch.Validate(1))
	records, size := batch.Packed()
	require.Equal(t, "not really zstd", string(records))
	require.Equal(t, len(b.Records()), size)
	_, err = batch.Unpacked([]byte("wrong size"))
	require.ErrorIs(t, err, ErrBatch)
	open, err := batch.Unpacked(b.Records())
	require.NoError(t, err)
	require.Equal(t, "hello", string(recordsOf(t, open)[0].Value))
}

func TestCutKeepsTheRecordsOfTheRange(t *testing.T) {
	var b BatchBuilder
	for i := range 9 {
		b.Add(Record{Time: 500 + int64(i), Key: []byte{byte(i)}, Value: bytes.Repeat([]byte{'v'}, i*40)})
	}
	batch, err := ParseBatch(b.Bytes())
	require.NoError(t, err)
	all := recordsOf(t, batch)
	for from := range uint32(9) {
		for to := from + 1; to <= 9; to++ {
			cut, err := batch.Cut([]byte("before"), from, to)
			require.NoError(t, err)
			part, err := ParseBatch(cut[len("before"):])
			require.NoError(t, err)
			require.Equal(t, all[from:to], recordsOf(t, part))
		}
	}
}

func TestEntriesProveWhatTheyAre(t *testing.T) {
	id := Identity{Topic: testTopic, Partition: 2}
	entry := testEntry(testBatch())
	e, rest, err := ParseEntry(append(bytes.Clone(entry), "rest"...), id.Seed())
	require.NoError(t, err)
	require.Equal(t, "rest", string(rest))
	require.Equal(t, testBatch(), e.Payload)
	require.Equal(t, uint64(8), e.NextOffset())
	require.Equal(t, len(entry), e.Size())

	for bit := range len(entry) * 8 {
		flipped := bytes.Clone(entry)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, _, err := ParseEntry(flipped, id.Seed())
		require.Error(t, err, "bit %d", bit)
	}
	for cut := range entry {
		_, _, err := ParseEntry(entry[:cut], id.Seed())
		require.Error(t, err, "cut at %d", cut)
	}
	_, _, err = ParseEntry(make([]byte, 100), id.Seed())
	require.ErrorIs(t, err, ErrEnd)
	_, _, err = ParseEntry(nil, id.Seed())
	require.ErrorIs(t, err, ErrEnd)
	for _, foreign := range []Identity{{Topic: testTopic, Partition: 3}, {Partition: 2}} {
		_, _, err = ParseEntry(entry, foreign.Seed())
		require.ErrorIs(t, err, ErrEntry)
	}
}

func TestABatchUnderAnotherStampIsFound(t *testing.T) {
	var a, b BatchBuilder
	a.Add(Record{Value: []byte("one")})
	b.Add(Record{Value: []byte("two")})
	x, y := testEntry(bytes.Clone(a.Bytes())), testEntry(bytes.Clone(b.Bytes()))
	require.Len(t, y, len(x))
	swapped := append(bytes.Clone(x[:StampBytes]), y[StampBytes:]...)
	_, _, err := ParseEntry(swapped, Identity{Topic: testTopic, Partition: 2}.Seed())
	require.ErrorIs(t, err, ErrEntry)
}

func TestHotCodecsDoNotAllocate(t *testing.T) {
	f := func(name string, run func()) {
		t.Helper()
		run()
		require.Zero(t, testing.AllocsPerRun(100, run), name)
	}
	frame := vectors()[11].frame()
	f("NextFrame", func() { _, _, _, _, _ = NextFrame(frame, MaxFrameBytes) })
	batch := testBatch()
	var view Batch
	f("Batch.Parse", func() { _ = view.Parse(batch); _ = view.Validate(100) })
	var b BatchBuilder
	f("BatchBuilder", func() {
		b.Reset()
		b.Add(Record{Key: []byte("k"), Value: batch})
		_ = b.Bytes()
	})
	out := make([]byte, 0, 64)
	f("PublishReply", func() { _ = PublishReply{Base: 1 << 30, Extra: 7}.Append(out, FlagRange) })
	entry, seed := testEntry(batch), Identity{}.Seed()
	st := Stamp{Length: uint32(len(batch)), Kind: KindData, Count: 1}
	f("Stamp.Put", func() { st.Put(entry, seed) })
}

func TestPlainBatch(t *testing.T) {
	var b BatchBuilder
	b.Add(Record{Value: []byte("value")})
	one := append([]byte(nil), b.Bytes()...)
	b.Add(Record{Key: []byte("key"), Value: []byte("value")})
	two := append([]byte(nil), b.Bytes()...)
	for range 200 {
		b.Add(Record{Value: bytes.Repeat([]byte("v"), 90)})
	}
	for i, raw := range [][]byte{one, two, b.Bytes()} {
		n, ok := PlainBatch(raw, 100)
		require.True(t, ok)
		require.Equal(t, []uint32{1, 2, 202}[i], n)
		require.Equal(t, i == 0, PlainValue(raw))
		_, ok = PlainBatch(raw, 5)
		require.False(t, ok, "a record of 6 bytes and more")
		for at := range raw {
			_, ok = PlainBatch(raw[:at], 100)
			require.False(t, ok, "cut at %d", at)
			require.False(t, PlainValue(raw[:at]), "cut at %d", at)
		}
	}
	_, ok := PlainBatch(fullBatch(), 100)
	require.False(t, ok, "it has optional fields")
	require.False(t, PlainValue(fullBatch()))
}

func TestPlainValueIsAPlainBatch(t *testing.T) {
	for n := range 300 {
		var b BatchBuilder
		b.Add(Record{Value: make([]byte, n)})
		raw := b.Bytes()
		require.Equal(t, n <= 126, PlainValue(raw), "%d bytes", n)
		for at := 4; at < 8; at++ {
			for bit := range 8 {
				raw[at] ^= 1 << bit
				if PlainValue(raw) {
					_, ok := PlainBatch(raw, 1000)
					require.True(t, ok, "byte %d, bit %d", at, bit)
				}
				raw[at] ^= 1 << bit
			}
		}
	}
}

func TestPayloadsOK(t *testing.T) {
	var all [][]byte
	for n := range 40 {
		all = append(all, AppendPayload(nil, bytes.Repeat([]byte{7}, n)))
	}
	require.Equal(t, len(all), PayloadsOK(all))
	require.Zero(t, PayloadsOK(nil))
	for i, p := range all {
		for at := range p {
			p[at] ^= 4
			require.Equal(t, i, PayloadsOK(all), "byte %d of %d", at, i)
			p[at] ^= 4
		}
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(testBatch())
	f.Add(fullBatch())
	f.Add(onceBatch())
	f.Add(thinBatch())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			sealed(b) // get behind the checksum
		}
		batch, err := ParseBatch(b)
		count, plain := PlainBatch(b, MaxFrameBytes)
		require.True(t, plain || !PlainValue(b))
		if err != nil {
			require.False(t, plain)
			return
		}
		valid := batch.Validate(MaxFrameBytes) == nil
		require.True(t, !plain || valid && b[4] == 0, "PlainBatch and Validate disagree")
		require.True(t, !plain || count == batch.Count())
		n, whole, removed := uint32(0), true, batch.Thinned()
		for r, err := range batch.Records() {
			whole = err == nil
			removed = removed || r.Removed
			n++
		}
		if batch.Codec() != CodecNone {
			return
		}
		require.Equal(t, valid, whole && !removed, "Validate and Records disagree")
		require.True(t, !valid || n == batch.Count())
		var to BatchBuilder
		kept, err := batch.Thin(&to, func(i int, _ *Record) bool { return i%2 == 0 })
		require.Equal(t, whole, err == nil, "Thin and Records disagree")
		if err == nil && kept > 0 {
			thin, err := ParseBatch(to.Bytes())
			require.NoError(t, err)
			require.Equal(t, batch.Count(), thin.Count())
		}
	})
}

// thinBatch is fullBatch with one record left.
func thinBatch() []byte {
	whole, err := ParseBatch(fullBatch())
	if err != nil {
		panic(err)
	}
	var b BatchBuilder
	if _, err := whole.Thin(&b, func(i int, _ *Record) bool { return i == 1 }); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func FuzzEntry(f *testing.F) {
	seed := Identity{Topic: testTopic, Partition: 2}.Seed()
	f.Add(testEntry(testBatch()))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := ParseEntry(b, seed)
		if err == nil {
			require.Equal(t, len(b), e.Size()+len(rest))
		}
	})
}

func BenchmarkParseAndValidate(b *testing.B) {
	for _, shape := range [][2]int{{16, 1}, {128, 1}, {128, 100}} {
		b.Run(fmt.Sprintf("%dBx%d", shape[0], shape[1]), func(b *testing.B) {
			var builder BatchBuilder
			for range shape[1] {
				builder.Add(Record{Value: make([]byte, shape[0])})
			}
			raw := builder.Bytes()
			var batch Batch
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if batch.Parse(raw) != nil || batch.Validate(1<<20) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

func TestAThinnedBatchKeepsThePlacesOfItsRecords(t *testing.T) {
	whole, err := ParseBatch(fullBatch())
	require.NoError(t, err)
	want := recordsOf(t, whole)
	var b BatchBuilder
	kept, err := whole.Thin(&b, func(i int, r *Record) bool { return i == 1 })
	require.NoError(t, err)
	require.Equal(t, 1, kept)
	thin, err := ParseBatch(b.Bytes())
	require.NoError(t, err)
	require.True(t, thin.Thinned())
	require.Zero(t, thin.Producer())
	require.Less(t, len(thin.Raw()), len(whole.Raw()))
	require.ErrorIs(t, thin.Validate(DefaultMaxRecordBytes), ErrBatch, "no producer may send it")
	got := recordsOf(t, thin)
	require.Len(t, got, len(want))
	for i, r := range got {
		if i == 1 {
			require.Equal(t, want[i], r)
		} else {
			require.Equal(t, Record{Removed: true}, r)
		}
	}
	again, err := thin.Thin(new(BatchBuilder), func(int, *Record) bool { return true })
	require.NoError(t, err)
	require.Equal(t, 1, again, "what was removed stays removed")
	var all BatchBuilder
	_, err = whole.Thin(&all, func(int, *Record) bool { return true })
	require.NoError(t, err)
	same, err := ParseBatch(all.Bytes())
	require.NoError(t, err)
	require.False(t, same.Thinned())
	require.Equal(t, want, recordsOf(t, same))
}

// A plain record is the same bytes whichever way it was added, in batches with times, too.
func TestAddPlainIsAdd(t *testing.T) {
	fields := [][]byte{nil, {}, []byte("a"), make([]byte, 127), make([]byte, 128), make([]byte, 70_000)}
	for _, at := range []int64{0, 1700000000000} {
		var a, b BatchBuilder
		if at > 0 {
			a.Add(Record{Time: at})
			b.Add(Record{Time: at})
		}
		for _, key := range fields {
			for _, value := range fields {
				a.Add(Record{Key: key, Value: value})
				b.AddPlain(key, value)
			}
		}
		require.Equal(t, a.Bytes(), b.Bytes())
		require.Equal(t, a.Count(), b.Count())
	}
}

// A batch without memory from an earlier one doubles what it has.
func TestANewBatchGrowsInFewSteps(t *testing.T) {
	value := make([]byte, 100)
	f := func(add func(to *BatchBuilder)) {
		t.Helper()
		var to BatchBuilder
		steps := 0
		for had := 0; to.Size() < 256<<10; had = cap(to.buf) {
			add(&to)
			if cap(to.buf) != had {
				steps++
			}
		}
		require.LessOrEqual(t, steps, 12) // append takes 22
	}
	f(func(to *BatchBuilder) { to.Add(Record{Value: value, Subject: []byte("s")}) })
	f(func(to *BatchBuilder) { to.AddPlain([]byte("key"), value) })
}

func BenchmarkAdd(b *testing.B) {
	value := make([]byte, 128)
	add := func(name string, each func(to *BatchBuilder)) {
		b.Run(name, func(b *testing.B) {
			var to BatchBuilder
			b.ReportAllocs()
			for b.Loop() {
				if to.Count() == 1000 {
					to.Reset()
				}
				each(&to)
			}
		})
	}
	add("record", func(to *BatchBuilder) { to.Add(Record{Value: value}) })
	add("plain", func(to *BatchBuilder) { to.AddPlain(nil, value) })
}

// The limit of a record counts the key, the headers and the value. What separates them, the time and the subject
// are the protocol's.
func TestRecordLimitCountsContent(t *testing.T) {
	f := func(content int, r Record) {
		t.Helper()
		for _, second := range []bool{false, true} { // a batch of one record has a way of its own
			var b BatchBuilder
			b.Add(r)
			if second {
				b.Add(Record{Value: []byte("v")})
			}
			_, ok := PlainBatch(b.Bytes(), content-1)
			require.False(t, ok)
			batch, err := ParseBatch(b.Bytes())
			require.NoError(t, err)
			require.NoError(t, batch.Validate(content))
			require.ErrorIs(t, batch.Validate(content-1), ErrRecordTooLarge)
		}
	}
	value := bytes.Repeat([]byte("v"), 1000)
	f(1000, Record{Value: value})
	f(1003, Record{Key: []byte("key"), Value: value})
	f(1007, Record{Headers: Headers{}.Append("a", []byte("b")).Append("name", []byte("c")), Value: value})
	f(1000, Record{Time: 5, Subject: []byte("orders.eu"), Value: value})
	f(3, Record{Key: []byte("key")})

	var b BatchBuilder // no limit lets a record outgrow a frame
	b.Add(Record{Value: make([]byte, MaxRecordBytes)})
	batch, err := ParseBatch(b.Bytes())
	require.NoError(t, err)
	require.ErrorIs(t, batch.Validate(MaxRecordBytes), ErrRecordTooLarge)
}
