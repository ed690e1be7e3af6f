package log_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// keyed is one record that was appended to a log that is compacted.
type keyed struct {
	key, value string // no value is a tombstone
	codec      wire.Codec
	ms         int64 // append time
	ttl        int64
}

// compacted is a log that is compacted, with everything that was ever appended to it.
type compacted struct {
	t    *testing.T
	disk *faultfs.Disk
	now  time.Time
	fs   *openingFS // around disk
	s    *log.Store
	l    *log.Log
	all  []keyed // by offset

	memory int64 // budget; 0 for a small one
	logger *slog.Logger
}

const tombstoneAge = time.Hour

func newCompacted(t *testing.T) *compacted {
	c := &compacted{t: t, disk: faultfs.New(), now: time.UnixMilli(1_763_800_000_000)}
	c.open()
	return c
}

func (c *compacted) open() {
	o := small(c.disk)
	o.Now = func() time.Time { return c.now }
	o.MemoryBytes = cmp.Or(c.memory, o.MemoryBytes)
	o.Logger = c.logger
	c.fs = &openingFS{FS: c.disk}
	o.FS = c.fs
	s, err := log.OpenStill(o)
	require.NoError(c.t, err)
	c.s = s
	c.l = openLog(c.t, s, identity(1), log.Config{Compact: true, TombstoneAge: tombstoneAge, SegmentBytes: 4 << 10})
}

func (c *compacted) append(k wire.Codec, ttl int64, records ...string) {
	c.t.Helper()
	var b wire.BatchBuilder
	b.SetTTL(ttl)
	for i := 0; i < len(records); i += 2 {
		r := wire.Record{Key: []byte(records[i]), Value: []byte(records[i+1])}
		if records[i+1] == "" {
			r.Value = nil
		}
		b.Add(r)
		c.all = append(c.all, keyed{records[i], records[i+1], k, c.now.UnixMilli(), ttl})
	}
	payload := b.Bytes()
	if k != wire.CodecNone {
		packed := codec.Compress(nil, k, b.Records())
		payload = b.AppendCompressed(nil, k, packed)
	}
	_, _, err := c.l.Append(log.Batch{
		Kind: wire.KindData, Count: uint32(len(records) / 2), Term: 1, Time: c.now.UnixMilli(), Payload: payload,
	})
	require.NoError(c.t, err)
}

// read returns what a reader sees from an offset on, and checks it against what was appended.
func (c *compacted) read(from uint64) map[uint64]keyed {
	c.t.Helper()
	got := map[uint64]keyed{}
	for _, e := range readFrom(c.t, c.l, from, c.l.Positions().Next) {
		batch, err := wire.ParseBatch(e.Payload)
		require.NoError(c.t, err)
		require.Equal(c.t, e.Count, batch.Count())
		plain, err := codec.Unpack(batch, nil)
		require.NoError(c.t, err)
		at := e.BaseOffset
		for r, err := range plain.Records() {
			require.NoError(c.t, err)
			if !r.Removed && at >= from {
				k := keyed{string(r.Key), string(r.Value), c.all[at].codec, e.Time, batch.TTL()}
				require.Equal(c.t, c.all[at], k, "offset %d", at)
				got[at] = k
			}
			at++
		}
	}
	return got
}

// latest returns the offset of the newest record of every key.
func (c *compacted) latest() map[string]uint64 {
	m := map[string]uint64{}
	for i, k := range c.all {
		m[k.key] = uint64(i)
	}
	return m
}

// check compares what is read with the promise: every key's latest record is there, unless its time is
// over, and nothing that was never appended.
func (c *compacted) check() map[uint64]keyed {
	c.t.Helper()
	got := c.read(0)
	now := c.now.UnixMilli()
	for key, at := range c.latest() {
		k := c.all[at]
		mayBeGone := k.value == "" && k.ms < now-tombstoneAge.Milliseconds() || k.ttl > 0 && k.ms+k.ttl <= now
		if _, ok := got[at]; !ok && !mayBeGone {
			require.Fail(c.t, "lost", "key %s at %d", key, at)
		}
	}
	return got
}

