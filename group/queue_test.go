package group

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeaseGivesFreshMessagesBelowTheLimitOnce(t *testing.T) {
	_, q := openQueue(t, Policy{})
	require.Equal(t, []Lease{{0, 3, 1}}, q.Lease(nil, 3, 5, 0, 1, t0))
	require.Equal(t, []Lease{{3, 2, 1}}, q.Lease(nil, 10, 5, 0, 2, t0))
	require.Empty(t, q.Lease(nil, 10, 5, 0, 2, t0))
	require.Empty(t, q.Lease(nil, 0, 50, 0, 2, t0))
	require.Empty(t, q.Lease(nil, -1, 50, 0, 2, t0))
	require.Equal(t, Stats{Next: 5, InFlight: 5}, q.Stats())
	require.Equal(t, uint64(9), q.Backlog(9))
}

func TestLeaseKeepsWhatIsInDst(t *testing.T) {
	_, q := openQueue(t, Policy{})
	before := Lease{First: 0, Count: 0, Attempt: 1} // the new lease would continue this one
	require.Equal(t, []Lease{before, {0, 2, 1}}, q.Lease([]Lease{before}, 2, 9, 0, 1, t0))
}

func TestLeaseTakesDueRedeliveriesFirst(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 10, 10, 0, 1, t0)
	apply(t, s, 0)(q.PlanNack(nil, []Settle{{2, 2, 1}, {7, 1, 1}}, time.Second, "", t0))
	apply(t, s, 0)(q.PlanAck(nil, settle(0, 2, 1)))
	require.Equal(t, []Lease{{10, 1, 1}}, q.Lease(nil, 1, 20, 0, 1, t0.Add(999*time.Millisecond)))
	due := t0.Add(time.Second)
	require.Equal(t, []Lease{{2, 1, 2}}, q.Lease(nil, 1, 20, 0, 1, due))
	require.Equal(t, []Lease{{3, 1, 2}, {7, 1, 2}, {11, 2, 1}}, q.Lease(nil, 4, 20, 0, 1, due))
}

func TestLeaseJoinsNeighboursOfTheSameAttempt(t *testing.T) {
	s, q := openQueue(t, Policy{})
	for owner := range uint64(4) {
		q.Lease(nil, 1, 4, 0, owner, t0)
	}
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 1), 0, "", t0))
	apply(t, s, 0)(q.PlanNack(nil, settle(1, 3, 1), 5*time.Millisecond, "", t0))
	require.Equal(t, []Lease{{0, 4, 2}, {4, 6, 1}}, q.Lease(nil, 10, 10, 0, 9, t0.Add(time.Second)))
}

func TestRedeliveriesStayBelowTheLimit(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 10, 10, 0, 1, t0)
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 10, 1), 0, "", t0))
	require.Equal(t, []Lease{{0, 4, 2}}, q.Lease(nil, 10, 4, 0, 1, t0))
	require.Equal(t, []Lease{{4, 6, 2}}, q.Lease(nil, 10, 10, 0, 1, t0))
}

func TestAckLetsTheFloorMoveUpWithoutCost(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 6, 6, 0, 1, t0)
	apply(t, s, 0)(q.PlanAck(nil, []Settle{{4, 2, 1}, {1, 1, 1}}))
	require.Equal(t, Stats{Floor: 0, Next: 6, InFlight: 3, Acked: 3}, q.Stats())
	apply(t, s, 0)(q.PlanAck(nil, settle(0, 1, 1)))
	require.Equal(t, uint64(2), q.Stats().Floor)
	apply(t, s, 0)(q.PlanAck(nil, settle(2, 2, 1)))
	require.Equal(t, Stats{Floor: 6, Next: 6, Acked: 6}, q.Stats())
	require.Zero(t, q.Backlog(6))
	require.Zero(t, q.runs.root.size())
}

