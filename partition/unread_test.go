package partition

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// unreadPartition returns a disk with a topic whose partition 0 has committed offset 2 of a group, in a segment that
// a start has to read, and cannot. A message is scheduled there, too. damaged says that the segment has a state entry that
// nobody understands, behind the commit.
func unreadPartition(t *testing.T, clock *fakeTime, damaged bool) *unreadableFS {
	t.Helper()
	disk := &unreadableFS{Disk: faultfs.New(), part: "-0/"}
	s, r := disk.start(t, clock)
	topic, err := r.Create("jobs", 2, nil)
	require.NoError(t, err)
	for _, p := range topic.Partitions() {
		publish(t, p, "a", "b", "c")
	}
	id := topic.Partition(0).Identity()
	later(t, topic.Partition(0), time.Hour, "later")
	r.Close()
	require.NoError(t, s.Close())

	bodies := [][]byte{group.AppendCommit(nil, "g", 2, clock.Now())}
	if damaged {
		bodies = append(bodies, []byte("nonsense"))
	}
	appendState(t, disk, id, bodies...)
	return disk
}

// appendState appends state entries to a log, which no stored state includes, and makes the disk unreadable.
func appendState(t *testing.T, disk *unreadableFS, id wire.Identity, bodies ...[]byte) {
	t.Helper()
	s, err := log.Open(log.Options{FS: disk, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	require.NoError(t, err)
	l, err := s.OpenLog(id, log.Config{})
	require.NoError(t, err)
	for _, body := range bodies {
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: term, Payload: wire.AppendPayload(nil, body)})
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Close())
	disk.bad.Store(true)
}

// committed returns what group g has committed.
func committed(p *Partition) uint64 {
	c, _ := p.Committed("g")
	return c.Offset
}

// What kept a start from reading the state of a partition passes, and then the partition is served.
func TestAPartitionIsServedWhenItsStateCanBeRead(t *testing.T) {
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk := unreadPartition(t, clock, false)
	s, r := disk.start(t, clock)
	p, other := r.Topic("jobs").Partition(0), r.Topic("jobs").Partition(1)
	require.Equal(t, []*Partition{p}, r.unread())
	for range 2 {
		code(t, wire.CodeReadOnly, p.Err())
		require.ErrorContains(t, p.Err(), syscall.EIO.Error())
		require.ErrorContains(t, p.Err(), "tries again")
		batch := batchOf(t, "x")
		_, _, _, err := p.Publish(batch, clock.Now().UnixMilli())
		code(t, wire.CodeReadOnly, err)
		require.Equal(t, wire.StatusReadOnly, p.info().Status)
		require.Equal(t, 1, s.Stats().ReadOnly)
		publish(t, other, "d")
		require.NoError(t, s.Checkpoint())
		require.False(t, r.reread(p))
	}
	disk.bad.Store(false)
	require.True(t, r.reread(p))
	for range 2 { // and after the next start
		require.NoError(t, p.Err())
		require.NoError(t, p.Failure())
		require.Zero(t, s.Stats().ReadOnly)
		require.Equal(t, uint64(2), committed(p))
		require.Equal(t, []string{"a", "b", "c"}, values(t, p, 0)[:3])
		eventually(t, func() bool { n, err := waiting(p); return err == nil && n == 1 })
		publish(t, p, "d")
		require.NoError(t, s.Checkpoint())
		r.Close()
		require.NoError(t, s.Close())
		s, r = disk.start(t, clock)
		p = r.Topic("jobs").Partition(0)
	}
	require.Empty(t, r.unread())
	require.Equal(t, []string{"a", "b", "c", "d", "d"}, values(t, p, 0))
	r.Close()
	require.NoError(t, s.Close())
}

// The state of an unread partition stays as it is when the broker stops before it could read it.
func TestAnUnreadPartitionKeepsItsState(t *testing.T) {
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk := unreadPartition(t, clock, false)
	for range 2 {
		s, r := disk.start(t, clock)
		code(t, wire.CodeReadOnly, r.Topic("jobs").Partition(0).Err())
		r.Close()
		require.NoError(t, s.Close())
	}
	disk.bad.Store(false)
	s, r := disk.start(t, clock)
	require.Equal(t, uint64(2), committed(r.Topic("jobs").Partition(0)))
	r.Close()
	require.NoError(t, s.Close())
}

