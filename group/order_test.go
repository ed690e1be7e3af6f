package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ordered returns a queue with order by key whose messages have these keys.
func ordered(t testing.TB, keys ...uint64) (*State, *Queue) {
	t.Helper()
	s, q := openQueue(t, Policy{OrderByKey: true})
	learn(t, q, keys...)
	return s, q
}

// learn tells the queue what it asks for.
func learn(t testing.TB, q *Queue, keys ...uint64) {
	t.Helper()
	from, ok := q.WantsKeys(uint64(len(keys)))
	require.True(t, ok)
	q.LearnKeys(from, keys[from:])
}

func TestMessagesOfOneKeyAreLeasedOneByOne(t *testing.T) {
	const a, b = 1, 2
	s, q := ordered(t, a, a, b, 0, a, 0)
	require.Equal(t, []Lease{{0, 1, 1}, {2, 2, 1}, {5, 1, 1}}, q.Lease(nil, 99, 6, 0, 1, t0))
	require.Equal(t, Stats{Next: 6, InFlight: 4, Parked: 2}, q.Stats())
	require.Empty(t, q.Lease(nil, 99, 6, 0, 1, t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(0, 1, 1)))
	require.Equal(t, []Lease{{1, 1, 1}}, q.Lease(nil, 99, 6, 0, 1, t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(2, 2, 1)))
	require.Empty(t, q.Lease(nil, 99, 6, 0, 1, t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(1, 1, 1)))
	require.Equal(t, []Lease{{4, 1, 1}}, q.Lease(nil, 99, 6, 0, 1, t0))
}

func TestAFailingKeyParksOnlyItself(t *testing.T) {
	const a, b = 1, 2
	s, q := ordered(t, a, b, a, b)
	require.Equal(t, []Lease{{0, 2, 1}}, q.Lease(nil, 99, 4, 0, 1, t0))
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 1), time.Minute, "", t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(1, 1, 1)))
	require.Equal(t, []Lease{{3, 1, 1}}, q.Lease(nil, 99, 4, 0, 1, t0))
	require.Equal(t, Stats{Next: 4, InFlight: 1, Redelivering: 1, Parked: 1, Acked: 1}, q.Stats())
	later := t0.Add(time.Minute)
	require.Equal(t, []Lease{{0, 1, 2}}, q.Lease(nil, 99, 4, 0, 1, later))
	apply(t, s, 0)(q.PlanReject(nil, settle(0, 1, 2), "", later))
	require.Equal(t, []Lease{{2, 1, 1}}, q.Lease(nil, 99, 4, 0, 1, later), "a dead letter holds up nothing")
}

func TestTheOrderOfAKeyHoldsOverExpiryAndALostConnection(t *testing.T) {
	s, q := ordered(t, 7, 7)
	require.Equal(t, []Lease{{0, 1, 1}}, q.Lease(nil, 99, 2, time.Second, 1, t0))
	q.ReleaseOwner(1, t0)
	require.Equal(t, []Lease{{0, 1, 2}}, q.Lease(nil, 99, 2, time.Second, 2, t0))
	later := t0.Add(time.Second)
	cmd, n := q.PlanExpire(nil, later)
	require.Equal(t, 1, n)
	require.NoError(t, s.Apply(cmd))
	require.Empty(t, q.Lease(nil, 99, 2, 0, 1, later), "the backoff of the first message")
	require.Equal(t, []Lease{{0, 1, 3}}, q.Lease(nil, 99, 2, 0, 1, later.Add(time.Minute)))
}

func TestAfterARestartNothingIsLeasedBeforeTheKeysAreLearned(t *testing.T) {
	const a, b = 1, 2
	keys := []uint64{a, b, a, b, a}
	s, q := ordered(t, keys...)
	require.Equal(t, []Lease{{0, 2, 1}}, q.Lease(nil, 99, 5, 0, 1, t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(1, 1, 1)))
	require.Equal(t, []Lease{{3, 1, 1}}, q.Lease(nil, 99, 5, 0, 1, t0))
	apply(t, s, 0)(q.PlanNack(nil, settle(3, 1, 1), 0, "", t0))

	_, q = restart(t, s)
	require.True(t, q.Ordered())
	require.Empty(t, q.Lease(nil, 99, 5, 0, 1, t0))
	from, ok := q.WantsKeys(5)
	require.True(t, ok)
	require.Zero(t, from)
	q.LearnKeys(0, keys[:1])
	require.Equal(t, []Lease{{0, 1, 1}}, q.Lease(nil, 99, 5, 0, 1, t0))
	from, ok = q.WantsKeys(5)
	require.True(t, ok)
	require.Equal(t, uint64(2), from, "offset 1 is done")
	q.LearnKeys(2, keys[2:])
	require.Equal(t, []Lease{{3, 1, 2}}, q.Lease(nil, 99, 5, 0, 1, t0))
	require.Equal(t, Stats{Next: 5, InFlight: 2, Parked: 2}, q.Stats())
}