func TestASettleIsRefusedWithoutItsLease(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 4, 4, 0, 1, t0)
	f := func(want int, s ...Settle) {
		t.Helper()
		ack, lost := q.PlanAck(nil, s)
		require.Nil(t, ack)
		require.Equal(t, want, lost)
		nack, lost := q.PlanNack(nil, s, 0, "", t0)
		require.Nil(t, nack)
		require.Equal(t, want, lost)
		reject, lost := q.PlanReject(nil, s, "", t0)
		require.Nil(t, reject)
		require.Equal(t, want, lost)
		require.Equal(t, want, q.Extend(s, 0, t0))
	}
	f(0)
	f(0, Settle{0, 0, 1})
	f(4, Settle{0, 4, 0})
	f(4, Settle{0, 4, 2})
	f(3, Settle{4, 3, 1})
	f(1, Settle{math.MaxUint64, 1, 1})
	f(math.MaxUint32, Settle{math.MaxUint64 - 5, math.MaxUint32, 1})
	f(7, Settle{100, 5, 1}, Settle{0, 2, 9})

	apply(t, s, 3)(q.PlanAck(nil, settle(3, 4, 1)))
	f(1, Settle{3, 1, 1})
}

func TestPlansChangeNothingBeforeApply(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 4, 4, 0, 1, t0)
	first, _ := q.PlanAck(nil, settle(0, 2, 1))
	second, lost := q.PlanNack(nil, settle(0, 3, 1), 0, "late", t0)
	require.Zero(t, lost)
	require.Equal(t, Stats{Next: 4, InFlight: 4}, q.Stats())
	require.NoError(t, s.Apply(first))
	require.NoError(t, s.Apply(second))
	require.NoError(t, s.Apply(first))
	require.Equal(t, Stats{Floor: 2, Next: 4, InFlight: 1, Redelivering: 1, Acked: 2}, q.Stats())
}

func TestNackWithoutDelayBacksOffAndEndsInADeadLetter(t *testing.T) {
	p := Policy{BackoffMin: 100 * time.Millisecond, BackoffMax: 250 * time.Millisecond, MaxDeliveries: 4}
	s, q := openQueue(t, p)
	now := t0
	for attempt, base := range []time.Duration{100, 200, 250} {
		require.Equal(t, []Lease{{0, 1, uint32(attempt) + 1}}, q.Lease(nil, 1, 1, 0, 1, now))
		apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, uint32(attempt)+1), -1, "no", now))
		due, ok := q.Deadline()
		require.True(t, ok)
		wait, base := due.Sub(now), base*time.Millisecond
		require.GreaterOrEqual(t, wait, base*8/10)
		require.LessOrEqual(t, wait, base*12/10)
		require.Empty(t, q.Lease(nil, 1, 1, 0, 1, due.Add(-time.Millisecond)))
		now = due
	}
	q.Lease(nil, 1, 1, 0, 1, now)
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 4), -1, "no more", now))
	require.Equal(t, []Dead{{0, 4, "no more", t0, now}}, q.Dead())
	require.Equal(t, Stats{Next: 1, Dead: 1}, q.Stats())
	require.Empty(t, q.Lease(nil, 1, 1, 0, 1, now.Add(time.Hour)))
	_, ok := q.Deadline()
	require.False(t, ok)
}

func TestNackWithADelayOfZeroIsBoundedByMaxDeliveries(t *testing.T) {
	s, q := openQueue(t, Policy{})
	deliveries := 0
	for l := q.Lease(nil, 1, 1, 0, 1, t0); len(l) > 0; l = q.Lease(nil, 1, 1, 0, 1, t0) {
		deliveries++
		apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, l[0].Attempt), 0, "", t0))
	}
	require.Equal(t, defaultMaxDeliveries, deliveries)
	require.Equal(t, 1, q.Stats().Dead)
}

func TestDelaysAndLeasesAreBounded(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 1, 1, 1000*time.Hour, 1, t0)
	expiry, _ := q.Expiry()
	require.True(t, expiry.Equal(t0.Add(maxLease)))
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 1), math.MaxInt64, "", t0))
	due, _ := q.Deadline()
	require.True(t, due.Equal(t0.Add(maxDelay)))
}

