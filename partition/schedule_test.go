package partition

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

func batchOf(t testing.TB, values ...string) *wire.Batch {
	t.Helper()
	var b wire.BatchBuilder
	for _, v := range values {
		b.Add(wire.Record{Value: []byte(v)})
	}
	batch, err := wire.ParseBatch(slices.Clone(b.Bytes()))
	require.NoError(t, err)
	return &batch
}

// fakeTime is a clock that tests set.
type fakeTime struct {
	mu  sync.Mutex
	now time.Time
}

func (f *fakeTime) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeTime) add(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// scheduleNode is a node with a topic and a clock.
func scheduleNode(t *testing.T, dir string, level string) (*node, *fakeTime, *Partition) {
	f := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	n := openNode(t, dir, Options{Now: f.Now})
	return n, f, n.create("jobs", 1, "durability", level).Partition(0)
}

// later schedules values one by one.
func later(t testing.TB, p *Partition, delay time.Duration, values ...string) (ids []uint64) {
	t.Helper()
	for _, v := range values {
		ids = append(ids, together(t, p, []ScheduleItem{{Due: p.ScheduleTime().Add(delay).UnixMilli(), Batch: batchOf(t, v)}})...)
	}
	return ids
}

// together schedules items with one request, durably.
func together(t testing.TB, p *Partition, items []ScheduleItem) (ids []uint64) {
	t.Helper()
	taken, err := p.Schedule(items, wire.Producer{})
	require.NoError(t, err)
	id, at, index := taken.First, taken.At, taken.Index
	at.Flush(wire.LevelDisk)
	require.Eventually(t, func() bool { return at.Reached(index, min(wire.LevelDisk, p.stateLevel)) }, 20*time.Second, time.Millisecond)
	for range countMessages(items) {
		ids = append(ids, id)
		id++
	}
	return ids
}

// loadedAgain waits until the partition's schedule was read after a reopen.
func loadedAgain(t testing.TB, n *node) *Partition {
	p := n.Topic("jobs").Partition(0)
	require.Eventually(t, func() bool { s := p.schedule.Load(); return s == nil || s.loaded.Load() }, 20*time.Second, time.Millisecond)
	return p
}

func TestScheduledMessagesArePublishedWhenTheyAreDue(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		level := "memory"
		if dir != "" {
			level = "disk"
		}
		n, f, p := scheduleNode(t, dir, level)
		later(t, p, 2*time.Minute, "c")
		later(t, p, time.Minute, "a", "b")
		later(t, p, -time.Hour, "at once")
		eventually(t, func() bool { return p.Visible() == 1 })
		require.Equal(t, int64(3), n.SchedulerStats().Pending)
		f.add(time.Minute)
		eventually(t, func() bool { return p.Visible() == 3 })
		f.add(time.Minute)
		eventually(t, func() bool { return p.Visible() == 4 })
		require.Equal(t, []string{"at once", "a", "b", "c"}, values(t, p, 0))
		require.Equal(t, SchedulerStats{Published: 4}, n.SchedulerStats())
	}
}

// What is accepted can be published, and listed in a frame.
func TestTheLargestScheduledBatches(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	due := p.ScheduleTime().Add(time.Minute).UnixMilli()
	large := func(size int) []ScheduleItem {
		b := batchOf(t, string(make([]byte, size-len(batchOf(t, string(make([]byte, 1<<21))).Raw())+1<<21)))
		require.Equal(t, size, len(b.Raw()))
		return []ScheduleItem{{Due: due, Batch: b}}
	}
	_, err := p.Schedule(large(maxScheduledBatch+1), wire.Producer{})
	code(t, wire.CodeTooLarge, err)
	ids := append(together(t, p, large(maxScheduledBatch)), together(t, p, large(3<<20))...)
	ids = append(ids, together(t, p, large(3<<20))...)
	var pages []int
	for after := uint64(0); len(pages) < 3; {
		list, _, err := p.Scheduled(0, due, after, 10, 4<<20)
		require.NoError(t, err)
		require.Len(t, list, 1)
		after = list[0].ID
		pages = append(pages, len(list[0].Batch))
	}
	require.Equal(t, []int{maxScheduledBatch, 3 << 20, 3 << 20}, pages)
	f.add(time.Minute)
	eventually(t, func() bool { return p.Visible() == uint64(len(ids)) })
	require.Zero(t, n.SchedulerStats().Lost)
}

