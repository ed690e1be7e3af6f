package partition

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// Of many who ask for the same names at once, one each makes the topic, and all have that one.
func TestCreationsAtOnceMakeEachTopicOnce(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	const names, callers = 40, 8
	topics := make([][names]*Topic, callers)
	var made atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range names {
				topic, err := n.Create(fmt.Sprint("t", i), 2, nil)
				if err == nil {
					made.Add(1)
				} else if !errors.Is(err, wire.CodeTopicExists) {
					t.Error(err)
				}
				topics[c][i] = topic
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(names), made.Load())
	for c := range callers {
		require.True(t, topics[0] == topics[c], "every caller has the same topics")
	}
	for i := range names {
		require.Same(t, topics[0][i], n.Topic(fmt.Sprint("t", i)))
		require.Len(t, topics[0][i].Partitions(), 2)
	}
	n.reopen()
	require.Len(t, n.Topics(), names)
}

// What is asked for together is judged in order: by names, subjects and the number of partitions.
func TestCreationsOfOneFlushMindEachOther(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{MaxPartitions: 4})
	ask := func(name string, partitions int, kv ...string) *creation {
		c, err := n.Defaults().with(pairs(kv...))
		require.NoError(t, err)
		a := &creation{name: name, partitions: partitions, config: c}
		n.asked = append(n.asked, a)
		return a
	}
	a, again := ask("a", 1), ask("a", 2)
	wild, inWild, own := ask("wild", 1, "subjects", "x.*"), ask("x.y", 1), ask("b", 1, "subjects", "a")
	large, last := ask("large", 3), ask("last", 2)
	_, err := n.Create("full", 1, nil)
	require.ErrorIs(t, err, wire.CodeLimit)
	require.NoError(t, a.err)
	require.ErrorIs(t, again.err, wire.CodeTopicExists)
	require.Same(t, a.topic, again.topic)
	require.NoError(t, wild.err)
	require.ErrorIs(t, inWild.err, wire.CodeInvalid)
	require.ErrorIs(t, own.err, wire.CodeInvalid)
	require.ErrorIs(t, large.err, wire.CodeLimit)
	require.NoError(t, last.err)
	require.Same(t, wild.topic, n.Bound([]byte("x.y")))
	require.Len(t, n.Topics(), 3)
}

// faultyRegistry is a registry on a simulated disk.
func faultyRegistry(t *testing.T, disk *faultfs.Disk) (*log.Store, *Registry) {
	s, err := log.Open(log.Options{FS: disk, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	require.NoError(t, err)
	r, err := Open(s, true, Options{})
	require.NoError(t, err)
	return s, r
}

// A flush that fails makes none of the topics that wait for it, and nobody is told that one exists.
func TestAFailedFlushMakesNoTopic(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	_, err := r.Create("before", 1, nil)
	require.NoError(t, err)
	var waiting []*creation
	for _, name := range []string{"a", "b", "a"} {
		waiting = append(waiting, &creation{name: name, partitions: 1, config: r.Defaults()})
	}
	r.asked = append(r.asked, waiting...)
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpSync && strings.Contains(name, "/commit/") {
			return syscall.EIO
		}
		return nil
	})
	topic, err := r.Create("c", 1, nil)
	require.ErrorIs(t, err, wire.CodeStorage)
	require.Nil(t, topic)
	for _, a := range waiting {
		require.ErrorIs(t, a.err, wire.CodeStorage)
		require.Nil(t, a.topic)
		require.Nil(t, r.Topic(a.name))
	}
	require.Equal(t, 1, r.partitions)
	require.NotNil(t, r.Topic("before"))
	disk.Fail(nil)
	r.Close()
	_ = s.Close() // says that the metadata log is read-only
}