// A moment has more digits than the milliseconds in which the end of a delay is kept.
func TestADelayIsNotShortened(t *testing.T) {
	s, q := openQueue(t, Policy{})
	now := t0.Add(900 * time.Microsecond)
	q.Lease(nil, 1, 1, 0, 1, now)
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 1), 5*time.Millisecond, "", now))
	require.Empty(t, q.Lease(nil, 1, 1, 0, 1, now.Add(5*time.Millisecond-time.Microsecond)))
	require.NotEmpty(t, q.Lease(nil, 1, 1, 0, 1, now.Add(6*time.Millisecond)))
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 2), 0, "", now))
	require.NotEmpty(t, q.Lease(nil, 1, 1, 0, 1, now), "without a delay it is deliverable at once")
}

func TestRejectIsADeadLetterAtOnce(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 3, 3, 0, 1, t0)
	apply(t, s, 0)(q.PlanReject(nil, settle(0, 2, 1), "cannot parse", t0))
	at := t0
	require.Equal(t, []Dead{{0, 1, "cannot parse", at, at}, {1, 1, "cannot parse", at, at}}, q.Dead())

	// They survive a restart, and so does their burial.
	s, q = restart(t, s)
	require.Len(t, q.Dead(), 2)
	require.Nil(t, q.PlanBuried(nil, []uint64{2, 7}))
	require.NoError(t, s.Apply(q.PlanBuried(nil, []uint64{1, 2, 0})))
	require.Empty(t, q.Dead())
	require.Empty(t, q.causes)
	require.Equal(t, uint64(2), q.Stats().Floor)
}

func TestReasonsAreCutAtACharacter(t *testing.T) {
	f := func(want, reason string) {
		t.Helper()
		require.Equal(t, want, shorten(reason))
	}
	long := make([]byte, MaxReason-1)
	for i := range long {
		long[i] = 'x'
	}
	f("", "")
	f(string(long)+"y", string(long)+"y")
	f(string(long)+"y", string(long)+"yz")
	f(string(long), string(long)+"é")
	f(string(long), string(long)+"\U0001F600z")
	require.LessOrEqual(t, len(shorten(string(make([]byte, 999)))), MaxReason)
}

func TestExpiredLeasesAreRedeliveredWithBackoff(t *testing.T) {
	s, q := openQueue(t, Policy{MaxDeliveries: 2})
	q.Lease(nil, 600, 600, 0, 1, t0)
	q.Lease(nil, 1, 601, time.Hour, 1, t0)
	cmd, n := q.PlanExpire(nil, t0.Add(defaultLease-time.Millisecond))
	require.Nil(t, cmd)
	require.Zero(t, n)
	now := t0.Add(defaultLease)
	apply(t, s, 600)(q.PlanExpire(nil, now))
	require.Equal(t, Stats{Next: 601, InFlight: 1, Redelivering: 600}, q.Stats())
	due, _ := q.Deadline()
	require.GreaterOrEqual(t, due.Sub(now), defaultBackoffMin*8/10)

	now = now.Add(2 * defaultBackoffMin)
	require.Equal(t, []Lease{{0, 600, 2}}, q.Lease(nil, 600, 600, 0, 1, now))
	died := now.Add(defaultLease)
	apply(t, s, 600)(q.PlanExpire(nil, died))
	require.Len(t, q.Dead(), 600)
	require.Equal(t, Dead{599, 2, "lease expired", t0.Add(defaultLease), died}, q.Dead()[599])
}

func TestAnExpiredLeaseThatNobodyTookBackCanStillBeSettled(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 2, 2, 0, 1, t0)
	late := t0.Add(time.Hour)
	require.Zero(t, q.Extend(settle(0, 1, 1), 0, late))
	apply(t, s, 0)(q.PlanAck(nil, settle(1, 1, 1)))
	cmd, _ := q.PlanExpire(nil, late)
	require.Nil(t, cmd)
}

