package partition

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// clock is a time that tests move.
type clock struct{ ms atomic.Int64 }

func (c *clock) read() time.Time { return time.UnixMilli(c.ms.Load()) }

func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func newClock() *clock {
	c := new(clock)
	c.ms.Store(1_763_800_000_000)
	return c
}

// withIDs returns a batch of records with these message ids.
func withIDs(t *testing.T, pr wire.Producer, ids ...string) *wire.Batch {
	t.Helper()
	var b wire.BatchBuilder
	b.MarkIDs()
	b.SetProducer(pr)
	for _, id := range ids {
		rec := wire.Record{Key: []byte("k"), Value: []byte("value of " + id)}
		if id != "" {
			rec.Headers = wire.Headers{}.Append(wire.HeaderID, []byte(id))
		}
		b.Add(rec)
	}
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	return &batch
}

func TestAMessageIDIsStoredOnceWithinTheWindow(t *testing.T) {
	now := newClock()
	n := openNode(t, t.TempDir(), Options{Now: now.read})
	p := n.create("t", 1, "dedupe_window", "1m", "durability", "memory").Partition(0)
	send := func(ids ...string) (uint64, bool, error) {
		base, _, duplicate, err := p.Publish(withIDs(t, wire.Producer{}, ids...), now.read().UnixMilli())
		return base, duplicate, err
	}
	f := func(id string, offset uint64, duplicate bool) {
		t.Helper()
		base, dup, err := send(id)
		require.NoError(t, err)
		require.Equal(t, duplicate, dup, id)
		require.Equal(t, offset, base, id)
	}
	f("a", 0, false)
	f("b", 1, false)
	f("a", 0, true)
	f("", 2, false)
	f("", 3, false) // without an id everything is stored

	_, _, err := send("c", "b", "d")
	require.Equal(t, uint64(1), code(t, wire.CodeDuplicate, err).First)
	_, _, err = send("c", "c")
	code(t, wire.CodeDuplicate, err)
	require.Equal(t, uint64(4), p.Next(), "nothing of them was stored")
	_, _, err = send(string(make([]byte, wire.MaxMessageID+1)))
	code(t, wire.CodeTooLarge, err)
	base, duplicate, err := send("c", "", "d")
	require.NoError(t, err)
	require.False(t, duplicate)
	require.Equal(t, uint64(4), base)
	f("d", 6, true)

	n.reopen() // behind a checkpoint, as closing makes one
	p = n.Topic("t").Partition(0)
	f("a", 0, true)
	now.advance(time.Minute)
	f("d", 6, true)
	now.advance(time.Millisecond)
	f("d", 7, false)
	f("a", 8, false)
	require.Equal(t, uint64(2), p.Stats().Deduplicated, "since the start")

	_, err = n.Alter("t", 0, pairs("dedupe_window", "0"))
	require.NoError(t, err)
	f("a", 9, false)
}

func TestMessageIDsAreKnownAfterAKillToo(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir, Options{})
	p := n.create("t", 1, "dedupe_window", "1h").Partition(0)
	_, _, _, err := p.Publish(withIDs(t, wire.Producer{}, "a", "b"), time.Now().UnixMilli())
	require.NoError(t, err)
	p.Flush(wire.LevelDisk)
	eventually(t, func() bool { return p.Visible() == 2 })

	n2 := openNode(t, killed(t, dir), Options{})
	p = n2.Topic("t").Partition(0)
	base, _, duplicate, err := p.Publish(withIDs(t, wire.Producer{}, "b"), time.Now().UnixMilli())
	require.NoError(t, err)
	require.True(t, duplicate)
	require.Equal(t, uint64(1), base)
}

