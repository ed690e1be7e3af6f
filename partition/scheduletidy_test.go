package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// scheduleMany schedules messages of a size, due hours later in no order, with requests that a client has numbered. It
// returns their ids.
func scheduleMany(t *testing.T, p *Partition, messages, size int) (ids []uint64) {
	t.Helper()
	b, due := batchOf(t, string(make([]byte, size))), p.ScheduleTime().Add(time.Hour)
	const request = 1000
	for first := 0; first < messages; first += request {
		var items []ScheduleItem
		for i := first; i < min(messages, first+request); i++ {
			after := time.Duration(uint32(i)*2_654_435_761>>8) * time.Millisecond
			items = append(items, ScheduleItem{Due: due.Add(after).UnixMilli(), Batch: b})
		}
		taken, err := p.Schedule(items, wire.Producer{ID: 7, Sequence: uint64(first)})
		require.NoError(t, err)
		for i := range items {
			ids = append(ids, taken.First+uint64(i))
		}
	}
	return ids
}

// Nothing is published on time meanwhile. A search of the index for each message that is copied, of which there are
// thousands, took seconds with a million messages.
func TestCopyingForwardDoesNotSearchForEachMessage(t *testing.T) {
	_, _, p := scheduleNode(t, "", "memory")
	scheduleMany(t, p, 200_000, 1)
	s := p.schedule.Load()
	searches := 0
	begin := time.Now()
	for ; searches < 500; searches++ {
		require.Negative(t, s.index.find(1<<40))
	}
	search := time.Since(begin)
	begin = time.Now()
	s.copyForward(p.ScheduleTime())
	require.Less(t, time.Since(begin), search, "more than %d searches", searches)
	require.EqualValues(t, atPage, s.index.low(), "the first page was copied")
}

// Nothing else wakes the scheduler then.
func TestSpaceOfCancelledMessagesIsGivenBackWhenNoneWaits(t *testing.T) {
	for _, size := range []int{1000, 16_000} { // the larger ones are fewer than a page
		_, f, p := scheduleNode(t, t.TempDir(), "memory")
		ids := scheduleMany(t, p, 2*tidyBytes/size, size)
		_, _, _, err := p.CancelScheduled(ids)
		require.NoError(t, err)
		store := p.schedule.Load().store
		eventually(t, func() bool {
			f.add(100 * time.Millisecond)
			return store.log.Stats().Bytes < tidyBytes
		})
	}
}

// Few large messages fill the log long before it spans many.
func TestSpaceAroundLargeMessagesThatWaitIsGivenBack(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	large, due := batchOf(t, string(make([]byte, 900_000))), p.ScheduleTime().Add(time.Hour).UnixMilli()
	var waiting, cancelled []uint64
	for i := range 150 {
		ids := together(t, p, []ScheduleItem{{Due: due, Batch: large}})
		if i%30 == 0 {
			waiting = append(waiting, ids...)
			continue
		}
		cancelled = append(cancelled, ids...)
	}
	s := p.schedule.Load()
	require.Greater(t, s.store.log.Stats().Bytes, int64(130_000_000))
	_, _, _, err := p.CancelScheduled(cancelled)
	require.NoError(t, err)
	bytes := indexBytes(s)
	eventually(t, func() bool {
		f.add(100 * time.Millisecond)
		return s.store.log.Stats().Bytes <= sparse*(bytes+tidyBytes)
	})
	next := s.store.Next()
	require.LessOrEqual(t, next, uint64(150+len(waiting)), "copied once")
	n.reopen()
	p = loadedAgain(t, n)
	s = p.schedule.Load()
	require.Equal(t, bytes, indexBytes(s))
	f.add(2 * time.Hour)
	eventually(t, func() bool { return p.Visible() == uint64(len(waiting)) })
	require.Equal(t, next, s.store.Next(), "nothing is copied without need")
}

func indexBytes(s *schedule) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.bytes
}

func TestTheIndexKnowsAboutHowLargeMessagesAre(t *testing.T) {
	for size := 1; size <= wire.MaxFrameBytes; size *= 2 {
		one := newScheduled(1, 2, 3, 1).ofSize(size)
		require.LessOrEqual(t, int64(size), one.size())
		require.LessOrEqual(t, one.size(), max(leastSize, 2*int64(size)))
		many := newScheduled(1, 2, 3, maxRange).ofSize(maxRange * size)
		require.Equal(t, maxRange*one.size(), many.size())
		part, moved := many.slice(10, 11), one.movedTo(77)
		require.Equal(t, one.size(), part.size())
		require.Equal(t, newScheduled(1, 2, 77, 1).ofSize(size), moved)
	}
}