// A deletion that a full disk held up is finished when there is space, and no start waits for that.
func TestADeletionThatAFullDiskHeldUp(t *testing.T) {
	noSpace := func(_ faultfs.Op, name string) error {
		if strings.Contains(name, "checkpoint") {
			return syscall.ENOSPC
		}
		return nil
	}
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("t", 2, nil)
	require.NoError(t, err)
	of := uuid.UUID(topic.ID()).String()
	require.NoError(t, s.Checkpoint())
	for _, p := range topic.Partitions() {
		_, _, err := p.log.Append(log.Batch{Kind: wire.KindData, Count: 1, Time: time.Now().UnixMilli(), Payload: batchOf(t, "x").Raw()})
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	stored := func(d *faultfs.Disk) bool {
		return slices.ContainsFunc(d.Names(), func(name string) bool { return strings.Contains(name, of) })
	}
	require.True(t, stored(disk))
	disk.Fail(noSpace)
	require.ErrorIs(t, r.Delete("t"), wire.CodeStorage)
	require.Nil(t, r.Topic("t"))
	killed := disk.Clone()

	disk.Fail(nil)
	require.NoError(t, s.Checkpoint())
	require.False(t, stored(disk))
	r.Close()
	require.NoError(t, s.Close())

	killed.Fail(noSpace)
	s, r = faultyRegistry(t, killed)
	require.Nil(t, r.Topic("t"))
	again, err := r.Create("t", 1, nil)
	require.NoError(t, err)
	require.NotEqual(t, topic.ID(), again.ID())
	killed.Fail(nil)
	require.NoError(t, s.Checkpoint())
	require.False(t, stored(killed))
	r.Close()
	require.NoError(t, s.Close())

	s, r = faultyRegistry(t, killed)
	require.Equal(t, again.ID(), r.Topic("t").ID())
	require.Len(t, r.data.Topics, 1)
	r.Close()
	require.NoError(t, s.Close())
}

// Topics whose creation was answered are there after a power cut at any call, and each name has one.
func TestModelOfCreationsWithPowerCuts(t *testing.T) {
	seeds.Each(t, 30, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := faultfs.New()
		s, r := faultyRegistry(t, disk)
		disk.CrashAt(1 + rng.IntN(120))
		var mu sync.Mutex
		made := map[string][16]byte{}
		var wg sync.WaitGroup
		for c := range 4 {
			wg.Go(func() {
				for i := range 20 {
					name := fmt.Sprint("t", i+c%2*100)
					topic, err := r.Create(name, 1, nil)
					if topic == nil {
						return
					}
					mu.Lock()
					if id, ok := made[name]; ok && id != topic.ID() {
						t.Errorf("%s: %v", name, err)
					}
					made[name] = topic.ID()
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		after := disk.PowerCut(rng)
		r.Close()
		_ = s.Close() // the disk may be gone
		s, r = faultyRegistry(t, after)
		for name, id := range made {
			topic := r.Topic(name)
			require.NotNil(t, topic, "lost %s", name)
			require.Equal(t, id, topic.ID())
		}
		r.Close()
		require.NoError(t, s.Close())
	})
}

// noCommits refuses writes to the commit log as a full disk does.
func noCommits(op faultfs.Op, name string) error {
	if (op == faultfs.OpWrite || op == faultfs.OpAllocate) && strings.Contains(name, "/commit/") {
		return syscall.ENOSPC
	}
	return nil
}

// The entry of a topic that was refused because the disk is full is written when there is space. Meanwhile another one
// may have got its name.
func TestATopicThatWasRefusedTakesNoName(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	disk.Fail(noCommits)
	_, err := r.Create("jobs", 1, nil)
	code(t, wire.CodeStorage, err)
	disk.Fail(nil)
	made, err := r.Create("jobs", 1, nil)
	require.NoError(t, err)
	r.Close()
	require.NoError(t, s.Close())
	s, r = faultyRegistry(t, disk)
	require.Len(t, r.data.Topics, 1)
	require.Equal(t, made.ID(), r.Topic("jobs").ID())
	r.Close()
	require.NoError(t, s.Close())
}

// The same for a deletion and other changes: the topic stays. The deletion removed its messages, to make space for itself.
func TestATopicWhoseDeletionWasRefusedStays(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("jobs", 2, pairs("durability", "os"))
	require.NoError(t, err)
	disk.Fail(noCommits)
	code(t, wire.CodeStorage, r.Delete("jobs"))
	_, err = r.Alter("jobs", 0, pairs("durability", "disk"))
	code(t, wire.CodeStorage, err)
	disk.Fail(nil)
	p := topic.Partition(0)
	require.NoError(t, p.Err())
	require.NoError(t, s.Sync())
	r.Close()
	require.NoError(t, s.Close())
	s, r = faultyRegistry(t, disk)
	require.Equal(t, topic.ID(), r.Topic("jobs").ID())
	require.Len(t, r.Topic("jobs").Partitions(), 2)
	require.Equal(t, wire.LevelOS, r.Topic("jobs").Config().Level)
	require.NoError(t, r.Delete("jobs"))
	r.Close()
	require.NoError(t, s.Close())
}

// Whether the deletion counts, a restart finds out. Until then nothing is stored that could go with it.
func TestNothingIsStoredInATopicWhoseDeletionMayCount(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("jobs", 1, nil)
	require.NoError(t, err)
	disk.Fail(failingFlush)
	code(t, wire.CodeStorage, r.Delete("jobs"))
	disk.Fail(nil)
	require.Nil(t, r.Topic("jobs"))
	code(t, wire.CodeTopicDeleted, topic.Err())
	code(t, wire.CodeTopicDeleted, topic.Partition(0).Err())
	r.Close()
	_ = s.Close() // says that the metadata log is read-only
}

// A deletion is what an operator tries on a full disk. Its own entry needs space, too: that of what it deletes.
func TestADeletionMakesTheSpaceThatItNeeds(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("jobs", 2, nil)
	require.NoError(t, err)
	for _, p := range topic.Partitions() {
		for range 100 {
			large := batchOf(t, strings.Repeat("x", 10<<10))
			_, _, _, err := p.Publish(large, time.Now().UnixMilli())
			require.NoError(t, err)
		}
	}
	require.NoError(t, s.Checkpoint())
	space := false
	disk.Fail(func(op faultfs.Op, name string) error {
		space = space || op == faultfs.OpRemove && strings.HasSuffix(name, ".seg")
		if space {
			return nil
		}
		return noCommits(op, name)
	})
	require.NoError(t, r.Delete("jobs"))
	require.Nil(t, r.Topic("jobs"))
	r.Close()
	require.NoError(t, s.Close())
}

// Nor does a lower retention need more space than it makes. When that is not enough, the topic keeps its retention.
func TestALowerRetentionMakesTheSpaceThatItNeeds(t *testing.T) {
	for _, enough := range []bool{true, false} {
		disk := faultfs.New()
		s, r := faultyRegistry(t, disk)
		topic, err := r.Create("jobs", 2, pairs("segment_bytes", "65536"))
		require.NoError(t, err)
		for _, p := range topic.Partitions() {
			for range 100 {
				_, _, _, err := p.Publish(batchOf(t, strings.Repeat("x", 10<<10)), time.Now().UnixMilli())
				require.NoError(t, err)
			}
		}
		require.NoError(t, s.Checkpoint())
		space := false
		disk.Fail(func(op faultfs.Op, name string) error {
			space = space || enough && op == faultfs.OpRemove && strings.HasSuffix(name, ".seg")
			writes := op == faultfs.OpWrite || op == faultfs.OpAllocate
			if !space && writes && !strings.Contains(name, "checkpoint") { // which has space of its own
				return syscall.ENOSPC
			}
			return nil
		})
		_, err = r.Alter("jobs", 0, pairs("retention", "9d"))
		code(t, wire.CodeStorage, err)
		require.Zero(t, topic.Partition(0).First(), "a higher retention removes nothing")
		_, err = r.Alter("jobs", 0, pairs("retention_count", "10"))
		if !enough {
			code(t, wire.CodeStorage, err)
			require.Zero(t, topic.Config().Retention.Count)
			require.Zero(t, topic.Partition(0).log.Config().Retention.Count)
		} else {
			require.NoError(t, err)
			require.Equal(t, int64(10), topic.Config().Retention.Count)
		}
		require.NotZero(t, topic.Partition(0).First())
		disk.Fail(nil)
		r.Close()
		require.NoError(t, s.Close())
	}
}

// A deletion that could not remove the files is finished when that works again.
func TestADeletionThatFailedIsFinishedLater(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("gone", 1, nil)
	require.NoError(t, err)
	publish(t, topic.Partition(0), "a")
	require.NoError(t, s.Checkpoint())
	disk.Fail(func(op faultfs.Op, name string) error {
		if op == faultfs.OpRemove && strings.Contains(name, "/partitions/") {
			return syscall.EIO
		}
		return nil
	})
	require.Error(t, r.Delete("gone"))
	r.finishDeletions()
	require.Len(t, r.data.Topics, 1)
	again, err := r.Create("gone", 1, nil)
	require.NoError(t, err)
	publish(t, again.Partition(0), "b")
	disk.Fail(nil)
	r.finishDeletions()
	for range 2 { // and after the next start
		require.Len(t, r.data.Topics, 1)
		require.Equal(t, []string{"b"}, values(t, r.Topic("gone").Partition(0), 0))
		require.NotContains(t, s.Logs(), topic.Partition(0).Identity())
		r.Close()
		require.NoError(t, s.Close())
		s, r = faultyRegistry(t, disk)
	}
	r.Close()
	require.NoError(t, s.Close())
}

// A start removes nothing of a topic before the mark of its deletion is durable: a power cut could take the mark away
// again.
func TestAStartRemovesNothingWhoseDeletionMayBeUndone(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("t", 1, nil)
	require.NoError(t, err)
	publish(t, topic.Partition(0), "a", "b")
	require.NoError(t, s.Checkpoint())
	unflushed := func(op faultfs.Op, name string) error {
		if op == faultfs.OpSync && strings.Contains(name, "/commit/") {
			return syscall.EIO
		}
		return nil
	}
	disk.Fail(unflushed)
	require.Error(t, r.Delete("t"))
	killed := disk.Clone()
	r.Close()
	_ = s.Close() // the storage has failed

	killed.Fail(unflushed)
	s, r = faultyRegistry(t, killed)
	require.Nil(t, r.Topic("t"))
	cuts := make([]*faultfs.Disk, 8)
	for seed := range cuts {
		cuts[seed] = killed.PowerCut(rand.New(rand.NewPCG(uint64(seed), 1)))
	}
	r.Close()
	_ = s.Close()
	for _, cut := range cuts {
		s, r = faultyRegistry(t, cut)
		if topic := r.Topic("t"); topic != nil {
			require.Equal(t, []string{"a", "b"}, values(t, topic.Partition(0), 0))
		}
		r.Close()
		require.NoError(t, s.Close())
	}
}

// A deletion replaces the checkpoint once, however many partitions the topic has.
func TestADeletionOfManyPartitionsIsOneCheckpoint(t *testing.T) {
	flushes := func(partitions int) (n int) {
		disk := faultfs.New()
		s, r := faultyRegistry(t, disk)
		topic, err := r.Create("jobs", partitions, nil)
		require.NoError(t, err)
		for _, p := range topic.Partitions() {
			publish(t, p, "a")
			later(t, p, time.Hour, "b")
		}
		require.NoError(t, s.Checkpoint())
		disk.Fail(func(op faultfs.Op, name string) error {
			if (op == faultfs.OpSync || op == faultfs.OpSyncDir) && !strings.Contains(name, "/commit") {
				n++
			}
			return nil
		})
		require.NoError(t, r.Delete("jobs"))
		r.Close()
		disk.Fail(nil)
		dirs, err := disk.ReadDir("/data/partitions")
		require.NoError(t, err)
		require.Len(t, dirs, 1, "of the metadata")
		require.NoError(t, s.Close())
		return n
	}
	require.Equal(t, flushes(2), flushes(40))
}

// A purge of all partitions replaces the checkpoint as often for many as for a few.
func TestAPurgeOfManyPartitionsTakesFewCheckpoints(t *testing.T) {
	for _, before := range []uint64{1, math.MaxUint64} {
		checkpoints := func(partitions int) uint64 {
			s, r := faultyRegistry(t, faultfs.New())
			topic, err := r.Create("jobs", partitions, nil)
			require.NoError(t, err)
			for _, p := range topic.Partitions() {
				publish(t, p, "a")
				publish(t, p, "b")
			}
			require.NoError(t, s.Checkpoint())
			had := s.Stats().Checkpoints
			require.NoError(t, r.Purge("jobs", wire.AnyPartition, before))
			n := s.Stats().Checkpoints - had
			for _, p := range topic.Partitions() {
				require.Equal(t, min(before, 2), p.First())
			}
			r.Close()
			require.NoError(t, s.Close())
			return n
		}
		require.Equal(t, checkpoints(2), checkpoints(40))
	}
}