// segments returns the paths of the segment files.
func (c *compacted) segments() (names []string) {
	for _, name := range c.disk.Names() {
		if strings.HasSuffix(name, ".seg") {
			names = append(names, name)
		}
	}
	return names
}

// sealed returns the number of segments with an intact footer.
func (c *compacted) sealed() (n int) {
	c.t.Helper()
	for it, err := range log.InspectFS(c.disk, "/data") {
		require.NoError(c.t, err)
		if it.Kind == log.ItemSegment && it.Sealed {
			n++
		}
	}
	return n
}

func has(got map[uint64]keyed, offset uint64) bool {
	_, ok := got[offset]
	return ok
}

func (c *compacted) compact() {
	c.t.Helper()
	require.NoError(c.t, c.s.Checkpoint())
	require.NoError(c.t, c.s.Compact())
}

func TestCompactionKeepsTheLatestOfEveryKey(t *testing.T) {
	c := newCompacted(t)
	for i := range 400 {
		c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), fmt.Sprint("value ", i, " ", string(make([]byte, 40))))
	}
	require.NoError(t, c.s.Checkpoint())
	before := c.l.Stats()
	c.compact()
	after := c.l.Stats()
	require.Less(t, after.Bytes, before.Bytes/3)
	require.Less(t, after.Segments, before.Segments)
	require.Equal(t, before.Bytes-after.Bytes, c.s.Stats().Reclaimed)
	require.Len(t, c.segments(), after.Segments, "its files replace the others")
	require.Equal(t, after.Segments-1, c.sealed())
	got := c.check()
	require.Less(t, len(got), 100, "the active segment is left as it is")
	require.False(t, has(got, 0))

	for from := range uint64(len(c.all)) { // a reader may begin anywhere
		for at := range c.read(from) {
			require.GreaterOrEqual(t, at, from)
		}
	}
	segments := after.Segments
	require.NoError(t, c.s.Compact())
	require.Equal(t, segments, c.l.Stats().Segments, "nothing new, nothing to do")

	require.NoError(t, c.s.Close())
	report, err := log.VerifyFS(c.disk, "/data")
	require.NoError(t, err)
	require.True(t, report.OK(), report.Damage)
	c.open()
	require.Equal(t, got, c.check())
	require.Equal(t, uint64(400), c.l.Positions().Next)
	at, err := c.l.OffsetAt(c.now.UnixMilli() + 1)
	require.NoError(t, err)
	require.Equal(t, uint64(400), at)
}

// After a lost checkpoint the last segment may be sealed. A look-up by time must not take its footer for entries, or a pass
// would find damage there later.
func TestALookUpByTimeKeepsASealedLastSegmentCompactable(t *testing.T) {
	c := newCompacted(t)
	fill := func() {
		for i := range 200 {
			c.append(wire.CodecNone, 0, fmt.Sprint("k", i%5), strings.Repeat("x", 100))
			c.now = c.now.Add(time.Second)
		}
	}
	fill()
	require.NoError(t, c.s.Checkpoint())
	require.NoError(t, c.s.Close())
	var last string
	for _, name := range c.disk.Names() {
		if strings.HasSuffix(name, ".seg") {
			last = max(last, name)
		}
	}
	for _, name := range c.disk.Names() {
		if name == last || name == "/data/checkpoint" || strings.HasPrefix(name, "/data/commit/") {
			c.disk.Delete(name)
		}
	}
	c.open()
	defer c.s.Close()
	n := c.l.Positions().Next
	c.all = c.all[:n]
	at, err := c.l.OffsetAt(c.all[n-1].ms)
	require.NoError(t, err)
	require.Equal(t, n-1, at)
	fill()
	c.compact()
	require.Less(t, len(c.check()), 100, "all sealed segments are compacted")
}