func TestScheduledMessagesSurviveAReopen(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	later(t, p, time.Minute, "a")
	ids := later(t, p, time.Hour, "b", "c")
	f.add(time.Minute)
	eventually(t, func() bool { return p.Visible() == 1 })
	n.reopen()
	p = loadedAgain(t, n)
	missing, _, _, err := p.CancelScheduled([]uint64{ids[0], 99, ids[0]})
	require.NoError(t, err)
	require.Equal(t, 2, missing)
	n.reopen()
	p = loadedAgain(t, n)
	list, total, err := p.Scheduled(0, 0, 0, 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Len(t, list, 1)
	require.Equal(t, ids[1], list[0].ID)
	f.add(time.Hour)
	eventually(t, func() bool { return p.Visible() == 2 })
	require.Equal(t, []string{"a", "c"}, values(t, p, 0))
	n.reopen()
	p = loadedAgain(t, n)
	require.Zero(t, n.SchedulerStats().Pending)
	require.Equal(t, []string{"a", "c"}, values(t, p, 0))
}

func TestADeletedTopicTakesItsScheduleAlong(t *testing.T) {
	n, _, p := scheduleNode(t, t.TempDir(), "disk")
	later(t, p, time.Hour, "a")
	require.Len(t, n.store.Logs(), 3)
	require.NoError(t, n.Delete("jobs"))
	require.Len(t, n.store.Logs(), 1)
	_, err := p.Schedule([]ScheduleItem{{Batch: batchOf(t, "b")}}, wire.Producer{})
	code(t, wire.CodeTopicDeleted, err)
	eventually(t, func() bool { n.scheduler.ring(); return n.SchedulerStats().Pending == 0 })
	n.reopen()
	require.Empty(t, n.Topics())
}

// A request that is past its checks when its topic is deleted must not make a companion log that nobody removes.
func TestADeletedTopicGetsNoSchedule(t *testing.T) {
	n, _, p := scheduleNode(t, t.TempDir(), "disk")
	require.NoError(t, n.Delete("jobs"))
	_, err := p.scheduleOf()
	code(t, wire.CodeTopicDeleted, err)
	require.Len(t, n.store.Logs(), 1, "that of the metadata")
}

// Nor must it count as waiting when the scheduler has forgotten the topic.
func TestNothingWaitsForADeletedTopic(t *testing.T) {
	n, _, p := scheduleNode(t, t.TempDir(), "disk")
	later(t, p, time.Hour, "a")
	s := p.schedule.Load()
	p.fail(wire.Errorf(wire.CodeTopicDeleted, "deleted"))
	eventually(t, func() bool { n.scheduler.ring(); return n.SchedulerStats().Pending == 0 })
	_, err := s.addAll([]ScheduleItem{{Batch: batchOf(t, "b")}}, wire.Producer{}, p.ScheduleTime())
	code(t, wire.CodeTopicDeleted, err)
	require.Zero(t, n.SchedulerStats().Pending)
}

func TestWhatWasFiredAndNotPublishedIsPublishedOnceAfterARestart(t *testing.T) {
	n, _, p := scheduleNode(t, t.TempDir(), "disk")
	later(t, p, time.Hour, "a", "b", "c")
	s := p.schedule.Load()
	n.Registry.Close() // the scheduler stands still: a crash between the fired entry and the publish
	require.True(t, s.collect(s.all.clock.Now().Add(2*time.Hour)))
	require.Len(t, s.round.list, 3)
	_, err := p.publishFired(s.round.list[0].raw, s.all.clock.Now().UnixMilli())
	require.NoError(t, err)
	require.NoError(t, n.store.Close())
	n.Registry = nil
	for range 3 {
		n.open()
		p = loadedAgain(t, n)
		eventually(t, func() bool { return p.Visible() == 3 })
		require.Equal(t, []string{"a", "b", "c"}, values(t, p, 0))
		require.Zero(t, n.SchedulerStats().Pending)
		n.close()
	}
}

// Whatever the level of the topic: what was published may have become durable when the power fails.
func TestAScheduledMessageThatOutlivesAPowerCutIsNotPublishedAgain(t *testing.T) {
	for _, level := range []string{"memory", "os", "disk"} {
		disk := faultfs.New()
		s, r := faultyRegistry(t, disk)
		topic, err := r.Create("jobs", 1, pairs("durability", level))
		require.NoError(t, err)
		p := topic.Partition(0)
		later(t, p, time.Millisecond, "a")
		eventually(t, func() bool { return p.Visible() == 1 })
		require.NoError(t, p.log.Sync())
		cut := disk.PowerCut(rand.New(rand.NewPCG(1, 2)))
		r.Close()
		require.NoError(t, s.Close())

		s, r = faultyRegistry(t, cut)
		p = r.Topic("jobs").Partition(0)
		eventually(t, func() bool { s := p.schedule.Load(); return s != nil && s.loaded.Load() })
		eventually(t, func() bool { return r.SchedulerStats().Pending == 0 })
		require.Equal(t, []string{"a"}, values(t, p, 0), level)
		r.Close()
		require.NoError(t, s.Close())
	}
}

// The broker ends while a round waits for the disk: a later round would make a restart take what is in the
// first one for published.
func TestNothingIsFiredBehindARoundThatTheEndKeptFromBeingPublished(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	later(t, p, time.Hour, "a")
	later(t, p, 2*time.Hour, "b")
	s := p.schedule.Load()
	n.Registry.Close()
	f.add(time.Hour)
	require.True(t, s.collect(s.all.clock.Now()))
	f.add(time.Hour)
	s.all.run(n.Registry.stop)
	require.Equal(t, uint64(1), s.sequence, "b is left to the next start")
	require.NoError(t, n.store.Close())
	n.Registry = nil
	n.open()
	p = loadedAgain(t, n)
	eventually(t, func() bool { return p.Visible() == 2 })
	require.Equal(t, []string{"a", "b"}, values(t, p, 0))
}

func TestRecurringMessagesAreKeptAndPublishedAgain(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk") // 2025-11-22 08:26:40 UTC, a Saturday
	add := func(spec, zone string) error {
		_, err := p.Schedule([]ScheduleItem{{Cron: spec, Zone: zone, Batch: batchOf(t, spec)}}, wire.Producer{})
		return err
	}
	require.NoError(t, add("30 9 * * *", "Europe/Berlin")) // 08:30 UTC
	require.NoError(t, add("@every 24h", ""))
	for _, bad := range [][2]string{{"* * *", ""}, {"61 * * * *", ""}, {"nonsense", ""}, {"0 0 30 2 *", ""}, {"* * * * *", "Mars/Olympus"}, {"TZ=UTC * * * * *", ""}, {"* * * * *", "Local"}} {
		code(t, wire.CodeInvalid, add(bad[0], bad[1]))
	}
	f.add(4 * time.Minute)
	eventually(t, func() bool { return p.Visible() == 1 })
	list, total, err := p.Scheduled(0, 0, 0, 10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "30 9 * * *", list[1].Cron)
	require.Equal(t, "Europe/Berlin", list[1].Zone)
	require.Equal(t, time.Date(2025, 11, 23, 8, 30, 0, 0, time.UTC).UnixMilli(), list[1].Due)

	n.close()
	f.add(72 * time.Hour) // missed while the broker was down: once
	n.open()
	p = loadedAgain(t, n)
	eventually(t, func() bool { return p.Visible() == 3 })
	require.ElementsMatch(t, []string{"30 9 * * *", "30 9 * * *", "@every 24h"}, values(t, p, 0))
	missing, _, _, err := p.CancelScheduled([]uint64{list[0].ID, list[1].ID})
	require.NoError(t, err)
	require.Zero(t, missing)
	n.reopen()
	p = loadedAgain(t, n)
	require.Zero(t, n.SchedulerStats().Pending)
}

// A recurring message that is cancelled while it is being published must not come again.
func TestAnHourThatComesTwiceCountsOnceUnlessEveryHourCounts(t *testing.T) {
	f := func(spec, zone, from string, want ...string) {
		now, err := time.Parse(time.RFC3339, from)
		require.NoError(t, err)
		r, err := new(zones).newRecurrence(spec, zone, now)
		require.NoError(t, err)
		var got []string
		for range want {
			now = time.UnixMilli(r.after(now))
			got = append(got, now.UTC().Format("01-02 15:04"))
		}
		require.Equal(t, want, got, spec)
	}
	const berlin, autumn, spring = "Europe/Berlin", "2026-10-24T20:00:00Z", "2026-03-28T00:00:00Z"
	f("30 2 * * *", berlin, autumn, "10-25 00:30", "10-26 01:30", "10-27 01:30")
	f("0,30 2 * * *", berlin, autumn, "10-25 00:00", "10-25 00:30", "10-26 01:00")
	f("0 3 * * *", berlin, autumn, "10-25 02:00", "10-26 02:00")
	f("30 1-3 * * *", berlin, autumn, "10-24 23:30", "10-25 00:30", "10-25 02:30", "10-26 00:30")
	f("0 * * * *", berlin, "2026-10-24T23:30:00Z", "10-25 00:00", "10-25 01:00", "10-25 02:00")
	f("@every 1h", berlin, "2026-10-24T23:30:00Z", "10-25 00:30", "10-25 01:30", "10-25 02:30")
	f("@daily", "America/Havana", "2026-10-31T12:00:00Z", "11-01 04:00", "11-02 05:00")
	f("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00:00Z", "04-04 14:45", "04-05 15:15") // half an hour twice
	f("30 2 * * *", berlin, spring, "03-28 01:30", "03-30 00:30")
	f("30 2 * * *", "", autumn, "10-25 02:30", "10-26 02:30")
}

func TestARecurringMessageThatIsBeingPublishedIsCancelledLater(t *testing.T) {
	n, f, p := scheduleNode(t, "", "memory")
	ids := together(t, p, []ScheduleItem{{Cron: "@every 1h", Batch: batchOf(t, "a")}})
	s := p.schedule.Load()
	n.Registry.Close()
	f.add(time.Hour)
	items := s.due(s.all.clock.Now())
	require.Len(t, items, 1)
	_, _, _, err := p.CancelScheduled(ids)
	code(t, wire.CodeBusy, err)
	s.index.push(items[0])
	require.True(t, s.collect(s.all.clock.Now()))
	_, _, _, err = p.CancelScheduled(ids)
	code(t, wire.CodeBusy, err) // the partition may refuse it for long, on a full disk, and then take it
	s.publishRound(s.all.clock.Now())
	missing, _, _, err := p.CancelScheduled(ids)
	require.NoError(t, err)
	require.Zero(t, missing)
	require.Empty(t, s.crons)
	require.NoError(t, n.store.Close())
	n.Registry = nil
}

// The broker may end when a recurring message was fired and cancelled, and is not durable in its partition.
func TestWhatWasCancelledIsNotPublishedAgainByARestart(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	ids := together(t, p, []ScheduleItem{{Cron: "@every 1h", Batch: batchOf(t, "a")}})
	s := p.schedule.Load()
	n.Registry.Close()
	f.add(time.Hour)
	require.True(t, s.collect(s.all.clock.Now()))
	s.noteFiring() // as if it had been published, to memory that is lost
	missing, _, _, err := p.CancelScheduled(ids)
	require.NoError(t, err)
	require.Zero(t, missing)
	require.NoError(t, n.store.Close())
	n.Registry = nil
	n.open()
	p = loadedAgain(t, n)
	later(t, p, 0, "b") // is published after what a restart publishes again
	eventually(t, func() bool { return p.Visible() > 0 })
	require.Equal(t, []string{"b"}, values(t, p, 0))
}

// A cancel that is sent again must not be answered before the first one is durable.
func TestAMissingScheduleIsAnsweredWhenItsCancelIsDurable(t *testing.T) {
	_, _, p := scheduleNode(t, t.TempDir(), "disk")
	missing, at, _, err := p.CancelScheduled([]uint64{1})
	require.NoError(t, err)
	require.Equal(t, 1, missing)
	require.Nil(t, at, "nothing was ever scheduled")
	ids := later(t, p, time.Hour, "a")
	missing, first, index, err := p.CancelScheduled(ids)
	require.NoError(t, err)
	require.Zero(t, missing)
	missing, at, again, err := p.CancelScheduled(ids)
	require.NoError(t, err)
	require.Equal(t, 1, missing)
	require.Same(t, first, at)
	require.Equal(t, index, again)
}

// While a log refuses what is due, the scheduler rests between its attempts.
func TestTheSchedulerRestsWhileALogRefuses(t *testing.T) {
	f := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	sc := newScheduler(&Options{Now: f.Now})
	s := &schedule{all: sc}
	s.earliest.Store(f.Now().Add(-time.Second).UnixMilli())
	s.loaded.Store(true)
	s.retryAt = f.Now().Add(fireRetry)
	sc.add(s)
	wait, any := sc.idle()
	require.True(t, any)
	require.Equal(t, fireRetry, wait)
	f.add(fireRetry)
	wait, _ = sc.idle()
	require.Zero(t, wait)
}

func TestThereIsALimitOfScheduledMessages(t *testing.T) {
	n := openNode(t, "", Options{MaxScheduled: 2})
	p := n.create("jobs", 1).Partition(0)
	ids := later(t, p, time.Hour, "a", "b")
	_, err := p.Schedule([]ScheduleItem{{Due: 1, Batch: batchOf(t, "c")}}, wire.Producer{})
	code(t, wire.CodeLimit, err)
	_, _, _, err = p.CancelScheduled(ids[:1])
	require.NoError(t, err)
	later(t, p, time.Hour, "c")
}

func TestClientsCannotPublishAsTheScheduler(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	b := batchOf(t, "x")
	batch, err := wire.ParseBatch(b.AppendStamped(nil, wire.Producer{ID: SchedulerID}))
	require.NoError(t, err)
	_, _, _, err = p.Publish(&batch, 1)
	code(t, wire.CodeInvalid, err)
}

// The scheduler's place in the table of producers outlives thousands of others.
func TestTheSchedulerIsNeverForgotten(t *testing.T) {
	var ps producers
	ps.note(wire.Producer{ID: SchedulerID}, 1, 0, 1)
	for i := range 3 * maxProducers {
		ps.note(wire.Producer{ID: uint64(i + 1)}, 1, 0, 1)
	}
	require.Contains(t, ps.byID, uint64(SchedulerID))
}

func TestSpaceOfDoneMessagesComesBack(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	value := string(make([]byte, 1000))
	kept := later(t, p, 24*time.Hour, "kept")
	for range 12 {
		var items []ScheduleItem
		for range 5000 {
			items = append(items, ScheduleItem{Due: p.ScheduleTime().Add(time.Second).UnixMilli(), Batch: batchOf(t, value)})
		}
		var err error
		eventually(t, func() bool {
			_, err = p.Schedule(items, wire.Producer{})
			return !errors.Is(err, wire.CodeBusy) // the disk may be behind here, too
		})
		require.NoError(t, err)
		f.add(2 * time.Second)
		eventually(t, func() bool {
			f.add(fireRetry) // then it is tried again in a while
			return n.SchedulerStats().Pending == 1
		})
	}
	s := p.schedule.Load()
	eventually(t, func() bool {
		f.add(2 * time.Second)
		n.scheduler.ring()
		return s.store.log.Stats().Bytes < 40<<20
	})
	n.reopen()
	p = loadedAgain(t, n)
	list, _, err := p.Scheduled(kept[0], 0, 0, 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Positive(t, p.schedule.Load().store.First(), "the message that waits was copied forward")
	f.add(25 * time.Hour)
	eventually(t, func() bool { return p.Visible() == 60_001 })
	require.Equal(t, []string{"kept"}, values(t, p, 60_000))
}

// A random history with crashes: every message is published exactly once, but for cancelled ones.
func TestModelOfSchedules(t *testing.T) {
	seeds.Each(t, 6, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 7))
		n, f, p := scheduleNode(t, t.TempDir(), "disk")
		want, ids := map[string]bool{}, map[string]uint64{}
		for i := range 120 {
			switch k := rng.IntN(20); {
			case k < 10:
				var vs []string
				var items []ScheduleItem
				for j := range 1 + rng.IntN(2)*rng.IntN(40) {
					var group []string
					for k := range 1 + rng.IntN(2)*rng.IntN(30) {
						group = append(group, fmt.Sprintf("m%d-%d-%d%s", i, j, k, make([]byte, rng.IntN(2)*rng.IntN(1000))))
					}
					vs = append(vs, group...)
					due := p.ScheduleTime().Add(time.Duration(rng.IntN(60)) * time.Second).UnixMilli()
					items = append(items, ScheduleItem{Due: due, Batch: batchOf(t, group...)})
				}
				for j, id := range together(t, p, items) {
					ids[vs[j]], want[vs[j]] = id, true
				}
			case k < 16:
				f.add(time.Duration(rng.IntN(20)) * time.Second)
			case k < 18:
				most := 1 + rng.IntN(2)*rng.IntN(40)
				for v, id := range ids {
					missing, _, _, err := p.CancelScheduled([]uint64{id})
					require.NoError(t, err)
					if missing == 0 {
						delete(want, v)
					}
					delete(ids, v)
					if most--; most == 0 {
						break
					}
				}
			default:
				n.reopen()
				p = loadedAgain(t, n)
			}
		}
		f.add(2 * time.Minute)
		eventually(t, func() bool { return int(p.Visible()) == len(want) })
		n.reopen()
		p = loadedAgain(t, n)
		got := map[string]bool{}
		for _, v := range values(t, p, 0) {
			require.False(t, got[v], "%s twice", v)
			got[v] = true
		}
		require.Equal(t, want, got)
	})
}