// A restart reads both messages of an id that was stored again behind the window, and then forgets the first.
func TestAnIDThatWasStoredTwiceIsKnownAfterAKill(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	n := openNode(t, dir, Options{Now: now.read})
	p := n.create("t", 1, "dedupe_window", "1m").Partition(0)
	publish := func(p *Partition) (base uint64, duplicate bool) {
		t.Helper()
		base, _, duplicate, err := p.Publish(withIDs(t, wire.Producer{}, "a"), now.read().UnixMilli())
		require.NoError(t, err)
		return base, duplicate
	}
	publish(p)
	now.advance(time.Minute + time.Millisecond)
	base, duplicate := publish(p)
	require.Equal(t, []any{uint64(1), false}, []any{base, duplicate})
	p.Flush(wire.LevelDisk)
	eventually(t, func() bool { return p.Visible() == 2 })

	p = openNode(t, killed(t, dir), Options{Now: now.read}).Topic("t").Partition(0)
	base, duplicate = publish(p)
	require.Equal(t, []any{uint64(1), true}, []any{base, duplicate})
	now.advance(time.Minute + time.Millisecond)
	base, duplicate = publish(p)
	require.Equal(t, []any{uint64(2), false}, []any{base, duplicate})
}

// killed copies the files of a data directory as the kernel has them when the process dies. Spares come and go
// meanwhile.
func killed(t *testing.T, dir string) (files string) {
	t.Helper()
	eventually(t, func() bool {
		files = t.TempDir()
		return os.CopyFS(files, os.DirFS(dir)) == nil
	})
	return files
}

// A number that an idempotent producer spent on a duplicate is used: the next one follows.
func TestADuplicateIDUsesTheProducersNumber(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("t", 1, "dedupe_window", "1h").Partition(0)
	f := func(sequence uint64, id string, offset uint64, duplicate bool) {
		t.Helper()
		base, _, dup, err := p.Publish(withIDs(t, wire.Producer{ID: 9, Sequence: sequence}, id), time.Now().UnixMilli())
		require.NoError(t, err)
		require.Equal(t, []any{offset, duplicate}, []any{base, dup})
	}
	f(0, "a", 0, false)
	f(1, "a", 0, true)
	f(1, "a", 0, true) // sent again, too
	f(2, "b", 1, false)
}

// settled waits until everything in the log of p is on the disk.
func settled(t *testing.T, p *Partition) {
	t.Helper()
	eventually(t, func() bool { pos := p.log.Positions(); return pos.DurableIndex == pos.NextIndex })
}

func TestANumberSpentOnADuplicateIsKnownAfterAKill(t *testing.T) {
	dir := t.TempDir()
	p := openNode(t, dir, Options{}).create("t", 1, "dedupe_window", "1h").Partition(0)
	f := func(sequence uint64, id string, offset uint64, duplicate bool) (index uint64) {
		t.Helper()
		base, index, dup, err := p.Publish(withIDs(t, wire.Producer{ID: 9, Epoch: 3, Sequence: sequence}, id), time.Now().UnixMilli())
		require.NoError(t, err)
		require.Equal(t, []any{offset, duplicate}, []any{base, dup})
		return index
	}
	f(0, "a", 0, false)
	f(1, "b", 1, false)
	index := f(2, "a", 0, true)
	require.Equal(t, p.log.Positions().NextIndex-1, index, "the answer waits for the entry")
	p.Flush(wire.LevelDisk)
	settled(t, p)

	p = openNode(t, killed(t, dir), Options{}).Topic("t").Partition(0)
	require.Equal(t, index, f(2, "a", 0, true), "sent again")
	f(3, "c", 2, false)
}

// The firing of a scheduled message whose id is known is over: a restart behind the window does not store it.
func TestAScheduledDuplicateIsNotStoredBehindTheWindow(t *testing.T) {
	f := func(ids ...string) {
		t.Helper()
		dir, now := t.TempDir(), &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
		p := openNode(t, dir, Options{Now: now.Now}).create("jobs", 1, "dedupe_window", "1m").Partition(0)
		_, _, _, err := p.Publish(withIDs(t, wire.Producer{}, "a"), now.Now().UnixMilli())
		require.NoError(t, err)
		together(t, p, []ScheduleItem{{Due: now.Now().Add(time.Second).UnixMilli(), Batch: withIDs(t, wire.Producer{}, ids...)}})
		now.add(time.Second)
		eventually(t, func() bool { return p.Stats().Deduplicated == 1 })
		settled(t, p)

		n := openNode(t, killed(t, dir), Options{Now: now.Now})
		now.add(time.Hour)
		p = loadedAgain(t, n)
		later(t, p, 0, "b") // is published after what a restart publishes again
		eventually(t, func() bool { got := values(t, p, 0); return got[len(got)-1] == "b" })
		want := []string{"value of a"}
		if len(ids) > 1 {
			want = append(want, "value of x")
		}
		require.Equal(t, append(want, "b"), values(t, p, 0))
	}
	f("a")
	f("x", "a")
}