// packFar returns an S2 block of records whose n bytes from second on are those from first on: a repetition that lies
// too far back for the encoder that compaction uses.
func packFar(records []byte, first, second, n int) []byte {
	literal := func(dst, b []byte) []byte {
		return append(binary.LittleEndian.AppendUint32(append(dst, 63<<2), uint32(len(b)-1)), b...)
	}
	dst := literal(binary.AppendUvarint(nil, uint64(len(records))), records[:second])
	at := second
	for ; at+64 < second+n; at += 64 {
		dst = binary.LittleEndian.AppendUint32(append(dst, 63<<2|3), uint32(second-first))
	}
	return literal(dst, records[at:])
}

// A producer may compress better than the broker. A batch that would outgrow an entry stays as it is.
func TestCompactionMakesNoEntryTooLarge(t *testing.T) {
	c := &compacted{t: t, disk: faultfs.New(), now: time.UnixMilli(1_763_800_000_000), memory: 64 << 20}
	c.open()
	noise := make([]byte, 6<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	var b wire.BatchBuilder
	for _, r := range [][2]string{{"old", "x"}, {"a", string(noise)}, {"b", string(noise)}} {
		b.Add(wire.Record{Key: []byte(r[0]), Value: []byte(r[1])})
		c.all = append(c.all, keyed{r[0], r[1], wire.CodecS2, c.now.UnixMilli(), 0})
	}
	first, second := bytes.Index(b.Records(), noise), bytes.LastIndex(b.Records(), noise)
	payload := b.AppendCompressed(nil, wire.CodecS2, packFar(b.Records(), first, second, len(noise)))
	require.Less(t, len(payload), wire.MaxFrameBytes)
	_, _, err := c.l.Append(log.Batch{Kind: wire.KindData, Count: 3, Term: 1, Time: c.now.UnixMilli(), Payload: payload})
	require.NoError(t, err)
	for i := range 4 {
		c.append(wire.CodecNone, 0, "old", fmt.Sprint(i), "filler", strings.Repeat("f", 4<<10))
	}
	c.compact()
	got := c.check()
	require.True(t, has(got, 1), "it can be read")
	require.False(t, has(got, 4), "and others were compacted")
}

func TestTombstonesAndRecordsPastTheirTimeGoAway(t *testing.T) {
	c := newCompacted(t)
	fill := func() {
		for i := range 80 {
			c.append(wire.CodecNone, 0, fmt.Sprint("filler-", i%5), string(bytes.Repeat([]byte{'x'}, 100)))
		}
	}
	c.append(wire.CodecNone, 0, "gone", "value")
	c.append(wire.CodecNone, 0, "gone", "")
	c.append(wire.CodecNone, 1000, "short", "value")
	fill()
	c.compact()
	got := c.check()
	require.False(t, has(got, 0))
	require.True(t, has(got, 1), "readers see the deletion for a while")
	require.True(t, has(got, 2))
	c.now = c.now.Add(tombstoneAge + time.Millisecond)
	fill()
	c.compact()
	got = c.check()
	require.False(t, has(got, 1))
	require.False(t, has(got, 2))
}

func TestModelOfCompaction(t *testing.T) {
	seeds.Each(t, 60, func(t *testing.T, seed uint64) {
		c := newCompacted(t)
		rng := rand.New(rand.NewPCG(seed, 7))
		for range 12 {
			for range rng.IntN(60) {
				var records []string
				for range 1 + rng.IntN(9) {
					value := ""
					if rng.IntN(8) > 0 {
						value = fmt.Sprintf("%d %x", len(c.all), make([]byte, rng.IntN(60)))
					}
					records = append(records, fmt.Sprint(rng.IntN(1+rng.IntN(200))), value)
				}
				ttl := int64(0)
				if rng.IntN(10) == 0 {
					ttl = 1 + rng.Int64N(2*tombstoneAge.Milliseconds())
				}
				c.append(wire.Codec(rng.IntN(4)), ttl, records...)
				c.now = c.now.Add(time.Duration(rng.IntN(60_000)) * time.Millisecond)
			}
			switch rng.IntN(5) {
			case 0:
				require.NoError(t, c.s.Close())
				c.open()
			case 1:
				first := rng.Uint64N(c.l.Positions().Next + 1)
				require.NoError(t, c.l.TruncatePrefix(first))
				c.purge(first)
			default:
				c.compact()
			}
			c.checkFrom(c.l.Positions().First)
		}
		require.NoError(t, c.s.Close())
		report, err := log.VerifyFS(c.disk, "/data")
		require.NoError(t, err)
		require.True(t, report.OK(), "%v", report.Damage)
	})
}

// purge forgets what is below first: nothing of it is promised.
func (c *compacted) purge(first uint64) {
	for i := range min(first, uint64(len(c.all))) {
		c.all[i].ttl = 1
		c.all[i].ms = 0
	}
}

func (c *compacted) checkFrom(first uint64) {
	c.t.Helper()
	got := c.read(first)
	now := c.now.UnixMilli()
	for key, at := range c.latest() {
		k := c.all[at]
		mayBeGone := at < first || k.value == "" && k.ms < now-tombstoneAge.Milliseconds() || k.ttl > 0 && k.ms+k.ttl <= now
		if _, ok := got[at]; !ok && !mayBeGone {
			require.Fail(c.t, "lost", "key %s at %d", key, at)
		}
	}
}

// A power cut at any call of a compaction, or a failure, leaves every latest record readable.
func TestPowerCutsDuringCompaction(t *testing.T) {
	base := newCompacted(t)
	for i := range 150 {
		base.append(wire.Codec(i%2), 0, fmt.Sprint("key-", i%9), fmt.Sprint("value ", i, string(make([]byte, 90))))
	}
	require.NoError(t, base.s.Checkpoint())
	require.NoError(t, base.s.Compact())
	for i := range 150 {
		base.append(wire.CodecNone, 0, fmt.Sprint("key-", i%4), fmt.Sprint("value ", i, string(make([]byte, 90))))
	}
	require.NoError(t, base.s.Close())
	for _, fault := range []string{"cut", "failure"} {
		for call := 1; ; call++ {
			c := &compacted{t: t, disk: base.disk.Clone(), now: base.now, all: base.all}
			c.open()
			if fault == "cut" {
				c.disk.CrashAt(call)
			} else {
				left := call
				c.disk.Fail(func(faultfs.Op, string) error {
					if left--; left == 0 {
						return faultfs.ErrInjected
					}
					return nil
				})
			}
			err := c.s.Compact()
			done := err == nil
			if !done {
				require.ErrorIs(t, err, faultfs.ErrInjected)
			}
			if fault == "failure" {
				c.check() // the store that saw it goes on
			}
			c.s.Drop()
			c.disk.Fail(nil)
			c.disk = c.disk.PowerCut(rand.New(rand.NewPCG(uint64(call), 3)))
			c.open()
			c.check()
			require.NoError(t, c.s.Compact())
			c.check()
			require.NoError(t, c.s.Close())
			c.open() // and what was left behind does not count
			c.check()
			require.NoError(t, c.s.Close())
			if done {
				require.Greater(t, call, 5)
				break
			}
		}
	}
}

// TestDamageKeepsTombstones damages a segment that holds a record and not its deletion. Compaction leaves the segment as it
// is, so the deletion has to stay, too, however old it is.
func TestDamageKeepsTombstones(t *testing.T) {
	c := newCompacted(t)
	fill := func(n int) {
		for i := range n {
			c.append(wire.CodecNone, 0, fmt.Sprint("filler-", i%5), string(bytes.Repeat([]byte{'x'}, 100)))
		}
	}
	c.append(wire.CodecNone, 0, "gone", "value")
	fill(40)
	c.append(wire.CodecNone, 0, "gone", "")
	deleted := uint64(len(c.all) - 1)
	fill(80)
	require.NoError(t, c.s.Close())
	name := c.segments()[0]
	b := bytes.Clone(c.disk.Bytes(name))
	b[len(b)/2] ^= 0x40
	c.disk.SetBytes(name, b)

	c.open()
	c.now = c.now.Add(2 * tombstoneAge)
	for range 3 { // the first pass finds the damage
		fill(40)
		c.compact()
	}
	require.Less(t, c.l.Stats().Segments, 7)
	got := c.read(deleted)
	require.True(t, has(got, deleted))
	require.False(t, has(got, deleted+1))
}

// A segment that was compacted is not scanned by the next pass, which finds damage only when it copies it.
func TestDamageThatACopyFindsCostsOnlyItself(t *testing.T) {
	c := newCompacted(t)
	fill := func(keys int) {
		for i := range 150 {
			c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%keys), string(bytes.Repeat([]byte{'x'}, 100)))
		}
	}
	fill(40)
	c.compact()
	fill(5)
	require.NoError(t, c.s.Close())
	name := c.segments()[0]
	b := bytes.Clone(c.disk.Bytes(name))
	b[1000] ^= 0x40
	c.disk.SetBytes(name, b)
	c.open()
	want := c.intact()
	require.Greater(t, len(want), 30)
	c.compact()
	got := c.intact()
	for key, at := range c.latest() {
		require.Equal(t, has(want, at), has(got, at), key)
	}
}