func TestTheClockFollowsStepsSlowlyAndNeverGoesBack(t *testing.T) {
	wall, passed := time.UnixMilli(1_763_800_000_000), time.Duration(0)
	var jumps []time.Duration
	c := newSlewClock(time.Now, func(by time.Duration) { jumps = append(jumps, by.Round(time.Second)) })
	c.read = func() (time.Time, time.Duration) { return wall, passed }
	pass := func(d time.Duration) time.Time {
		passed += d
		wall = wall.Add(d)
		return c.Now()
	}
	start := c.Now()
	require.Equal(t, time.Minute, pass(time.Minute).Sub(start))
	wall = wall.Add(800 * time.Millisecond) // followed at once
	require.Equal(t, wall.Add(time.Second), pass(time.Second))
	require.Empty(t, jumps)

	wall = wall.Add(time.Hour)
	before := c.Now()
	require.Zero(t, before.Sub(wall.Add(-time.Hour)))
	require.Equal(t, 15*time.Second, pass(10*time.Second).Sub(before), "half as fast again")
	require.Equal(t, []time.Duration{time.Hour}, jumps)
	for range 1000 {
		pass(10 * time.Second)
	}
	require.Equal(t, wall, c.Now(), "caught up")

	wall = wall.Add(-time.Hour)
	before = c.Now()
	require.Equal(t, 5*time.Second, pass(10*time.Second).Sub(before), "half as fast")
	for range 1000 {
		last := c.Now()
		require.False(t, pass(10*time.Second).Before(last))
	}
	require.Equal(t, wall, c.Now())
	require.Equal(t, []time.Duration{time.Hour, -time.Hour}, jumps)
	require.Equal(t, uint64(2), c.Steps())
}

