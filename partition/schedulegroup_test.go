package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// groupOf makes an item of n messages that are due after a delay.
func groupOf(t testing.TB, p *Partition, delay time.Duration, prefix string, n int) (it ScheduleItem, values []string) {
	for i := range n {
		values = append(values, fmt.Sprintf("%s-%05d", prefix, i))
	}
	return ScheduleItem{Due: p.ScheduleTime().Add(delay).UnixMilli(), Batch: batchOf(t, values...)}, values
}

// Messages that came as one batch are listed, cancelled and published as if each had come alone.
func TestMessagesOfAGroupWaitApart(t *testing.T) {
	for _, n := range []int{4, 50, maxRange + 900} {
		node, f, p := scheduleNode(t, t.TempDir(), "disk")
		later(t, p, time.Hour, "alone")
		group, want := groupOf(t, p, time.Minute, "g", n)
		ids := together(t, p, []ScheduleItem{group})
		require.Len(t, ids, n)
		require.LessOrEqual(t, p.schedule.Load().index.n, 1+(n+maxRange-1)/maxRange)
		require.Equal(t, int64(n+1), node.SchedulerStats().Pending)
		gone := []uint64{ids[0], ids[n/2], ids[n-1], ids[n/2], 99_999}
		missing, _, _, err := p.CancelScheduled(gone)
		require.NoError(t, err)
		require.Equal(t, len(gone)-3, missing)
		left := slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return slices.Contains(gone, id) })
		want = slices.DeleteFunc(want, func(v string) bool {
			var i int
			_, err := fmt.Sscanf(v, "g-%d", &i)
			return err != nil || slices.Contains(gone, ids[i])
		})
		for range 2 {
			require.Equal(t, int64(len(want)+1), node.SchedulerStats().Pending)
			var listed []uint64
			last := ScheduledBatch{}
			for {
				list, total, err := p.Scheduled(0, last.Due, last.ID, 700, 1<<20)
				require.NoError(t, err)
				require.Equal(t, len(want)+1, total)
				if len(list) == 0 {
					break
				}
				for _, s := range list {
					batch, err := wire.ParseBatch(s.Batch)
					require.NoError(t, err)
					require.EqualValues(t, 1, batch.Count())
					listed = append(listed, s.ID)
				}
				last = list[len(list)-1]
			}
			require.Equal(t, append(slices.Clone(left), 1), listed)
			if len(left) > 0 {
				list, _, err := p.Scheduled(left[len(left)-1], 0, 0, 1, 1<<20)
				require.NoError(t, err)
				require.Contains(t, string(list[0].Batch), want[len(want)-1])
			}
			node.reopen()
			p = loadedAgain(t, node)
		}
		f.add(2 * time.Minute)
		eventually(t, func() bool { return int(p.Visible()) == len(want) })
		require.Equal(t, want, values(t, p, 0))
		require.Equal(t, SchedulerStats{Pending: 1, Published: uint64(len(want))}, node.SchedulerStats())
		node.reopen()
		p = loadedAgain(t, node)
		require.Equal(t, int64(1), node.SchedulerStats().Pending)
		require.Equal(t, len(want), int(p.Visible()))
	}
}

func TestAGroupIsNeitherRecurringNorCompressed(t *testing.T) {
	_, _, p := scheduleNode(t, "", "memory")
	two, _ := groupOf(t, p, time.Minute, "a", 2)
	two.Cron = "@daily"
	_, err := p.Schedule([]ScheduleItem{two}, wire.Producer{})
	code(t, wire.CodeInvalid, err)
	compressed := func(values ...string) ScheduleItem {
		var b wire.BatchBuilder
		for _, v := range values {
			b.Add(wire.Record{Value: []byte(v)})
		}
		packed := codec.Compress(nil, wire.CodecS2, b.Records())
		batch, err := wire.ParseBatch(b.AppendCompressed(nil, wire.CodecS2, packed))
		require.NoError(t, err)
		return ScheduleItem{Due: p.ScheduleTime().Add(time.Minute).UnixMilli(), Batch: &batch}
	}
	_, err = p.Schedule([]ScheduleItem{compressed("a", "b")}, wire.Producer{})
	code(t, wire.CodeInvalid, err)
	_, err = p.Schedule([]ScheduleItem{compressed("a")}, wire.Producer{})
	require.NoError(t, err)
}