// intact is read behind every damage.
func (c *compacted) intact() map[uint64]keyed {
	c.t.Helper()
	got := map[uint64]keyed{}
	var chunk log.Chunk
	for from, next := uint64(0), c.l.Positions().Next; from < next; {
		var damage *log.CorruptError
		if err := c.l.ReadCold(&chunk, from, next, 1); errors.As(err, &damage) {
			from = damage.Next
			continue
		}
		end := chunk.Next
		chunk.Release()
		for _, e := range readFrom(c.t, c.l, from, end) {
			batch, err := wire.ParseBatch(e.Payload)
			require.NoError(c.t, err)
			at := e.BaseOffset
			for r, err := range batch.Records() {
				require.NoError(c.t, err)
				if !r.Removed {
					got[at] = c.all[at]
				}
				at++
			}
		}
		from = end
	}
	return got
}

// The old files stay until the name of the new one is durable.
func TestCompactionRemovesNothingBeforeItsFileIsDurable(t *testing.T) {
	c := newCompacted(t)
	for i := range 300 {
		c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), string(bytes.Repeat([]byte{'x'}, 100)))
	}
	require.NoError(t, c.s.Checkpoint())
	before := c.segments()
	c.disk.Fail(failOn(faultfs.OpSyncDir, "/partitions/", 1))
	require.Error(t, c.s.Compact())
	c.disk.Fail(nil)
	require.Subset(t, c.segments(), before)
	c.check()
}