func TestTheIndexIsAHeapOf24BytesAMessage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x scheduleIndex
	var all []scheduled
	for i := range 20_000 {
		s := newScheduled(int64(rng.IntN(5000)), uint64(i+1), uint64(i), 1)
		x.push(s)
		all = append(all, s)
	}
	require.LessOrEqual(t, 24*len(x.chunks)*heapChunk, 32*len(all))
	slices.SortFunc(all, func(a, b scheduled) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	require.Equal(t, all[:100], x.after(scheduled{}, 100))
	require.Equal(t, all[100:150], x.after(all[99], 50))
	for i := len(all) - 1; i >= 0; i -= 3 {
		require.Equal(t, all[i], x.remove(x.find(all[i].id)))
		all = slices.Delete(all, i, i+1)
		if i < 15_000 {
			break
		}
	}
	ids := []uint64{1 << 40}
	for i := 0; i < len(all); i += 2 {
		ids = append(ids, all[i].id, all[i].id)
		all[i].id = 0
	}
	known := x.known(ids)
	require.Len(t, known, (len(ids)-1)/2)
	x.drop(known)
	all = slices.DeleteFunc(all, func(s scheduled) bool { return s.id == 0 })
	for _, want := range all {
		require.Equal(t, want, x.pop())
	}
	require.Nil(t, x.first())
	x.flushRecent()
	require.Empty(t, x.pages)
}

