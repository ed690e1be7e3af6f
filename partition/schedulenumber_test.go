package partition

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// itemsOf makes n items that are due after a delay. They take several entries when there are many.
func itemsOf(t testing.TB, p *Partition, delay time.Duration, prefix string, n int) (items []ScheduleItem) {
	for i := range n {
		v := fmt.Sprintf("%s-%04d-%0200d", prefix, i, 0)
		items = append(items, ScheduleItem{Due: p.ScheduleTime().Add(delay).UnixMilli(), Batch: batchOf(t, v)})
	}
	return items
}

func TestANumberedRequestIsTakenOnce(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	pr := wire.Producer{ID: 7, Epoch: 3}
	items := itemsOf(t, p, time.Minute, "a", 300)
	require.Less(t, runLength(items), 300)
	first, err := p.Schedule(items, pr)
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	require.Equal(t, uint64(1), first.First)
	refused := func(code wire.Code, pr wire.Producer, items []ScheduleItem) {
		t.Helper()
		_, err := p.Schedule(items, pr)
		require.ErrorIs(t, err, code)
	}
	after := func(records uint64) wire.Producer { return wire.Producer{ID: 7, Epoch: 3, Sequence: records} }
	for range 2 {
		again, err := p.Schedule(items, pr)
		require.NoError(t, err)
		require.True(t, again.Duplicate)
		require.Equal(t, first.First, again.First)
		require.True(t, again.At.Reached(again.Index, wire.LevelMemory))
		refused(wire.CodeOutOfSequence, after(301), items[:1])
		refused(wire.CodeInvalid, after(0), items[:2])
		refused(wire.CodeFenced, wire.Producer{ID: 7, Epoch: 2}, items)
		require.Equal(t, int64(300), n.SchedulerStats().Pending)
		n.reopen()
		p = loadedAgain(t, n)
	}
	next, err := p.Schedule(itemsOf(t, p, time.Minute, "b", 1), after(300))
	require.NoError(t, err)
	require.Equal(t, ScheduleResult{First: 301, At: next.At, Index: next.Index}, next)
	other, err := p.Schedule(itemsOf(t, p, time.Minute, "c", 1), wire.Producer{ID: 7, Epoch: 4, Sequence: 90})
	require.NoError(t, err)
	require.False(t, other.Duplicate)
	f.add(2 * time.Minute)
	eventually(t, func() bool { return p.Visible() == 302 })
	got := values(t, p, 0)
	slices.Sort(got)
	require.Len(t, slices.Compact(got), 302)
}

// scheduleAndFire schedules requests of 5000 messages of 1000 bytes, one after the other, and has each published. The
// first one has the given number. It returns the last one.
func scheduleAndFire(t *testing.T, n *node, f *fakeTime, p *Partition, first, requests int) (last []ScheduleItem) {
	value := string(make([]byte, 1000))
	pr := wire.Producer{ID: 7, Sequence: uint64(first) * 5000}
	for range requests {
		last = nil
		for range 5000 {
			last = append(last, ScheduleItem{Due: p.ScheduleTime().Add(time.Second).UnixMilli(), Batch: batchOf(t, value)})
		}
		var taken ScheduleResult
		eventually(t, func() (ok bool) { // the disk may be behind
			var err error
			taken, err = p.Schedule(last, pr)
			return err == nil
		})
		require.False(t, taken.Duplicate)
		pr.Sequence += 5000
		f.add(2 * time.Second)
		eventually(t, func() bool {
			f.add(fireRetry) // the disk may be behind: then it is tried again in a while
			return n.SchedulerStats().Pending == 0
		})
	}
	return last
}

// What was taken is known when its entries were removed, because it was published long ago.
func TestANumberedRequestIsKnownWhenItsEntriesAreGone(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	last := scheduleAndFire(t, n, f, p, 0, 12)
	eventually(t, func() bool {
		f.add(2 * time.Second)
		n.scheduler.ring()
		return p.schedule.Load().store.First() >= 30_000
	})
	pr := wire.Producer{ID: 7, Sequence: 25_000} // the sixth
	for range 3 {
		taken, err := p.Schedule(last, pr)
		require.NoError(t, err)
		require.True(t, taken.Duplicate)
		n.reopen()
		p = loadedAgain(t, n)
	}
	require.EqualValues(t, 60_000, p.Visible())
}

// Also when all entries were removed but the one that sums up the requests, which has no records.
func TestANumberedRequestIsKnownWhenAllEntriesAreGone(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	const some = 4 // requests: enough for the log to be tidied
	var last []ScheduleItem
	requests := 0
	for gone := false; !gone; { // when it is tidied in the middle, too little is left for it to be tidied again
		last = scheduleAndFire(t, n, f, p, requests, some)
		requests += some
		store := p.schedule.Load().store
		eventually(t, func() bool {
			f.add(2 * time.Second)
			n.scheduler.ring()
			return store.log.Stats().Bytes < tidyBytes
		})
		gone = store.First() >= store.Next()-1
	}
	n.reopen()
	p = loadedAgain(t, n)
	taken, err := p.Schedule(last, wire.Producer{ID: 7, Sequence: uint64(requests-1) * 5000})
	require.NoError(t, err)
	require.True(t, taken.Duplicate)
}