// When the state turns out to be damaged, or the topic is deleted meanwhile, nothing is tried again.
func TestAnUnreadPartitionThatIsNotServed(t *testing.T) {
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	for _, damaged := range []bool{false, true} {
		disk := unreadPartition(t, clock, damaged)
		s, r := disk.start(t, clock)
		p := r.Topic("jobs").Partition(0)
		want := wire.CodeReadOnly
		if !damaged {
			want = wire.CodeTopicDeleted
			require.NoError(t, r.Delete("jobs"))
		}
		disk.bad.Store(false)
		require.True(t, r.reread(p))
		code(t, want, p.Err())
		require.Equal(t, damaged, s.Stats().ReadOnly == 1)
		r.Close()
		require.NoError(t, s.Close())
		if damaged {
			s, r = disk.start(t, clock)
			code(t, want, r.Topic("jobs").Partition(0).Err())
			require.Empty(t, r.unread())
			r.Close()
			require.NoError(t, s.Close())
		}
	}
}

// The producers and message ids that a partition knows are those of its log, and the clock drives its queues.
func TestAServedPartitionHasAllOfItsState(t *testing.T) {
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk := &unreadableFS{Disk: faultfs.New(), part: "-0/"}
	s, r := disk.start(t, clock)
	topic, err := r.Create("jobs", 1, pairs("dedupe_window", "10m", "retention", "0s"))
	require.NoError(t, err)
	p := topic.Partition(0)
	policy := QueuePolicy{Lease: time.Minute, BackoffMin: time.Second, BackoffMax: time.Minute, MaxDeliveries: 3}
	_, err = p.OpenQueue("workers", 0, policy, clock.Now())
	require.NoError(t, err)
	send := func(p *Partition) (known []bool) {
		t.Helper()
		plain, sequenced := withIDs(t, wire.Producer{}, "a"), withIDs(t, wire.Producer{ID: 7, Epoch: 1}, "b")
		for _, batch := range []*wire.Batch{plain, sequenced} {
			_, _, duplicate, err := p.Publish(batch, clock.Now().UnixMilli())
			require.NoError(t, err)
			known = append(known, duplicate)
		}
		return known
	}
	require.Equal(t, []bool{false, false}, send(p))
	require.NoError(t, s.Checkpoint())
	r.Close()
	require.NoError(t, s.Close())
	appendState(t, disk, p.Identity(), group.AppendCommit(nil, "g", 1, clock.Now()))

	s, r = disk.start(t, clock)
	p = r.Topic("jobs").Partition(0)
	code(t, wire.CodeReadOnly, p.Err())
	disk.bad.Store(false)
	require.Empty(t, slices.DeleteFunc(r.unread(), r.reread))
	require.Equal(t, []bool{true, true}, send(p))
	require.NoError(t, s.Sync())
	r.timer.mu.Lock()
	require.Contains(t, r.timer.partitions, p)
	r.timer.mu.Unlock()
	take := func() int {
		leases, err := p.Lease(nil, "workers", 2, 0, 1, clock.Now())
		require.NoError(t, err)
		return len(leases)
	}
	require.NotZero(t, take())
	require.Zero(t, take())
	eventually(t, func() bool {
		clock.add(time.Second)
		return take() > 0
	})
	r.Close()
	require.NoError(t, s.Close())
}

// A growth that was not finished because a partition was not served is finished when it is.
func TestAnUnfinishedGrowthGoesOnWhenThePartitionIsServed(t *testing.T) {
	clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
	disk := unreadPartition(t, clock, false)
	disk.bad.Store(false)
	s, r := disk.start(t, clock)
	rec := r.Topic("jobs").record()
	rec.Before = 1
	require.NoError(t, r.change(change{Put: rec}))
	r.Close()
	require.NoError(t, s.Close())
	disk.bad.Store(true)
	s, r = disk.start(t, clock)
	topic := r.Topic("jobs")
	require.Equal(t, 1, topic.before)
	require.False(t, topic.Partition(1).Knows("g"))
	disk.bad.Store(false)
	require.True(t, r.reread(topic.Partition(0)))
	require.True(t, topic.Partition(1).Knows("g"))
	require.Zero(t, topic.before)
	r.Close()
	require.NoError(t, s.Close())
}