func TestScheduleEntries(t *testing.T) {
	e := scheduledEntry{id: 7, count: 1, due: 1_763_800_000_000, cron: []byte("* * * * *"), zone: []byte("Europe/Berlin"), batch: batchOf(t, "x").Raw()}
	b := append(e.appendHead(nil), e.batch...)
	var got scheduledEntry
	require.NoError(t, got.parse(b, 3, 1))
	require.Equal(t, e, got)
	for i := range len(b) - len(e.batch) {
		require.Error(t, got.parse(b[:i], 3, 1))
	}
	group := scheduledEntry{count: 3, due: 1_763_800_000_000, batch: batchOf(t, "x", "y", "z").Raw()}
	b = append(group.appendHead(nil), group.batch...)
	require.NoError(t, got.parse(b, 3, 3))
	group.id = 4
	require.Equal(t, group, got)
	require.Error(t, got.parse(b, 3, 2), "not as many records as the entry says")
	for i := range len(b) - len(group.batch) + 6 {
		require.Error(t, got.parse(b[:i], 3, 3))
	}
	list := []firing{{7, 2, 0}, {3, 1, 99}}
	b = appendFired(nil, 5, list)
	sequence, parsed, err := parseFired(b)
	require.NoError(t, err)
	require.Equal(t, uint64(5), sequence)
	require.Equal(t, list, parsed)
	for i := 1; i < len(b); i++ {
		_, _, err = parseFired(b[:i])
		require.Error(t, err)
	}
	b = appendCancelled(nil, []uint64{9, 2})
	ids, err := parseCancelled(b)
	require.NoError(t, err)
	require.Equal(t, []uint64{9, 2}, ids)
	for i := 1; i < len(b); i++ {
		_, err = parseCancelled(b[:i])
		require.Error(t, err)
	}
}

