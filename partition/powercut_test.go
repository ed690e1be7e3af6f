package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// twoTopics returns a disk with topics "changed" and "other", as a kill leaves it. They have two partitions each. Each
// partition has 20 messages, half of which are in segments, and a group that has committed offset 3.
func twoTopics(t *testing.T) *faultfs.Disk {
	t.Helper()
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	var parts []*Partition
	for _, name := range []string{"changed", "other"} {
		topic, err := r.Create(name, 2, nil)
		require.NoError(t, err)
		parts = append(parts, topic.Partitions()...)
	}
	for _, p := range parts {
		publish(t, p, numbered(p, 0, 10)...)
		_, err := p.Commit("g", 3, 0, time.Now())
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	for _, p := range parts {
		publish(t, p, numbered(p, 10, 20)...)
	}
	killed := disk.Clone()
	r.Close()
	require.NoError(t, s.Close())
	return killed
}

// numbered returns messages that say where they are, at offsets [first, next).
func numbered(p *Partition, first, next uint64) (list []string) {
	for offset := first; offset < next; offset++ {
		list = append(list, fmt.Sprint(p, "@", offset))
	}
	return list
}

// topicState is what a change of a topic may change.
type topicState struct {
	parts int    // 0: the topic is gone
	first uint64 // of each of the first two partitions, as far as the change came to it
}

// requireTopics checks both topics. With done the change was answered.
func requireTopics(t *testing.T, r *Registry, after topicState, done bool) {
	t.Helper()
	require.NotNil(t, r.Topic("other"))
	for _, topic := range r.Topics() {
		want := []topicState{{2, 0}}
		if topic.Name() == "changed" {
			want = append(want, topicState{2, after.first}, after)
		}
		for _, p := range topic.Partitions() {
			require.True(t, p.Knows("g"), "%s", p)
			got := topicState{len(topic.Partitions()), p.First()}
			if p.Number() >= 2 {
				continue
			}
			require.Contains(t, want, got)
			require.True(t, !done || topic.Name() == "other" || got == after)
			require.Equal(t, numbered(p, got.first, 20), values(t, p, got.first))
			committed, _ := p.Committed("g")
			require.Equal(t, uint64(3), committed.Offset)
		}
	}
	require.True(t, r.Topic("changed") == nil || after.parts > 0 || !done)
	require.True(t, r.Topic("changed") != nil || after.parts == 0)
}

// goOn grows what is left of the changed topic, and publishes to all partitions. That survives the next starts, too.
func goOn(t *testing.T, disk *faultfs.Disk) {
	t.Helper()
	s, r := faultyRegistry(t, disk)
	if r.Topic("changed") != nil {
		_, err := r.Alter("changed", 4, nil)
		require.NoError(t, err)
	}
	for _, topic := range r.Topics() {
		for _, p := range topic.Partitions() {
			require.True(t, p.Knows("g"), "%s", p)
			publish(t, p, "new")
		}
	}
	require.NoError(t, s.Checkpoint())
	for range 2 {
		r.Close()
		require.NoError(t, s.Close())
		s, r = faultyRegistry(t, disk)
		for _, topic := range r.Topics() {
			for _, p := range topic.Partitions() {
				all := values(t, p, p.First())
				require.Len(t, all, int(p.Next()-p.First()))
				require.Equal(t, "new", all[len(all)-1])
			}
		}
		require.Zero(t, s.Stats().Damage)
	}
	r.Close()
	require.NoError(t, s.Close())
}

// cutDuringStart returns what a power cut in the middle of the start behind a kill leaves.
func cutDuringStart(killed *faultfs.Disk, rng *rand.Rand) *faultfs.Disk {
	killed.CrashAt(1 + rng.IntN(40))
	s, err := log.Open(log.Options{FS: killed, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20})
	if err == nil {
		if r, err := Open(s, true, Options{}); err == nil {
			_ = s.Checkpoint() // the disk may be gone, here and below
			r.Close()
		}
		_ = s.Close()
	}
	return killed.PowerCut(rng)
}

// A power cut between any two steps of a change leaves the topic as it was or as it is to be, and others as they are.
// So does a kill there that is followed by a power cut during the next start.
func TestPowerCutsDuringChangesOfTopics(t *testing.T) {
	base := twoTopics(t)
	for name, c := range map[string]struct {
		change func(s *log.Store, r *Registry) error
		after  topicState
	}{
		"delete": {func(_ *log.Store, r *Registry) error { return r.Delete("changed") }, topicState{0, 0}},
		"grow": {func(_ *log.Store, r *Registry) error {
			_, err := r.Alter("changed", 4, nil)
			return err
		}, topicState{4, 0}},
		"purge": {func(_ *log.Store, r *Registry) error {
			return r.Purge("changed", wire.AnyPartition, 15)
		}, topicState{2, 15}},
		"purge all": {func(_ *log.Store, r *Registry) error {
			return r.Purge("changed", wire.AnyPartition, 20)
		}, topicState{2, 20}},
		"file": {func(s *log.Store, _ *Registry) error { return s.Checkpoint() }, topicState{2, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			for call, alive := 1, false; !alive; call++ {
				disk := base.Clone()
				s, r := faultyRegistry(t, disk)
				disk.CrashAt(call)
				err := c.change(s, r)
				alive = !disk.Dead()
				rng := rand.New(rand.NewPCG(1, uint64(call)))
				cut, killed := disk.PowerCut(rng), disk.Clone()
				r.Close()
				_ = s.Close() // the disk may be gone
				if call%2 == 0 {
					cut = cutDuringStart(killed, rng)
				}
				for range 2 { // and again after what the first start has done
					s, r = faultyRegistry(t, cut)
					requireTopics(t, r, c.after, err == nil)
					require.Zero(t, s.Stats().Damage)
					require.Zero(t, s.Stats().LostEntries)
					r.Close()
					require.NoError(t, s.Close())
				}
				goOn(t, cut)
			}
		})
	}
}

// What consumers were answered survives a power cut, also on a topic whose messages need not.
func TestWhatConsumersWereAnsweredSurvivesAPowerCut(t *testing.T) {
	for name, change := range map[string]func(p *Partition) (index uint64, err error){
		"commit": func(p *Partition) (uint64, error) { return p.Commit("g", 2, 0, time.Now()) },
		"seek":   func(p *Partition) (uint64, error) { return p.Seek("g", 2, time.Now()) },
		"pause":  func(p *Partition) (uint64, error) { return p.Pause("g", true, time.Now()) },
		"queue":  func(p *Partition) (uint64, error) { return p.OpenQueue("g", 2, modelPolicy, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := faultfs.New()
			s, r := faultyRegistry(t, disk)
			topic, err := r.Create("jobs", 1, pairs("durability", "memory"))
			require.NoError(t, err)
			p := topic.Partition(0)
			publish(t, p, "a", "b", "c")
			require.NoError(t, p.log.Sync())
			index, err := change(p)
			require.NoError(t, err)
			p.Flush(p.StateLevel())
			eventually(t, func() bool { return p.Reached(index, p.StateLevel()) })
			before := p.groupInfos()
			for seed := range uint64(8) {
				s, r := faultyRegistry(t, disk.PowerCut(rand.New(rand.NewPCG(seed, 1))))
				require.Equal(t, before, r.Topic("jobs").Partition(0).groupInfos())
				r.Close()
				require.NoError(t, s.Close())
			}
			r.Close()
			require.NoError(t, s.Close())
		})
	}
}