func TestADamagedSegmentIsNotCompacted(t *testing.T) {
	c := newCompacted(t)
	for i := range 300 {
		c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), fmt.Sprint("value ", i, string(make([]byte, 60))))
	}
	require.NoError(t, c.s.Close())
	segments := c.segments()
	require.Greater(t, len(segments), 4)
	b := bytes.Clone(c.disk.Bytes(segments[2]))
	b[len(b)/2] ^= 0x40
	c.disk.SetBytes(segments[2], b)
	c.open()
	require.NoError(t, c.s.Compact()) // finds it
	require.NoError(t, c.s.Compact())
	require.Less(t, c.l.Stats().Segments, len(segments))
	var chunk log.Chunk
	lost := 0
	for at := uint64(0); at < c.l.Positions().Next; {
		err := c.l.ReadCold(&chunk, at, c.l.Positions().Next, 1<<20)
		if damage := (*log.CorruptError)(nil); err != nil {
			require.ErrorAs(t, err, &damage)
			lost++
			at = damage.Next
			continue
		}
		at = chunk.Next
		chunk.Release()
	}
	require.Equal(t, 1, lost)
}

// openingFS calls before, if it is set, before it opens a file, and a hook once, behind the opening of an output of
// compaction.
type openingFS struct {
	log.FS
	before func()
	hook   func()
}