// runOf are items of a request, and the entry that has them.
func runOf(t testing.TB, values ...string) (items []ScheduleItem, body []byte) {
	for i, v := range values {
		items = append(items, ScheduleItem{Due: int64(1000 * (1 + i*7%5)), Batch: batchOf(t, v)})
	}
	return items, appendRun(nil, items)
}

func TestRunsOfScheduledMessages(t *testing.T) {
	items, b := runOf(t, "a", "", "ccc", "dd")
	walk := func(b []byte, count uint32) (list []scheduledEntry, err error) {
		var w scheduledWalk
		if err := w.open(b, 70, count); err != nil {
			return nil, err
		}
		for {
			var e scheduledEntry
			ok, err := w.next(&e)
			if err != nil || !ok {
				return list, err
			}
			list = append(list, e)
		}
	}
	list, err := walk(b, 4)
	require.NoError(t, err)
	require.Len(t, list, 4)
	for i, e := range list {
		require.Equal(t, uint64(71+i), e.id)
		require.Equal(t, items[i].Due, e.due)
		require.Equal(t, items[i].Batch.Raw(), e.batch)
	}
	for i := range b {
		_, err := walk(b[:i], 4)
		require.Error(t, err, "cut at %d", i)
	}
	_, err = walk(append(b, 0), 4)
	require.Error(t, err)
	_, err = walk(b, 3)
	require.Error(t, err)

	require.Equal(t, 4, runLength(items))
	items[2].Cron = "@daily"
	require.Equal(t, 2, runLength(items))
	require.Equal(t, 1, runLength(items[2:]))
	half := string(make([]byte, runBytes/2-100))
	large, _ := runOf(t, string(make([]byte, runBytes)), half, half, half)
	require.Equal(t, 1, runLength(large), "by itself, whatever its size")
	require.Equal(t, 2, runLength(large[1:]))
}

