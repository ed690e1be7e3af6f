package partition

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

func TestAnAddedPartitionTakesOverWhoConsumesAllOthers(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic, now := n.create("t", 2), time.Now()
	policy := QueuePolicy{Lease: time.Second, BackoffMin: time.Second, BackoffMax: time.Minute, MaxDeliveries: 3, OrderByKey: true}
	must := func(_ uint64, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	for _, p := range topic.Partitions() {
		publish(t, p, "a", "b")
		must(p.OpenQueue("all", 2, policy, now))
		must(p.Commit("all", 2, 0, now))
		must(p.Pause("all", true, now))
		must(p.Pause("again", true, now))
		must(p.Pause("again", false, now))
	}
	first := topic.Partition(0)
	must(first.OpenQueue("some", 0, policy, now))
	must(first.Commit("some", 1, 0, now))
	must(first.Pause("some", true, now))

	topic, err := n.Alter("t", 4, nil)
	require.NoError(t, err)
	for range 2 {
		for _, p := range topic.Partitions()[2:] {
			c, ok := p.Committed("all")
			require.True(t, ok)
			require.Zero(t, c.Offset)
			require.True(t, p.Paused("all"))
			require.True(t, p.HasQueue("all"))
			require.Equal(t, first.state.Queue("all").Policy(), p.state.Queue("all").Policy())
			_, ok = p.Committed("some")
			require.False(t, ok || p.Paused("some") || p.HasQueue("some") || p.Paused("again"))
		}
		n.reopen()
		topic = n.Topic("t")
		first = topic.Partition(0)
	}
}

// The broker dies, or fails, when the new partitions are made and the topic does not have them yet. What
// they inherited is not what they inherit later.
func TestWhatAnInterruptedGrowthLeftIsNotUsed(t *testing.T) {
	for _, killed := range []bool{false, true} {
		n := openNode(t, t.TempDir(), Options{})
		topic, now := n.create("t", 1), time.Now()
		pause := func(on bool) {
			_, err := topic.Partition(0).Pause("g", on, now)
			require.NoError(t, err)
		}
		pause(true)
		parts, _, err := n.extend(topic, 3)
		require.NoError(t, err)
		require.True(t, parts[2].Paused("g"))
		if killed {
			n.reopen()
			topic = n.Topic("t")
		}
		require.Len(t, topic.Partitions(), 1)
		pause(false)
		topic, err = n.Alter("t", 3, nil)
		require.NoError(t, err)
		require.False(t, topic.Partition(2).Paused("g"))
		publish(t, topic.Partition(2), "x")
		n.reopen()
		p := n.Topic("t").Partition(2)
		require.False(t, p.Paused("g"))
		require.Equal(t, []string{"x"}, values(t, p, 0))
	}
}

// A pause or a resume that comes while partitions are added reaches them as well. So do a drop and a new policy.
func TestAddedPartitionsFollowWhatChangesMeanwhile(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic, now := n.create("t", 1), time.Now()
	old := topic.Partition(0)
	must := func(_ uint64, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	drop := func(name string) {
		t.Helper()
		_, known, err := old.DropGroup(name, now)
		require.NoError(t, err)
		require.True(t, known)
	}
	for _, name := range []string{"dropped", "kept", "resumed"} {
		must(old.OpenQueue("queue-"+name, 0, QueuePolicy{MaxDeliveries: 3}, now))
		must(old.Commit("group-"+name, 0, 0, now))
		must(old.Pause(name, true, now))
	}
	must(old.Commit("other-mode", 0, 0, now))
	parts, inherited, err := n.extend(topic, 2)
	require.NoError(t, err)
	p := parts[1]
	require.True(t, p.HasQueue("queue-dropped") && p.Knows("group-dropped") && p.Paused("dropped"))

	for _, name := range []string{"queue-dropped", "group-dropped", "dropped", "other-mode"} {
		drop(name)
	}
	must(old.OpenQueue("other-mode", 0, QueuePolicy{}, now))
	must(old.OpenQueue("queue-kept", 0, QueuePolicy{MaxDeliveries: 9}, now))
	must(old.Pause("resumed", false, now))
	must(old.Pause("paused", true, now))
	topic.parts.Store(&parts)
	require.NoError(t, n.catchUp(topic, 1, inherited))
	require.Equal(t, old.state.Groups(), p.state.Groups())
	for _, name := range []string{"queue-dropped", "group-dropped", "dropped", "resumed"} {
		require.False(t, p.Knows(name), name)
	}
	require.True(t, p.Paused("paused") && p.Paused("kept"))
	require.Equal(t, 9, p.state.Queue("queue-kept").Policy().MaxDeliveries)
}

// A group or queue that was dropped while partitions are added, and then came back on a new one, is in use there.
func TestAnAddedPartitionKeepsAGroupThatIsBack(t *testing.T) {
	for how, back := range map[string]func(p *Partition, now time.Time) error{
		"it has members": func(p *Partition, _ time.Time) error { p.SetFence("g", 7); return nil },
		"a commit":       func(p *Partition, now time.Time) error { _, err := p.Commit("g", 0, 0, now); return err },
		"a seek":         func(p *Partition, now time.Time) error { _, err := p.Seek("g", 0, now); return err },
		"a queue": func(p *Partition, now time.Time) error {
			_, err := p.OpenQueue("g", 0, QueuePolicy{}, now)
			return err
		},
	} {
		t.Run(how, func(t *testing.T) {
			n := openNode(t, "", Options{})
			topic, now := n.create("t", 1), time.Now()
			old := topic.Partition(0)
			if how == "a queue" {
				_, err := old.OpenQueue("g", 0, QueuePolicy{}, now)
				require.NoError(t, err)
			} else {
				_, err := old.Commit("g", 0, 0, now)
				require.NoError(t, err)
			}
			parts, inherited, err := n.extend(topic, 2)
			require.NoError(t, err)
			_, _, err = old.DropGroup("g", now)
			require.NoError(t, err)
			topic.parts.Store(&parts)
			require.NoError(t, back(parts[1], now))
			require.NoError(t, n.catchUp(topic, 1, inherited))
			require.True(t, parts[1].Knows("g"))
			require.Nil(t, parts[1].heirs)
		})
	}
}

// The broker dies when the topic has its new partitions, and they do not have what came meanwhile.
func TestAnInterruptedGrowthIsFinishedAtTheStart(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic, now := n.create("t", 1), time.Now()
	old := topic.Partition(0)
	must := func(_ uint64, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	must(old.Pause("resumed", true, now))
	parts, _, err := n.extend(topic, 2)
	require.NoError(t, err)
	must(old.Commit("group", 0, 0, now))
	must(old.OpenQueue("queue", 0, QueuePolicy{MaxDeliveries: 3}, now))
	must(old.Pause("resumed", false, now))
	must(parts[1].Commit("used", 0, 0, now))
	rec := recordOf(topic.id, "t", 2, *topic.Config())
	rec.Before = 1
	require.NoError(t, n.change(change{Put: rec}))
	n.reopen()
	p := n.Topic("t").Partition(1)
	require.True(t, p.Knows("group") && p.HasQueue("queue") && p.Knows("used"))
	require.False(t, p.Paused("resumed"))
	_, _, err = p.DropGroup("group", now) // later, a partition may differ from the others
	require.NoError(t, err)
	n.reopen()
	require.False(t, n.Topic("t").Partition(1).Knows("group"))
}

// Adding partitions fails after the topic has them. Whatever changes the topic next finishes it.
func TestAFailedGrowthIsFinishedByTheNextChange(t *testing.T) {
	for how, change := range map[string]func(n *node) (*Topic, error){
		"a setting":       func(n *node) (*Topic, error) { return n.Alter("t", 0, []wire.Setting{{Key: "retention", Value: "9d"}}) },
		"more partitions": func(n *node) (*Topic, error) { return n.Alter("t", 3, nil) },
	} {
		t.Run(how, func(t *testing.T) {
			n := openNode(t, t.TempDir(), Options{})
			topic, now := n.create("t", 1), time.Now()
			parts, _, err := n.extend(topic, 2)
			require.NoError(t, err)
			_, err = topic.Partition(0).Commit("group", 0, 0, now)
			require.NoError(t, err)
			topic.parts.Store(&parts)
			topic.before = 1
			require.True(t, n.keep(topic)) // a change that fails does not forget it, either
			require.Equal(t, 1, n.data.Topics[uuid.UUID(topic.id).String()].Before)

			topic, err = change(n)
			require.NoError(t, err)
			for _, p := range topic.Partitions() {
				require.True(t, p.Knows("group"), p)
			}
			require.Zero(t, topic.before)
			require.Zero(t, n.data.Topics[uuid.UUID(topic.id).String()].Before)
		})
	}
}

// A partition that is not served keeps the growth unfinished, whatever else changes.
func TestAChangeOfASettingDoesNotForgetAnUnfinishedGrowth(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic := n.create("t", 2)
	topic.before = 1
	topic.Partition(0).damaged.Store(true)
	_, err := n.Alter("t", 0, []wire.Setting{{Key: "retention", Value: "9d"}})
	require.NoError(t, err)
	require.Equal(t, 1, n.data.Topics[uuid.UUID(topic.id).String()].Before)
}

func TestAGrowthIsNotedUntilItIsFinished(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	n.create("t", 1)
	_, err := n.Alter("t", 3, nil)
	require.NoError(t, err)
	var noted []int
	require.NoError(t, n.meta.Replay(func(e wire.Entry) error {
		var c change
		require.NoError(t, json.Unmarshal(e.Payload[4:], &c))
		noted = append(noted, c.Put.Before)
		return nil
	}))
	require.Equal(t, []int{0, 1, 0}, noted)
}

func TestAllPartitionsIncludeThoseAddedMeanwhile(t *testing.T) {
	n := openNode(t, "", Options{})
	topic := n.create("t", 1)
	var numbers []uint16
	for p := range topic.All() {
		numbers = append(numbers, p.Number())
		_, err := n.Alter("t", 3, nil)
		require.NoError(t, err)
	}
	require.Equal(t, []uint16{0, 1, 2}, numbers)
	for p := range topic.All() {
		require.Zero(t, p.Number())
		break
	}
}

// What is removed before a topic grows is what an earlier attempt has left of it, not the partitions of others.
func TestAGrowthLeavesOtherTopicsAlone(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	other := n.create("other", 3)
	for _, p := range other.Partitions() {
		publish(t, p, "a")
	}
	n.create("t", 1)
	_, err := n.Alter("t", 3, nil)
	require.NoError(t, err)
	for _, p := range other.Partitions() {
		publish(t, p, "b")
	}
	n.reopen()
	for _, p := range n.Topic("other").Partitions() {
		require.Equal(t, []string{"a", "b"}, values(t, p, 0))
	}
}

// A partition that is made again does not lose its files to the removal of what an earlier attempt left, which has failed.
func TestAGrowthAfterAFailedRemovalKeepsItsMessages(t *testing.T) {
	for _, part := range []string{"/checkpoint", "/partitions/"} { // the removal is not durable, or files stay
		disk := faultfs.New()
		o := log.Options{FS: disk, Dir: "/data", MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20}
		s, err := log.Open(o)
		require.NoError(t, err)
		r, err := Open(s, true, Options{})
		require.NoError(t, err)
		topic, err := r.Create("t", 1, nil)
		require.NoError(t, err)
		id := topic.Partition(0).Identity()
		id.Partition = 1
		l, err := s.OpenLog(id, log.Config{})
		require.NoError(t, err)
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: term, Payload: wire.AppendPayload(nil, []byte{1})})
		require.NoError(t, err)
		require.NoError(t, s.Checkpoint())

		disk.Fail(func(op faultfs.Op, name string) error {
			if (op == faultfs.OpWrite || op == faultfs.OpRemove) && strings.Contains(name, part) {
				return syscall.EIO
			}
			return nil
		})
		_, err = r.Alter("t", 2, nil)
		require.Error(t, err)
		_, err = r.Alter("t", 2, nil)
		require.Error(t, err)
		disk.Fail(nil)
		topic, err = r.Alter("t", 2, nil)
		require.NoError(t, err)
		publish(t, topic.Partition(1), "a", "b")
		for range 2 {
			require.NoError(t, s.Checkpoint())
			r.Close()
			require.NoError(t, s.Close())
			s, err = log.Open(o)
			require.NoError(t, err)
			r, err = Open(s, true, Options{})
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b"}, values(t, r.Topic("t").Partition(1), 0))
			require.Zero(t, s.Stats().Damage)
		}
		r.Close()
		require.NoError(t, s.Close())
	}
}

// A deletion takes along what a growth that failed has left: nobody else would remove it.
func TestADeletionRemovesWhatAFailedGrowthLeft(t *testing.T) {
	disk := faultfs.New()
	s, r := faultyRegistry(t, disk)
	topic, err := r.Create("t", 1, nil)
	require.NoError(t, err)
	for _, number := range []uint32{1, 1 | companion} {
		id := topic.Partition(0).Identity()
		id.Partition = number
		l, err := s.OpenLog(id, log.Config{})
		require.NoError(t, err)
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: term, Payload: wire.AppendPayload(nil, []byte{1})})
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	require.NoError(t, r.Delete("t"))
	require.Equal(t, []wire.Identity{{}}, s.Logs())
	r.Close()
	require.NoError(t, s.Close())
}