func (f *openingFS) Open(name string, write, create bool) (log.File, error) {
	if f.before != nil {
		f.before()
	}
	file, err := f.FS.Open(name, write, create)
	if hook := f.hook; hook != nil && strings.HasSuffix(name, ".compact") {
		f.hook = nil
		hook()
	}
	return file, err
}

// Segments that a purge or a deletion removes during a pass are not damaged, and the pass has not failed.
func TestWhatIsRemovedDuringACompactionIsNoDamage(t *testing.T) {
	for _, remove := range []func(c *compacted) error{
		func(c *compacted) error { return c.l.TruncatePrefix(c.l.Positions().Next) },
		func(c *compacted) error { return c.s.RemoveLogs(c.l.Identity()) },
	} {
		for at, removed := 0, true; removed; at++ { // before each file that the pass opens
			var said bytes.Buffer
			c := newCompacted(t)
			for i := range 300 {
				c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), fmt.Sprint("value ", i, string(make([]byte, 60))))
			}
			require.NoError(t, c.s.Close())
			c.logger = slog.New(slog.NewTextHandler(&said, nil))
			c.open()
			left := at
			removed = false
			c.fs.before = func() {
				if left--; left == -1 {
					removed = true
					require.NoError(t, remove(c))
				}
			}
			require.NoError(t, c.s.Compact(), at)
			c.fs.before = nil
			require.NotContains(t, said.String(), "damaged", at)
			c.s.Drop()
			require.True(t, removed || at > 3, "the pass opens %d files", at)
		}
	}
}

// A broker dies during a compaction, and the next one compacts again while a checkpoint is made: what
// the checkpoint clears away is the old output, not the new one.
func TestALeftoverOfACompactionIsNotTheNextOne(t *testing.T) {
	c := newCompacted(t)
	for i := range 400 {
		c.append(wire.CodecNone, 0, fmt.Sprint("k", i%7), fmt.Sprint("v", i))
	}
	require.NoError(t, c.s.Checkpoint())
	var died *faultfs.Disk
	c.fs.hook = func() { died = c.disk.Clone() }
	require.NoError(t, c.s.Compact())
	require.NoError(t, c.s.Close())
	require.NotNil(t, died)

	c.disk = died
	c.open()
	c.fs.hook = func() {
		c.append(wire.CodecNone, 0, "k", "v")
		require.NoError(t, c.s.Checkpoint())
	}
	require.NoError(t, c.s.Compact())
	require.Nil(t, c.fs.hook)
	require.Positive(t, c.s.Stats().Reclaimed)
	c.check()
	require.NoError(t, c.s.Close())
}

func TestACheckpointRemovesWhatACompactionCouldNot(t *testing.T) {
	c := newCompacted(t)
	fill := func() {
		for i := range 300 {
			c.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), string(bytes.Repeat([]byte{'x'}, 100)))
		}
		require.NoError(t, c.s.Checkpoint())
	}
	fill()
	c.disk.Fail(failOn(faultfs.OpRemove, ".seg", 1))
	require.ErrorIs(t, c.s.Compact(), faultfs.ErrInjected)
	c.disk.Fail(nil)
	require.Greater(t, len(c.segments()), c.l.Stats().Segments)
	c.append(wire.CodecNone, 0, "key", "value")
	require.NoError(t, c.s.Checkpoint())
	require.Len(t, c.segments(), c.l.Stats().Segments)
	c.check()
}