func TestExtendMovesTheDeadline(t *testing.T) {
	_, q := openQueue(t, Policy{})
	q.Lease(nil, 3, 3, 0, 1, t0)
	require.Zero(t, q.Extend(settle(1, 1, 1), time.Hour, t0))
	expiry, _ := q.Expiry()
	require.True(t, expiry.Equal(t0.Add(defaultLease)))
	_, n := q.PlanExpire(nil, t0.Add(time.Minute))
	require.Equal(t, 2, n)
}

func TestReleaseOwnerGivesBackOnlyTheOwnersLeases(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 2, 10, 0, 1, t0)
	q.Lease(nil, 2, 10, 0, 2, t0)
	q.Lease(nil, 2, 10, 0, 1, t0)
	q.ReleaseOwner(1, t0)
	q.ReleaseOwner(77, t0)
	require.Equal(t, Stats{Next: 6, InFlight: 2, Redelivering: 4}, q.Stats())
	_, lost := q.PlanAck(nil, settle(0, 2, 1))
	require.Equal(t, 2, lost)
	require.Equal(t, []Lease{{0, 2, 2}, {4, 2, 2}}, q.Lease(nil, 4, 10, 0, 3, t0))
	_, q = restart(t, s)
	require.Equal(t, []Lease{{0, 6, 1}}, q.Lease(nil, 10, 6, 0, 3, t0))
}

func TestAMessageThatKillsItsWorkersIsStopped(t *testing.T) {
	s, q := openQueue(t, Policy{MaxDeliveries: 3})
	for range 3 {
		require.Len(t, q.Lease(nil, 1, 1, 0, 1, t0), 1)
		q.ReleaseOwner(1, t0)
	}
	require.Empty(t, q.Lease(nil, 1, 1, 0, 1, t0))
	expiry, ok := q.Expiry()
	require.True(t, ok)
	require.True(t, expiry.Equal(t0))
	apply(t, s, 1)(q.PlanExpire(nil, t0))
	require.Equal(t, []Dead{{0, 3, "lease expired", t0, t0}}, q.Dead())
}

func TestALeaseUnderALaterAttemptOutlivesALateNack(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 1, 1, 0, 1, t0)
	nack, _ := q.PlanNack(nil, settle(0, 1, 1), 0, "", t0)
	q.ReleaseOwner(1, t0)
	require.Equal(t, []Lease{{0, 1, 2}}, q.Lease(nil, 1, 1, 0, 2, t0))
	require.NoError(t, s.Apply(nack))
	require.Equal(t, 1, q.Stats().InFlight)
	apply(t, s, 0)(q.PlanAck(nil, settle(0, 1, 2)))
}

func TestAfterARestartWhatWasNotSettledIsDeliveredAgain(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 10, 10, 0, 1, t0)
	apply(t, s, 0)(q.PlanAck(nil, []Settle{{2, 1, 1}, {5, 2, 1}}))
	apply(t, s, 0)(q.PlanNack(nil, settle(3, 1, 1), time.Minute, "", t0))
	_, q = restart(t, s)
	require.Equal(t, Stats{Next: 7, Redelivering: 4}, q.Stats())
	require.Equal(t, []Lease{{0, 2, 1}, {4, 1, 1}, {7, 3, 1}}, q.Lease(nil, 99, 10, 0, 1, t0))
	require.Equal(t, []Lease{{3, 1, 2}}, q.Lease(nil, 99, 10, 0, 1, t0.Add(time.Minute)))
}

