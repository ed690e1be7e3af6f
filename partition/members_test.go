package partition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A pause that is sent again must not be answered before the first one is durable.
func TestAPauseThatChangesNothingIsAsDurableAsTheOneBefore(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	for _, pause := range []bool{true, false} {
		index, err := p.Pause("workers", pause, time.Now())
		require.NoError(t, err)
		require.Positive(t, index)
		again, err := p.Pause("workers", pause, time.Now())
		require.NoError(t, err)
		require.Equal(t, index, again)
	}
}

// So must a drop of a group that is gone, also when the first one was before the end of the broker.
func TestADropThatChangesNothingIsAsDurableAsTheOneBefore(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	_, err := p.Commit("workers", 0, 0, time.Now())
	require.NoError(t, err)
	drop := func(want bool) uint64 {
		t.Helper()
		index, known, err := p.DropGroup("workers", time.Now())
		require.NoError(t, err)
		require.Equal(t, want, known)
		return index
	}
	index := drop(true)
	require.Equal(t, p.log.Positions().NextIndex-1, index)
	require.Equal(t, index, drop(false))
	n.reopen()
	p = n.Topic("jobs").Partition(0)
	require.Equal(t, index, drop(false))
	require.NoError(t, p.log.Sync())
	require.True(t, p.Reached(index, wire.LevelDisk))
}

// And so must a member's commit that comes late.
func TestALateCommitIsAsDurableAsTheOneBefore(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a", "b", "c")
	const generation = 7
	p.SetFence("workers", generation)
	index, err := p.Commit("workers", 3, generation, time.Now())
	require.NoError(t, err)
	late, err := p.Commit("workers", 2, generation, time.Now())
	require.NoError(t, err)
	require.Equal(t, index, late)
	c, ok := p.Committed("workers")
	require.True(t, ok)
	require.Equal(t, uint64(3), c.Offset)
	require.False(t, c.At.IsZero())
	require.Equal(t, c.At, p.Groups(time.Now())[0].CommittedAt)
}

// Without it a client could make the broker remember 10,000 groups on each of 10,000 partitions.
func TestTheGroupsOfAllPartitionsAreBounded(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir, Options{MaxGroups: 5})
	a, b := n.create("a", 2), n.create("b", 1)
	now := time.Now()
	commit := func(p *Partition, name string) error { _, err := p.Commit(name, 0, 0, now); return err }
	full := func() {
		t.Helper()
		code(t, wire.CodeLimit, commit(a.Partition(0), "new"))
		_, err := b.Partition(0).OpenQueue("new", 0, QueuePolicy{}, now)
		code(t, wire.CodeLimit, err)
		_, err = a.Partition(1).Pause("new", true, now)
		code(t, wire.CodeLimit, err)
		require.NoError(t, commit(a.Partition(0), "g"), "it is known")
	}
	require.NoError(t, commit(a.Partition(0), "g"))
	require.NoError(t, commit(a.Partition(1), "g"))
	_, err := a.Partition(1).OpenQueue("q", 0, QueuePolicy{}, now)
	require.NoError(t, err)
	_, err = a.Partition(1).Pause("q", true, now)
	require.NoError(t, err)
	require.NoError(t, commit(b.Partition(0), "h"))
	full()
	n.reopen()
	a, b = n.Topic("a"), n.Topic("b")
	full()

	_, _, err = a.Partition(1).DropGroup("q", now) // and its pause
	require.NoError(t, err)
	require.NoError(t, commit(b.Partition(0), "i"))
	require.NoError(t, commit(b.Partition(0), "j"))
	full()
	require.NoError(t, n.Delete("b"))
	require.EqualValues(t, 2, n.groups.Load())
	require.NoError(t, commit(a.Partition(0), "new"))
}