// A run is not checked as a whole when one of its batches is read.
func TestABatchOfARunIsCheckedWhenItIsRead(t *testing.T) {
	items, b := runOf(t, "first", "second", "third")
	b[bytes.Index(b, []byte("second"))] ^= 1
	for i := range items {
		var r scheduleReader
		require.NoError(t, r.walk.open(b, 0, 3))
		_, batch, err := r.read(newScheduled(items[i].Due, uint64(i+1), uint64(i), 1))
		if i == 1 {
			require.ErrorIs(t, err, wire.ErrBatchChecksum)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, items[i].Batch.Raw(), batch.Raw())
	}
}

// A request of many messages, some of which are cancelled, recurring, large, or due in between.
func TestMessagesOfOneRequestAreKeptTogetherAndPublishedApart(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "disk")
	var items []ScheduleItem
	var want []string
	for i := range 300 {
		v := fmt.Sprintf("%03d%s", i, make([]byte, 100*(i%3)))
		items = append(items, ScheduleItem{Due: p.ScheduleTime().Add(time.Duration(1+i%2) * time.Minute).UnixMilli(), Batch: batchOf(t, v)})
		if i%2 == 0 && i != 100 {
			want = append(want, v)
		}
	}
	items[151].Cron = "0 0 1 1 *"
	ids := together(t, p, items)
	require.Less(t, p.schedule.Load().store.Next(), uint64(301))
	require.Less(t, p.schedule.Load().store.log.Positions().NextIndex, uint64(20), "a few entries hold all")
	missing, _, _, err := p.CancelScheduled([]uint64{ids[100], ids[101]})
	require.NoError(t, err)
	require.Zero(t, missing)
	n.reopen()
	p = loadedAgain(t, n)
	list, total, err := p.Scheduled(ids[151], 0, 0, 1, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 298, total)
	require.Equal(t, "0 0 1 1 *", list[0].Cron)
	f.add(61 * time.Second)
	eventually(t, func() bool { return int(p.Visible()) == len(want) })
	require.Equal(t, want, values(t, p, 0))
	n.reopen()
	p = loadedAgain(t, n)
	f.add(time.Minute)
	eventually(t, func() bool { return p.Visible() == 149+148 })
	require.Equal(t, int64(1), n.SchedulerStats().Pending)
}