func TestOpenChangesThePolicyAndKeepsThePlace(t *testing.T) {
	s, q := openQueue(t, Policy{DeadLetter: "dead"})
	require.Equal(t, Policy{30 * time.Second, time.Second, 5 * time.Minute, 5, "dead", false}, q.Policy())
	q.Lease(nil, 5, 5, 0, 1, t0)
	require.NoError(t, s.Apply(AppendOpen(nil, "work", 99, Policy{MaxDeliveries: 1})))
	require.Same(t, q, s.Queue("work"))
	require.Equal(t, Stats{Next: 5, InFlight: 5}, q.Stats())
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 5, 1), -1, "", t0))
	require.Equal(t, 5, q.Stats().Dead)
}

func TestPolicyIsCompletedAndBounded(t *testing.T) {
	f := func(want, p Policy) {
		t.Helper()
		require.Equal(t, want, p.normal())
		require.Equal(t, want, want.normal())
	}
	normal := Policy{defaultLease, defaultBackoffMin, defaultBackoffMax, defaultMaxDeliveries, "", false}
	f(normal, Policy{})
	f(normal, Policy{-1, -1, -1, -1, "", false})
	f(Policy{time.Millisecond, time.Millisecond, time.Millisecond, 1, "", true}, Policy{1, 1, 1, 1, "", true})
	f(Policy{maxLease, maxDelay, maxDelay, maxMaxDeliveries, "", false},
		Policy{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt, "", false})
	f(Policy{defaultLease, time.Hour, time.Hour, defaultMaxDeliveries, "", false}, Policy{BackoffMin: time.Hour})
}

func TestJitterIsTheSameForNeighboursAndDiffersBetweenBlocks(t *testing.T) {
	p := Policy{}.normal()
	seen := make(map[uint64]bool)
	for block := range uint64(100) {
		d := p.backoff(block*jitterBlock, 1)
		require.Equal(t, d, p.backoff(block*jitterBlock+jitterBlock-1, 1))
		require.GreaterOrEqual(t, d, uint64(800))
		require.LessOrEqual(t, d, uint64(1200))
		seen[d] = true
	}
	require.Greater(t, len(seen), 50)
	require.LessOrEqual(t, p.backoff(1, math.MaxUint16), uint64(360_000))
	require.GreaterOrEqual(t, p.backoff(1, math.MaxUint16), uint64(240_000))
	last := p.backoff(math.MaxUint64, 1)
	require.GreaterOrEqual(t, last, uint64(800))
}

func TestOffsetsAtTheEndOfTheRangeDoNotOverflow(t *testing.T) {
	s := New()
	const last = math.MaxUint64
	require.NoError(t, s.Apply(AppendOpen(nil, "work", last-300, Policy{})))
	q := s.Queue("work")
	require.Equal(t, []Lease{{last - 300, 300, 1}}, q.Lease(nil, 999, last, 0, 1, t0))
	apply(t, s, 1)(q.PlanNack(nil, settle(last-300, 301, 1), -1, "", t0))
	require.Equal(t, 300, q.Stats().Redelivering)
}

func TestDroppingAQueueForgetsItAndItsLateCommands(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 5, 5, 0, 1, t0)
	ack, _ := q.PlanAck(nil, settle(0, 5, 1))
	require.NoError(t, s.Apply(AppendDrop(nil, "work")))
	require.Nil(t, s.Queue("work"))
	require.NoError(t, s.Apply(ack))
	require.Equal(t, New().AppendSnapshot(nil), s.AppendSnapshot(nil))
}