// Groups, single messages and recurring ones in one request have ids in their order, and are taken once.
func TestGroupsOfANumberedRequestAreTakenOnce(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	ten, want := groupOf(t, p, time.Minute, "a", 10)
	three, more := groupOf(t, p, time.Minute, "c", 3)
	items := []ScheduleItem{ten, itemsOf(t, p, time.Hour, "b", 1)[0], {Cron: "0 0 1 1 *", Batch: batchOf(t, "new year")}, three}
	pr := wire.Producer{ID: 7}
	taken, err := p.Schedule(items, pr)
	require.NoError(t, err)
	require.Equal(t, uint64(1), taken.First)
	for range 2 {
		again, err := p.Schedule(items, pr)
		require.NoError(t, err)
		require.True(t, again.Duplicate)
		require.Equal(t, taken.First, again.First)
		list, total, err := p.Scheduled(12, 0, 0, 1, 1<<20)
		require.NoError(t, err)
		require.Equal(t, 15, total)
		require.Equal(t, "0 0 1 1 *", list[0].Cron)
		n.reopen()
		p = loadedAgain(t, n)
	}
	pr.Sequence = 15
	next, err := p.Schedule(itemsOf(t, p, time.Hour, "d", 1), pr)
	require.NoError(t, err)
	require.Equal(t, uint64(16), next.First)
	f.add(2 * time.Minute)
	eventually(t, func() bool { return p.Visible() == 13 })
	require.Equal(t, append(want, more...), values(t, p, 0))
}

// One message of a group is not taken by the topic: the others are published, each once, also when the
// broker dies in the middle.
func TestAGroupIsPublishedApartWhenOneOfItIsRefused(t *testing.T) {
	n, _, p := scheduleNode(t, t.TempDir(), "disk")
	_, err := n.Alter("jobs", 0, pairs("dedupe_window", "1h"))
	require.NoError(t, err)
	_, _, _, err = p.Publish(withIDs(t, wire.Producer{}, "c"), p.ScheduleTime().UnixMilli())
	require.NoError(t, err)
	item := ScheduleItem{Due: p.ScheduleTime().Add(time.Hour).UnixMilli(), Batch: withIDs(t, wire.Producer{}, "a", "b", "c", "d", "a")}
	together(t, p, []ScheduleItem{item})
	s := p.schedule.Load()
	n.Registry.Close()
	now := s.all.clock.Now().Add(2 * time.Hour)
	require.True(t, s.collect(now))
	require.Len(t, s.round.list, 1)
	fired, err := wire.ViewBatch(s.round.list[0].raw)
	require.NoError(t, err)
	for i := range uint32(2) { // a crash comes behind b
		one, err := fired.Cut(nil, i, i+1)
		require.NoError(t, err)
		batch, err := wire.ViewBatch(one)
		require.NoError(t, err)
		pr := fired.Producer()
		pr.Sequence += uint64(i)
		_, err = p.publishFired(batch.AppendStamped(nil, pr), s.all.clock.Now().UnixMilli())
		require.NoError(t, err)
	}
	require.NoError(t, n.store.Close())
	n.Registry = nil
	for range 2 {
		n.open()
		p = loadedAgain(t, n)
		eventually(t, func() bool { return p.Visible() == 4 })
		require.Equal(t, []string{"value of c", "value of a", "value of b", "value of d"}, values(t, p, 0))
		require.Zero(t, n.SchedulerStats().Pending)
		n.close()
	}
}

// The companion log keeps the messages of a group until all of what was published of it is durable.
func TestAGroupThatIsPublishedApartIsWaitedForToItsEnd(t *testing.T) {
	_, _, p := scheduleNode(t, t.TempDir(), "disk")
	_, _, _, err := p.Publish(withIDs(t, wire.Producer{}, "c"), p.ScheduleTime().UnixMilli())
	require.NoError(t, err)
	batch := withIDs(t, wire.Producer{ID: SchedulerID}, "a", "b", "d")
	p.producers.mu.Lock()
	index, err := p.publishApart(batch, 0, p.ScheduleTime().UnixMilli())
	p.producers.mu.Unlock()
	require.NoError(t, err)
	require.Equal(t, p.log.Positions().NextIndex-1, index)
}

