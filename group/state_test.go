package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCommitsAreKeptPerGroup(t *testing.T) {
	s := New()
	_, ok := s.Committed("billing")
	require.False(t, ok)
	require.NoError(t, s.Apply(AppendCommit(nil, "billing", 7, t0)))
	require.NoError(t, s.Apply(AppendCommit(nil, "audit", 1, t0)))
	require.NoError(t, s.Apply(AppendCommit(nil, "billing", 5, t0.Add(time.Second))))
	c, ok := s.Committed("billing")
	require.True(t, ok)
	require.Equal(t, Commit{5, t0.Add(time.Second)}, c)
	require.NoError(t, s.Apply(AppendDrop(nil, "billing")))
	require.NoError(t, s.Apply(AppendDrop(nil, "nobody")))
	_, ok = s.Committed("billing")
	require.False(t, ok)
	require.Equal(t, []Info{{"audit", ModeOffsets, 1}}, s.Groups())
}

func TestGroupsAreSortedByNameAndMode(t *testing.T) {
	s := New()
	for _, name := range []string{"c", "a", "b"} {
		require.NoError(t, s.Apply(AppendCommit(nil, name, 4, t0)))
	}
	require.NoError(t, s.Apply(AppendOpen(nil, "b", 9, Policy{})))
	require.Equal(t, []Info{
		{"a", ModeOffsets, 4}, {"b", ModeOffsets, 4}, {"b", ModeQueue, 9}, {"c", ModeOffsets, 4},
	}, s.Groups())
	for name, q := range s.Queues() {
		require.Equal(t, "b", name)
		require.Same(t, s.Queue("b"), q)
	}
	require.Equal(t, "offsets queue", ModeOffsets.String()+" "+ModeQueue.String())
}

func TestNamesAndTheirNumberAreBounded(t *testing.T) {
	s := New()
	require.ErrorIs(t, s.Check("", ModeOffsets), errName)
	require.NoError(t, s.Check(strings.Repeat("x", maxName), ModeQueue))
	require.ErrorIs(t, s.Check(strings.Repeat("x", maxName+1), ModeOffsets), errName)
	require.ErrorIs(t, s.Apply(AppendCommit(nil, "", 1, t0)), errCommand)
	require.ErrorIs(t, s.Apply(AppendDrop(nil, strings.Repeat("x", maxName+1))), errCommand)

	for i := range MaxGroups - 1 {
		require.NoError(t, s.Apply(AppendCommit(nil, fmt.Sprint(i), 1, t0)))
	}
	require.NoError(t, s.Apply(AppendOpen(nil, "queue", 1, Policy{})))
	require.ErrorIs(t, s.Check("one more", ModeQueue), ErrTooMany)
	require.NoError(t, s.Check("7", ModeOffsets))
	require.NoError(t, s.Check("queue", ModeQueue))
	require.ErrorIs(t, s.Apply(AppendCommit(nil, "one more", 1, t0)), ErrTooMany)
	require.ErrorIs(t, s.Apply(AppendOpen(nil, "7", 1, Policy{})), ErrTooMany)
	require.ErrorIs(t, s.Check("7", ModeQueue), ErrTooMany)
	require.NoError(t, s.Apply(AppendCommit(nil, "7", 2, t0)))
	require.NoError(t, s.Apply(AppendOpen(nil, "queue", 1, Policy{MaxDeliveries: 2})))
	require.Len(t, s.Groups(), MaxGroups)
	require.NoError(t, s.Apply(AppendDrop(nil, "7")))
	require.NoError(t, s.Check("one more", ModeQueue))
}

func TestTruncatePrefixMovesQueuesAndCountsWhatWasLost(t *testing.T) {
	s, q := openQueue(t, Policy{})
	require.NoError(t, s.Apply(AppendCommit(nil, "ordered", 3, t0)))
	q.Lease(nil, 8, 8, 0, 1, t0)
	apply(t, s, 0)(q.PlanAck(nil, settle(0, 2, 1)))
	apply(t, s, 0)(q.PlanNack(nil, settle(2, 2, 1), 0, "", t0))
	apply(t, s, 0)(q.PlanReject(nil, settle(4, 2, 1), "", t0))

	require.Equal(t, uint64(3), s.TruncatePrefix(5)) // two redeliveries and a dead letter
	require.Equal(t, Stats{Floor: 5, Next: 8, InFlight: 2, Dead: 1, Acked: 2}, q.Stats())
	require.Zero(t, s.TruncatePrefix(5))
	require.Zero(t, s.TruncatePrefix(1))
	require.Equal(t, uint64(1+12), s.TruncatePrefix(20)) // a dead letter and the fresh 8 to 19
	require.Equal(t, Stats{Floor: 20, Next: 20, Acked: 2}, q.Stats())
	require.Empty(t, q.causes)
	c, _ := s.Committed("ordered")
	require.Equal(t, uint64(3), c.Offset)
	require.NoError(t, s.Apply(AppendOpen(nil, "late", 2, Policy{})))
	require.Equal(t, uint64(20), s.Queue("late").Stats().Floor)
}