// What nobody worked on is as it was before its lease, which is no attempt.
func TestReturnedMessagesAreAsTheyWere(t *testing.T) {
	s, q := openQueue(t, Policy{MaxDeliveries: 2})
	for range 10 {
		require.Equal(t, []Lease{{0, 4, 1}}, q.Lease(nil, 4, 4, 0, 1, t0))
		require.Equal(t, 1, q.Return(settle(1, 4, 1)), "one of them is not leased")
		require.Equal(t, 3, q.Return(settle(1, 3, 1)), "nor is any now")
		require.Equal(t, 1, q.Return(settle(0, 1, 2)), "the lease is under another attempt")
		require.Zero(t, q.Return(settle(0, 1, 1)))
		require.Equal(t, Stats{Next: 4, Redelivering: 4}, q.Stats())
	}
	q.Lease(nil, 2, 4, 0, 1, t0)
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 2, 1), 0, "failed", t0))
	s, q = restart(t, s) // which knows of failures alone
	for range 10 {
		require.Equal(t, []Lease{{0, 2, 2}}, q.Lease(nil, 2, 4, 0, 1, t0))
		require.Zero(t, q.Return(settle(0, 2, 2)))
	}
	require.Equal(t, []Lease{{0, 2, 2}}, q.Lease(nil, 2, 4, 0, 1, t0))
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 2, 2), 0, "failed", t0))
	require.Equal(t, 2, q.Stats().Dead)
}

// A clock that was ahead for a moment must not keep messages for as long as it was ahead.
func TestRewindEndsWhatAClockAheadBegan(t *testing.T) {
	s, q := openQueue(t, Policy{Lease: time.Minute, MaxDeliveries: 9})
	ahead := t0.AddDate(70, 0, 0)
	leased := q.Lease(nil, 2, 10, 0, 1, ahead)
	require.Len(t, leased, 1)
	apply(t, s, 0)(q.PlanNack(nil, settle(0, 1, 1), time.Hour, "", ahead))
	require.NotEmpty(t, q.Lease(nil, 1, 3, maxLease, 1, t0)) // offset 2, with the right clock
	apply(t, s, 0)(q.PlanNack(nil, settle(2, 1, 1), maxDelay, "", t0))
	require.NotEmpty(t, q.Lease(nil, 1, 4, maxLease, 1, t0)) // offset 3
	require.Empty(t, q.Lease(nil, 9, 4, 0, 1, t0))

	q.Rewind(t0)
	require.Equal(t, []Lease{{0, 1, 2}}, q.Lease(nil, 9, 4, 0, 1, t0))
	cmd, n := q.PlanExpire(nil, t0.Add(time.Minute-time.Millisecond))
	require.Zero(t, n)
	require.Nil(t, cmd)
	_, n = q.PlanExpire(nil, t0.Add(time.Minute))
	require.Equal(t, 2, n, "0, which was leased again, and 1")
}

// A dead letter waits for its burial, not for a time.
func TestRewindLeavesDeadLettersAlone(t *testing.T) {
	s, q := openQueue(t, Policy{})
	q.Lease(nil, 1, 1, 0, 1, t0)
	apply(t, s, 0)(q.PlanReject(nil, settle(0, 1, 1), "no", t0))
	q.Rewind(t0)
	_, ok := q.Deadline()
	require.False(t, ok)
	require.Empty(t, q.Lease(nil, 1, 1, 0, 1, t0))
	require.Equal(t, 1, q.Stats().Dead)
}

// A restart may find more messages open than a queue may have in flight: those behind the last one that was settled.
func TestAQueueThatTracksTooManyLeasesNothingFresh(t *testing.T) {
	s, q := openQueue(t, Policy{})
	require.NoError(t, s.Apply(appendAck(t, MaxInFlight+10)))
	require.Len(t, q.Lease(nil, MaxInFlight, MaxInFlight+100, 0, 1, t0), 1)
	require.Equal(t, []Lease{{MaxInFlight, 10, 1}}, q.Lease(nil, 100, MaxInFlight+100, 0, 1, t0), "no fresh ones")
	require.Equal(t, MaxInFlight+10, q.Stats().InFlight)
}

// appendAck returns the command that acknowledges one message.
func appendAck(t *testing.T, offset uint64) []byte {
	t.Helper()
	_, q := openQueue(t, Policy{})
	q.runs.append(run{first: offset, count: 1, attempts: 1, deadline: ms(t0) + 1000})
	q.next = offset + 1
	cmd, lost := q.PlanAck(nil, settle(offset, 1, 1))
	require.Zero(t, lost)
	return cmd
}