func TestOrderByKeyCanComeAndGo(t *testing.T) {
	s, q := openQueue(t, Policy{})
	require.Equal(t, []Lease{{0, 2, 1}}, q.Lease(nil, 2, 4, 0, 1, t0))
	require.NoError(t, s.Apply(AppendOpen(nil, "work", 0, Policy{OrderByKey: true})))
	learn(t, q, 5, 5, 5, 5)
	require.Empty(t, q.Lease(nil, 99, 4, 0, 1, t0))
	q.ReleaseOwner(1, t0)
	require.Equal(t, []Lease{{0, 1, 2}}, q.Lease(nil, 99, 4, 0, 1, t0), "the second waits for the first again")
	require.Equal(t, Stats{Next: 4, InFlight: 1, Parked: 3}, q.Stats())
	require.NoError(t, s.Apply(AppendOpen(nil, "work", 0, Policy{})))
	require.Equal(t, []Lease{{1, 1, 2}, {2, 2, 1}}, q.Lease(nil, 99, 4, 0, 1, t0))
}

func TestAStuckKeyIsFollowedThisFarAndNoFurther(t *testing.T) {
	_, q := openQueue(t, Policy{OrderByKey: true})
	const limit = 2 * maxOrdered
	keys := make([]uint64, 1000)
	for i := range keys {
		keys[i] = 1
	}
	leased := 0
	for {
		from, ok := q.WantsKeys(limit)
		if !ok {
			break
		}
		q.LearnKeys(from, keys)
		leased += len(q.Lease(nil, 10, limit, 0, 1, t0))
	}
	require.Equal(t, 1, leased)
	require.Equal(t, Stats{Next: maxOrdered, InFlight: 1, Parked: maxOrdered - 1}, q.Stats())
}

func TestATruncationFreesTheNextOfTheKey(t *testing.T) {
	s, q := ordered(t, 1, 1, 1)
	q.Lease(nil, 99, 3, 0, 1, t0)
	require.Equal(t, uint64(1), s.TruncatePrefix(2))
	require.Equal(t, []Lease{{2, 1, 1}}, q.Lease(nil, 99, 3, 0, 1, t0))
	require.Zero(t, s.TruncatePrefix(3))
	require.Empty(t, q.order.chains)
	require.Empty(t, q.order.links.pages)
}

func TestKeysThatAreDoneTakeNoMemory(t *testing.T) {
	s, q := openQueue(t, Policy{OrderByKey: true})
	keys := make([]uint64, 1000)
	buf := make([]byte, 0, 64)
	round := func(first uint64) {
		for i := range keys {
			keys[i] = mix(first + uint64(i))
		}
		q.LearnKeys(first, keys)
		require.Len(t, q.Lease(nil, 1000, first+1000, 0, 1, t0), 1)
		cmd, lost := q.PlanAck(buf, settle(first, 1000, 1))
		require.Zero(t, lost)
		require.NoError(t, s.Apply(cmd))
	}
	round(0)
	before := heap()
	for first := uint64(1000); first < 1_000_000; first += 1000 {
		round(first)
	}
	require.LessOrEqual(t, heap(), before+64<<10)
	require.Empty(t, q.order.chains)
}

func TestDiscardLeavesWhatIsLeased(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 1, 10, 0, 1, t0)
	apply(t, s, 3)(q.PlanDiscard(nil, settle(0, 12, 0), 10))
	require.Equal(t, Stats{Next: 10, InFlight: 1, Acked: 9}, q.Stats())
	require.Equal(t, []Pending{{0, 1, 1, PhaseLeased, t0.Add(defaultLease)}}, q.Pending(nil, 0, 10, 9))
}

func BenchmarkOrderedLeaseAndAck(b *testing.B) {
	f := func(name string, policy Policy) {
		b.Run(name, func(b *testing.B) {
			s, q := openQueue(b, policy)
			keys, leases, settles := make([]uint64, 1000), make([]Lease, 0, 1000), make([]Settle, 0, 1000)
			buf := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			limit := uint64(0)
			for b.Loop() { // a thousand messages
				for i := range keys {
					keys[i] = mix((limit + uint64(i)) % 10_000)
				}
				limit += 1000
				q.LearnKeys(limit-1000, keys)
				leases, settles = q.Lease(leases[:0], 1000, limit, 0, 1, t0), settles[:0]
				for _, l := range leases {
					settles = append(settles, Settle(l))
				}
				cmd, _ := q.PlanAck(buf, settles)
				require.NoError(b, s.Apply(cmd))
			}
		})
	}
	f("plain", Policy{})
	f("by key", Policy{OrderByKey: true})
}

func TestADiscardPassesOverNoMoreThanMayBeInFlight(t *testing.T) {
	const limit = 5 * MaxInFlight
	s, q := openQueue(t, Policy{})
	cmd, left := q.PlanDiscard(nil, settle(MaxInFlight+1, 1, 0), limit)
	require.Nil(t, cmd)
	require.Equal(t, 1, left)
	ranges := append(settle(MaxInFlight-1, 10, 0), settle(MaxInFlight+11, 1, 0)...)
	apply(t, s, 1)(q.PlanDiscard(nil, ranges, limit))
	require.EqualValues(t, MaxInFlight-1, q.tracked())

	next := uint64(q.Stats().Next)
	apply(t, s, 0)(q.PlanDiscard(nil, append(settle(uint64(next), 10, 0), settle(next+10, 2*MaxInFlight, 0)...), limit))
	require.EqualValues(t, MaxInFlight-1, q.tracked(), "what passes over nothing has no bound")
}