// What is left of groups is copied when the rest of their surroundings is done.
func TestWhatIsLeftOfGroupsIsCopiedForward(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	kept, want := groupOf(t, p, 24*time.Hour, "kept", 40)
	ids := together(t, p, []ScheduleItem{kept})
	_, _, _, err := p.CancelScheduled([]uint64{ids[7], ids[20], ids[21]})
	require.NoError(t, err)
	want = slices.Concat(want[:7], want[8:20], want[22:])
	var large []string
	for range 5000 {
		large = append(large, string(make([]byte, 500)))
	}
	for range 20 {
		item := ScheduleItem{Due: p.ScheduleTime().Add(time.Second).UnixMilli(), Batch: batchOf(t, large...)}
		eventually(t, func() bool { _, err := p.Schedule([]ScheduleItem{item}, wire.Producer{}); return err == nil })
		f.add(2 * time.Second)
		eventually(t, func() bool { return n.SchedulerStats().Pending == 37 })
	}
	eventually(t, func() bool {
		f.add(2 * time.Second)
		n.scheduler.ring()
		return p.schedule.Load().store.First() > 40
	})
	for range 2 {
		_, _, _, err = p.CancelScheduled(ids[30:31])
		require.NoError(t, err)
		n.reopen()
		p = loadedAgain(t, n)
		require.Equal(t, int64(36), n.SchedulerStats().Pending)
	}
	want = slices.DeleteFunc(want, func(v string) bool { return v == "kept-00030" })
	f.add(25 * time.Hour)
	eventually(t, func() bool { return p.Visible() == 100_036 })
	require.Equal(t, want, values(t, p, 100_000))
}

// Any history of a waitlist ends with what a plain map of messages says.
func TestAWaitlistKnowsEveryMessage(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		w, model := waitlist{}, map[uint64]scheduled{}
		next := uint64(1)
		for range 400 {
			switch rng.IntN(3) {
			case 0:
				next += uint64(rng.IntN(3) * rng.IntN(3000))
				s := newScheduled(int64(rng.IntN(100)), next, next+uint64(rng.IntN(50)), 1+uint64(rng.IntN(2)*rng.IntN(maxRange)))
				w.add(s)
				for id := s.id; id < s.end(); id++ {
					model[id] = s.slice(id, id+1)
				}
				next = s.end()
			default:
				id, most := 1+uint64(rng.IntN(int(next))), uint64(rng.IntN(200))
				want, waits := model[id]
				got := w.take(id, most)
				require.Equal(t, waits && want.due != gone, got != nil)
				if got == nil {
					continue
				}
				require.Equal(t, id, got.id)
				require.LessOrEqual(t, got.count(), max(1, most))
				due := int64(rng.IntN(100)) - 1
				for id := got.id; id < got.end(); id++ {
					s := model[id]
					if s != got.slice(id, id+1) {
						require.Equal(t, s, got.slice(id, id+1))
					}
					s.due = due
					model[id] = s
				}
				got.due = due
			}
		}
		for _, list := range w {
			for _, s := range list {
				for id := s.id; id < s.end(); id++ {
					if model[id] != s.slice(id, id+1) {
						require.Equal(t, model[id], s.slice(id, id+1))
					}
					delete(model, id)
				}
			}
		}
		require.Empty(t, model)
	}
}

// The index of groups says the same as one of single messages.
func TestTheIndexOfGroupsIsThatOfTheirMessages(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var groups, singles scheduleIndex
	var ids []uint64
	next := uint64(1)
	for range 300 {
		due, n := int64(rng.IntN(50)), 1+uint64(rng.IntN(2)*rng.IntN(5)*rng.IntN(2000))
		groups.pushAll(due, next, next-1, n, 0)
		for id := next; id < next+n; id++ {
			singles.push(newScheduled(due, id, id-1, 1))
			ids = append(ids, id)
		}
		next += n
	}
	for _, most := range []int{1, 3, 40, 5000} {
		asked := []uint64{next + 5}
		for range most {
			asked = append(asked, ids[rng.IntN(len(ids))])
		}
		known := groups.known(asked)
		require.Equal(t, singles.known(asked), known)
		groups.drop(known)
		singles.drop(known)
		require.Equal(t, singles.n, groups.messages)
		require.Equal(t, singles.messages, groups.messages)
		for _, id := range known {
			require.Equal(t, -1, groups.find(id))
		}
	}
	last := scheduled{}
	for range 30 {
		list := singles.after(last, 77)
		require.Equal(t, list, groups.after(last, 77))
		last = list[len(list)-1]
	}
	for groups.n > 0 {
		s := groups.pop()
		for id := s.id; id < s.end(); id++ {
			if one := singles.pop(); one != s.slice(id, id+1) {
				require.Equal(t, one, s.slice(id, id+1))
			}
		}
	}
	require.Zero(t, singles.n)
	groups.flushRecent()
	require.Empty(t, groups.pages)
}