func FuzzScheduleEntries(f *testing.F) {
	f.Add(appendFired(nil, 5, []firing{{7, 2, 0}, {3, 1, 99}}))
	f.Add(appendCancelled(nil, []uint64{9, 2}))
	e := scheduledEntry{id: 7, due: 1, cron: []byte("@daily")}
	f.Add(e.appendHead(nil))
	group := scheduledEntry{id: 7, count: 2, due: 1}
	f.Add(append(group.appendHead(nil), batchOf(f, "a", "b").Raw()...))
	_, run := runOf(f, "a", "b")
	f.Add(run)
	numbers := numbering{producer: wire.Producer{ID: 300, Sequence: 7}, before: 1, count: 3}
	f.Add(append(numbers.append(nil), run...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		var w scheduledWalk
		if w.open(b, 7, 2) == nil {
			for ok := true; ok; {
				var e scheduledEntry
				var err error
				if ok, err = w.next(&e); err != nil {
					break
				}
			}
			require.LessOrEqual(t, w.at, w.end)
		}
		for count := range uint32(3) {
			var e, again scheduledEntry
			if count > 0 && e.parse(b, 1, count) == nil {
				require.NoError(t, again.parse(append(e.appendHead(nil), e.batch...), 1, count))
				require.Equal(t, e.id, again.id)
				require.Equal(t, e.batch, again.batch)
			}
		}
		if sequence, list, err := parseFired(b); err == nil {
			_, again, err := parseFired(appendFired(nil, sequence, list))
			require.NoError(t, err)
			require.Equal(t, list, again)
		}
		if ids, err := parseCancelled(b); err == nil {
			again, err := parseCancelled(appendCancelled(nil, ids))
			require.NoError(t, err)
			require.Equal(t, ids, again)
		}
	})
}

// What a topic does not take is refused when it is scheduled; what slips through holds nothing up.
func TestWhatATopicDoesNotTakeIsNotScheduled(t *testing.T) {
	n, f, p := scheduleNode(t, t.TempDir(), "memory")
	_, err := n.Alter("jobs", 0, pairs("cleanup", "compact"))
	require.NoError(t, err)
	schedule := func(b *wire.Batch) error {
		_, err := p.Schedule([]ScheduleItem{{Due: p.ScheduleTime().Add(time.Minute).UnixMilli(), Batch: b}}, wire.Producer{})
		return err
	}
	code(t, wire.CodeInvalid, schedule(batchOf(t, "without a key")))
	_, err = n.Alter("jobs", 0, pairs("cleanup", "delete", "dedupe_window", "1h"))
	require.NoError(t, err)
	require.NoError(t, schedule(withIDs(t, wire.Producer{}, string(make([]byte, wire.MaxMessageID+1)))))
	require.NoError(t, schedule(withIDs(t, wire.Producer{}, "a")))
	require.NoError(t, schedule(withIDs(t, wire.Producer{}, "a")))
	require.NoError(t, schedule(withIDs(t, wire.Producer{}, "b")))
	f.add(time.Minute)
	eventually(t, func() bool { return n.SchedulerStats().Pending == 0 && p.Visible() == 2 })
	require.Equal(t, []string{"value of a", "value of b"}, values(t, p, 0))
	require.Equal(t, uint64(1), n.SchedulerStats().Lost)
}