// The broker dies when a part of a request's entries is in the log. Nobody was told that it was taken:
// none of it counts, and it can come again.
func TestAPartOfARequestDoesNotCount(t *testing.T) {
	for _, pr := range []wire.Producer{{}, {ID: 7}} {
		for _, more := range []bool{false, true} {
			n, f, p := scheduleNode(t, t.TempDir(), "disk")
			later(t, p, time.Minute, "before")
			items := itemsOf(t, p, time.Minute, "a", 200)
			s, numbers := p.schedule.Load(), numberingOf(pr, items)
			run := runLength(items)
			s.mu.Lock()
			_, _, err := s.appendLocked(items[:run], &numbers, p.ScheduleTime())
			s.mu.Unlock()
			require.NoError(t, err)
			want := 1
			if more { // as when the next request came on the same connection
				s.mu.Lock()
				_, _, err := s.appendLocked(items[:1], &numbering{}, p.ScheduleTime())
				s.mu.Unlock()
				require.NoError(t, err)
				want++
			}
			for range 2 {
				n.reopen()
				p = loadedAgain(t, n)
				require.Equal(t, int64(want), n.SchedulerStats().Pending)
			}
			taken, err := p.Schedule(items, pr)
			require.NoError(t, err)
			require.False(t, taken.Duplicate)
			n.reopen()
			p = loadedAgain(t, n)
			want += 200
			require.Equal(t, int64(want), n.SchedulerStats().Pending)
			f.add(2 * time.Minute)
			eventually(t, func() bool { return int(p.Visible()) == want })
		}
	}
}

func TestNumberingRoundTrip(t *testing.T) {
	for _, n := range []numbering{{}, {count: 2}, {wire.Producer{ID: 300, Epoch: 1, Sequence: 70000}, 5, 900}} {
		b := append(n.append(nil), entryRun)
		got, rest, err := splitNumbering(b)
		require.NoError(t, err)
		require.Equal(t, n, got)
		require.Equal(t, []byte{entryRun}, rest)
		for i := 1; i < len(b)-1; i++ {
			_, _, err = splitNumbering(b[:i])
			require.Error(t, err)
		}
	}
	_, _, err := splitNumbering([]byte{entryNumbered, 1, 1, 1, 2, 2})
	require.Error(t, err, "more items than the request has")
	var ps producers
	ps.note(wire.Producer{ID: 9, Epoch: 1, Sequence: 4}, 3, 100, 50)
	ps.note(wire.Producer{ID: 8}, 1, 103, 51)
	b := ps.append(nil)
	var back producers
	r := uvarints{b: b}
	back.restore(&r)
	require.False(t, r.bad)
	require.Equal(t, b, back.append(nil))
	for i := range b {
		r := uvarints{b: b[:i]}
		new(producers).restore(&r)
		require.True(t, r.bad)
	}
}

// Memory runs out in the middle of a request: none of it is taken, now or after a restart.
func TestARequestThatIsRefusedHalfWayDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	f := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	store, err := log.Open(log.Options{Dir: dir, MemoryBytes: 8 << 20, Now: f.Now})
	require.NoError(t, err)
	n := &node{t: t, dir: dir, opts: Options{Now: f.Now}, store: store}
	n.Registry, err = Open(store, true, n.opts)
	require.NoError(t, err)
	t.Cleanup(n.close)
	p := n.create("jobs", 1, "durability", "disk").Partition(0)
	batch := batchOf(t, string(make([]byte, 8000)))
	items := make([]ScheduleItem, 50_000)
	for i := range items {
		items[i] = ScheduleItem{Due: p.ScheduleTime().Add(time.Minute).UnixMilli(), Batch: batch}
	}
	for _, pr := range []wire.Producer{{}, {ID: 7}} {
		_, err = p.Schedule(items, pr)
		require.ErrorIs(t, err, wire.CodeBusy)
		var we *wire.Error
		require.ErrorAs(t, err, &we)
		require.Equal(t, wire.RetryLater, we.Retry)
		require.Positive(t, p.schedule.Load().store.Next())
		require.Zero(t, n.SchedulerStats().Pending)
	}
	n.reopen()
	p = loadedAgain(t, n)
	require.Zero(t, n.SchedulerStats().Pending)
	later(t, p, time.Minute, "a")
	f.add(2 * time.Minute)
	eventually(t, func() bool { return p.Visible() == 1 })
	require.Equal(t, []string{"a"}, values(t, p, 0))
}