// Nor is one that the topic refuses for good refused again.
func TestAScheduledMessageIsRefusedOnce(t *testing.T) {
	dir, now := t.TempDir(), &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	n := openNode(t, dir, Options{Now: now.Now})
	p := n.create("jobs", 1).Partition(0)
	// Without a window nobody looks at ids until the message is due.
	together(t, p, []ScheduleItem{{Due: now.Now().Add(time.Second).UnixMilli(), Batch: withIDs(t, wire.Producer{}, string(make([]byte, wire.MaxMessageID+1)))}})
	_, err := n.Alter("jobs", 0, pairs("dedupe_window", "1m"))
	require.NoError(t, err)
	now.add(time.Second)
	eventually(t, func() bool { return n.SchedulerStats().Lost == 1 })
	p.Flush(wire.LevelDisk)
	settled(t, p)

	n = openNode(t, killed(t, dir), Options{Now: now.Now})
	p = loadedAgain(t, n)
	later(t, p, 0, "b")
	eventually(t, func() bool { return p.Visible() == 1 })
	require.Zero(t, n.SchedulerStats().Lost)
}

func TestIDsInASnapshotStayAsTheyAre(t *testing.T) {
	var s ids
	add := func(from, to int) {
		for i := from; i < to; i++ {
			s.add(digestOf(fmt.Appendf(nil, "%d", i)), place{uint64(i), 1}, int64(i))
		}
	}
	add(0, 10_000)
	for _, beforeMs := range []int64{1, 6_000, 9_999, 20_000} { // in the middle, over the middle, to the end
		live := s.live()
		want := slices.Concat(live...)
		for s.forget(beforeMs) {
		}
		add(10_000, 20_000)
		require.Equal(t, want, slices.Concat(live...))
	}
}

func TestTheOldestIDsAreForgottenFirst(t *testing.T) {
	var s ids
	for i := range maxIDs + 3 {
		s.add(digestOf(fmt.Appendf(nil, "%d", i)), place{uint64(i), 0}, int64(i))
	}
	require.Len(t, s.numbers, maxIDs)
	_, ok := s.numbers[digestOf([]byte("2"))]
	require.False(t, ok)
	n, ok := s.numbers[digestOf([]byte("3"))]
	require.True(t, ok)
	require.Equal(t, place{3, 0}, s.stored(n).at)
	for s.forget(maxIDs + 2) {
	}
	require.Len(t, s.numbers, 1)
	require.False(t, s.forget(maxIDs+3))
	require.Equal(t, ids{}, s)
}

// Publishers wait while a million are forgotten.
func TestAFewIDsAreForgottenAtOnce(t *testing.T) {
	var s ids
	for i := range 3 * forgetAtOnce {
		s.add(digestOf(fmt.Append(nil, i)), place{uint64(i), 0}, 1000)
	}
	id := func(i int) *wire.Batch { return withIDs(t, wire.Producer{}, fmt.Sprint(i)) }
	last := 3*forgetAtOnce - 1
	known, _, err := s.find(id(last), 1500, 500)
	require.NoError(t, err)
	require.Equal(t, uint64(last), known.offset)
	known, _, err = s.find(id(last), 1501, 500)
	require.NoError(t, err)
	require.Nil(t, known, "it is there, but too old")
	require.Len(t, s.numbers, 2*forgetAtOnce)
	s.add(digestOf(fmt.Append(nil, last)), place{1 << 20, 0}, 1501)
	for s.forget(1501) {
	}
	known, _, err = s.find(id(last), 1501, 500)
	require.NoError(t, err)
	require.Equal(t, uint64(1<<20), known.offset, "the newer place stays")
	require.Len(t, s.numbers, 1)
}