func TestAQueueStopsLeasingAtItsLimits(t *testing.T) {
	s, q := openQueue(t, Policy{})
	require.Equal(t, []Lease{{0, MaxInFlight, 1}}, q.Lease(nil, 1<<30, 1<<30, 0, 1, t0))
	require.Empty(t, q.Lease(nil, 1, 1<<30, 0, 1, t0))
	apply(t, s, 0)(q.PlanReject(nil, settle(0, MaxDead, 1), "bad", t0))
	require.Len(t, q.Dead(), maxDeadBatch)
	apply(t, s, 0)(q.PlanAck(nil, settle(MaxDead, 5, 1)))
	require.Empty(t, q.Lease(nil, 9, 1<<30, 0, 1, t0))
	require.NoError(t, s.Apply(q.PlanBuried(nil, []uint64{0})))
	require.Equal(t, []Lease{{MaxInFlight, 6, 1}}, q.Lease(nil, 9, 1<<30, 0, 1, t0))
}

func TestOnePlanLooksAtABoundedNumberOfRanges(t *testing.T) {
	s, q := openQueue(t, Policy{MaxDeliveries: 1})
	const n = maxRanges + 1000
	fragment(q, n, t0)
	all := settle(0, n, 1)
	for range 100 {
		all = append(all, all[0])
	}
	ack, lost := q.PlanAck(nil, all)
	require.Equal(t, 100*n+1000, lost)
	require.NotNil(t, ack)

	// Ranges that do not continue each other fill a command.
	odd := make([]Settle, 0, n)
	for i := uint64(1); i < n; i += 2 {
		odd = append(odd, Settle{i, 1, 1})
	}
	twice := append(odd, odd...)
	ack, lost = q.PlanAck(nil, append(twice, odd...))
	require.Equal(t, len(odd)*3-maxRanges, lost)
	require.Less(t, len(ack), 5<<20)
	require.NoError(t, s.Apply(ack))
	require.Equal(t, uint64(len(odd)), q.Stats().Acked)

	total := 0
	for {
		cmd, count := q.PlanExpire(nil, t0.Add(time.Hour))
		if cmd == nil {
			break
		}
		total += count
		require.NoError(t, s.Apply(cmd))
	}
	require.Equal(t, n-len(odd), total)
	require.Equal(t, n-len(odd), q.Stats().Dead)
}

func TestAPlanThatIsFullTakesAsMuchAsFits(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, MaxInFlight, MaxInFlight, 0, 1, t0)
	whole := make([]Settle, 200)
	for i := range whole {
		whole[i] = Settle{0, MaxInFlight, 1}
	}
	cmd, lost := q.PlanNack(nil, whole, -1, "", t0)
	require.Less(t, lost, 200*MaxInFlight)
	require.Greater(t, lost, 100*MaxInFlight)
	require.Less(t, len(cmd), 5<<20)
	require.NoError(t, s.Apply(cmd))
	require.Equal(t, MaxInFlight, q.Stats().Redelivering)
}

func TestStateCountsWhatItsQueuesTrack(t *testing.T) {
	s, q := openQueue(t, Policy{})
	require.NoError(t, s.Apply(AppendOpen(nil, "other", 0, Policy{})))
	fragment(q, 300, t0)
	s.Queue("other").Lease(nil, 50, 50, 0, 1, t0)
	require.EqualValues(t, 350, s.Tracked())
	apply(t, s, 0)(q.PlanAck(nil, settle(10, 100, 1)))
	apply(t, s, 0)(q.PlanReject(nil, settle(5, 2, 1), "", t0))
	require.EqualValues(t, 250, s.Tracked(), "a dead letter is tracked until it is buried")
	r, _ := restart(t, s)
	require.EqualValues(t, 10, r.Tracked())
	s.TruncatePrefix(8)
	require.EqualValues(t, 2+190+42, s.Tracked())
	require.NoError(t, s.Apply(AppendDrop(nil, "other")))
	require.EqualValues(t, 192, s.Tracked())
	require.Equal(t, q.tracked(), s.Tracked())
}
