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
	low, _ := s.index.low()
	require.EqualValues(t, 1, low, "the first page was copied")
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