// A checkpoint has the state of every partition: a million ids of one that is idle would be written again and again.
func TestAnIdlePartitionForgetsItsIDs(t *testing.T) {
	for _, again := range []bool{false, true} {
		dir, now := t.TempDir(), newClock()
		n := openNode(t, dir, Options{Now: now.read})
		p := n.create("t", 1, "dedupe_window", "1m", "durability", "memory").Partition(0)
		for i := range 3000 {
			_, _, _, err := p.Publish(withIDs(t, wire.Producer{}, fmt.Sprint(i)), now.read().UnixMilli())
			require.NoError(t, err)
		}
		require.NoError(t, n.store.Checkpoint())
		if again {
			n.reopen()
			p = n.Topic("t").Partition(0)
		}
		size := func() int64 {
			info, err := os.Stat(filepath.Join(dir, "checkpoint"))
			require.NoError(t, err)
			return info.Size()
		}
		require.Greater(t, size(), int64(3000*storedBytes))
		now.advance(time.Minute + time.Millisecond)
		eventually(t, func() bool {
			p.producers.mu.Lock()
			defer p.producers.mu.Unlock()
			return p.producers.ids.next == 0
		})
		require.NoError(t, n.store.Checkpoint())
		require.Less(t, size(), int64(3000))
	}
}

// publishFor publishes a message with a time to live.
func publishFor(t *testing.T, p *Partition, now *clock, ttl time.Duration, value string) {
	t.Helper()
	var b wire.BatchBuilder
	b.Add(wire.Record{Value: []byte(value)})
	b.SetTTL(ttl.Milliseconds())
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, now.read().UnixMilli())
	require.NoError(t, err)
}

// A start that reads a message in the commit log, after a kill, knows its time to live.
func TestTheTimeToLiveIsKnownAfterAKill(t *testing.T) {
	now, disk := newClock(), faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("t", 1, nil)
	require.NoError(t, err)
	publishFor(t, topic.Partition(0), now, time.Second, "short")
	require.NoError(t, s.Sync())
	killed := disk.Clone()
	r.Close()
	require.NoError(t, s.Close())

	now.advance(time.Second)
	s, err = log.Open(log.Options{FS: killed, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	require.NoError(t, err)
	r, err = Open(s, true, Options{Now: now.read})
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Topic("t").Partition(0).Next())
	require.Empty(t, values(t, r.Topic("t").Partition(0), 0))
	r.Close()
	require.NoError(t, s.Close())
}

func TestRecordsAreDeliveredForTheirTimeToLive(t *testing.T) {
	now := newClock()
	n := openNode(t, t.TempDir(), Options{Now: now.read})
	p := n.create("t", 1, "durability", "memory").Partition(0)
	send := func(ttl time.Duration, value string) { publishFor(t, p, now, ttl, value) }
	send(time.Second, "short")
	send(0, "for ever")
	send(time.Minute, "long")
	send(time.Second, "short too")
	require.Equal(t, []string{"short", "for ever", "long", "short too"}, values(t, p, 0))
	now.advance(999 * time.Millisecond)
	require.Len(t, values(t, p, 0), 4)
	now.advance(time.Millisecond)
	require.Equal(t, []string{"for ever", "long"}, values(t, p, 0))

	var c log.Chunk
	require.NoError(t, p.Read(&c, 3, 1<<20))
	require.Equal(t, []int{0, 1}, []int{c.Bytes, c.Dropped})
	require.Equal(t, uint64(4), c.Next, "reading goes on behind")
	c.Release()

	n.reopen()
	p = n.Topic("t").Partition(0)
	require.Equal(t, []string{"for ever", "long"}, values(t, p, 0))
	now.advance(time.Hour)
	require.Equal(t, []string{"for ever"}, values(t, p, 0))
	require.Equal(t, uint64(5), p.Stats().Expired)

	// Looking at a group delivers nothing. What has expired in front of it is still to be passed over.
	_, err := p.Commit("g", 0, 0, now.read())
	require.NoError(t, err)
	p.Groups(now.read())
	require.InDelta(t, 3601, p.GroupsCold(now.read())[0].LagSeconds, 0.1)
	require.Equal(t, uint64(5), p.Stats().Expired)
}

// A million of them take 100 MB, in every partition that had a burst.
func TestForgottenIDsTakeNoMemory(t *testing.T) {
	var s ids
	for i := range 10_000 {
		s.add(digestOf(fmt.Append(nil, i)), place{uint64(i), uint64(i)}, int64(i))
	}
	for s.forget(10_000) {
	}
	require.Equal(t, ids{}, s)
	s.add(digestOf([]byte("a")), place{1, 1}, 20_000)
	require.Len(t, s.numbers, 1)
}