// The clock drives a queue that a new partition has inherited, too.
func TestAnInheritedQueueTakesBackItsLeases(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	topic := n.create("jobs", 1)
	policy := QueuePolicy{Lease: time.Millisecond, BackoffMin: time.Millisecond, MaxDeliveries: 1}
	_, err := topic.Partition(0).OpenQueue("workers", 0, policy, time.Now())
	require.NoError(t, err)
	topic, err = n.Alter("jobs", 2, nil)
	require.NoError(t, err)
	p := topic.Partition(1)
	publish(t, p, "a")
	require.Len(t, lease(t, p, 1), 1)
	eventually(t, func() bool { return p.Stats().DeadLettered == 1 }) // nobody asks for it again
}

// New partitions may be used before they have all groups of the others, which change meanwhile.
func TestAFullPartitionInheritsNothing(t *testing.T) {
	p := openNode(t, "", Options{}).create("t", 1).Partition(0)
	now := time.Now()
	for i := range group.MaxGroups {
		name := fmt.Sprint("g", i)
		_, err := p.Commit(name, 0, 0, now)
		require.NoError(t, err)
		_, err = p.Pause(name, true, now)
		require.NoError(t, err)
	}
	one := map[string]struct{}{"g5": {}, "one more": {}}
	for _, h := range []heritage{{groups: one}, {queues: map[string]QueuePolicy{"one more": {}}}, {paused: one}} {
		code(t, wire.CodeLimit, p.inherit(h, now))
	}
}
