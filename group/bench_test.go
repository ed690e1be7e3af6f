package group

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeaseAndPlanDoNotAllocate(t *testing.T) {
	s, q := openQueue(t, Policy{})
	leases := make([]Lease, 0, 64)
	buf := make([]byte, 0, 4096)
	settles := make([]Settle, 0, 64)
	limit, lost := uint64(0), 0
	f := func(name string, turn func()) {
		t.Helper()
		for range 100 {
			turn()
		}
		require.Zero(t, testing.AllocsPerRun(500, turn), name)
	}
	ack := func() {
		settles = settles[:0]
		for _, l := range leases {
			settles = append(settles, Settle(l))
		}
		cmd, n := q.PlanAck(buf[:0], settles)
		lost += n
		if s.Apply(cmd) != nil {
			lost++
		}
	}
	f("one range", func() {
		limit += 50
		leases = q.Lease(leases[:0], 50, limit, 0, 1, t0)
		ack()
	})
	f("one by one and out of order", func() {
		limit += 50
		for i := range uint64(50) {
			leases = q.Lease(leases[:0], 1, limit, 0, i, t0)
		}
		for i := range uint64(50) {
			leases = append(leases[:0], Lease{limit - 50 + i*7%50, 1, 1})
			ack()
		}
	})
	f("redelivery", func() {
		limit += 50
		leases = q.Lease(leases[:0], 50, limit, 0, 1, t0)
		settles = append(settles[:0], Settle{limit - 40, 10, 1})
		cmd, n := q.PlanNack(buf[:0], settles, 0, "", t0)
		lost += n
		if s.Apply(cmd) != nil {
			lost++
		}
		leases = append(leases[:0], Lease{limit - 50, 10, 1}, Lease{limit - 30, 30, 1})
		ack()
		leases = q.Lease(leases[:0], 50, limit, 0, 1, t0)
		ack()
	})
	f("expiry with nothing to do and release", func() {
		q.PlanExpire(buf[:0], t0)
		q.ReleaseOwner(1, t0)
		q.Deadline()
		q.Stats()
	})
	require.Zero(t, lost)
	require.Equal(t, limit, q.Stats().Floor)
}

// heap returns the bytes that are alive.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryOfAMillionInFlightAndOfTenMillionAcked(t *testing.T) {
	empty := heap()
	s, q := openQueue(t, Policy{})
	f := func(what string, limit uint64) {
		t.Helper()
		used := heap()
		require.LessOrEqual(t, used, empty+limit, what)
		runtime.KeepAlive(s)
	}
	var one [1]Lease
	for i := range uint64(MaxInFlight) {
		q.Lease(one[:0], 1, MaxInFlight, 0, i, t0.Add(time.Duration(i)*time.Microsecond))
	}
	require.Equal(t, MaxInFlight, q.Stats().InFlight)
	f("every message leased on its own", 64<<20)

	buf := make([]byte, 0, 64)
	order := rand.New(rand.NewPCG(1, 1)).Perm(MaxInFlight)
	refused := 0
	ack := func(first uint64, count uint32) {
		cmd, lost := q.PlanAck(buf, settle(first, count, 1))
		if lost > 0 || s.Apply(cmd) != nil {
			refused++
		}
	}
	for _, offset := range order[:MaxInFlight*9/10] {
		ack(uint64(offset), 1)
	}
	f("a tenth of them left, and their order", 8*MaxInFlight+24<<20)
	for _, offset := range order[MaxInFlight*9/10:] {
		ack(uint64(offset), 1)
	}
	order = nil
	f("all acknowledged", 64<<10)

	// Ten million acknowledged behind one that is stuck.
	require.Len(t, q.Lease(nil, 1, MaxInFlight+1, 0, 1, t0), 1)
	for next := uint64(MaxInFlight + 1); next < 11*MaxInFlight; next += 1000 {
		q.Lease(one[:0], 1000, next+1000, 0, 1, t0)
		ack(next, 1000)
	}
	require.Zero(t, refused)
	require.Equal(t, uint64(MaxInFlight), q.Stats().Floor)
	require.Equal(t, uint64(11*MaxInFlight), q.Stats().Acked)
	f("ten million acknowledged", 64<<10)
}

// benchmarkQueue leases a million messages in pieces, and acknowledges every piece.
func benchmarkQueue(b *testing.B, piece int, random bool) {
	const n = 1_000_000
	order := make([]int, n/piece)
	for i := range order {
		order[i] = i
	}
	if random {
		order = rand.New(rand.NewPCG(1, 1)).Perm(n / piece)
	}
	var one [1]Lease
	var settles [1]Settle
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		s, q := openQueue(b, Policy{})
		for i := range order {
			q.Lease(one[:0], piece, n, 0, uint64(i%100), t0.Add(time.Duration(i)*time.Microsecond))
		}
		for _, i := range order {
			settles[0] = Settle{uint64(i * piece), uint32(piece), 1}
			cmd, _ := q.PlanAck(buf, settles[:])
			if s.Apply(cmd) != nil {
				b.Fatal("command refused")
			}
		}
		if q.Stats().Floor != n {
			b.Fatal("not all acknowledged")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}

func BenchmarkLeaseThenAckAMillionInRanges(b *testing.B)       { benchmarkQueue(b, 100, false) }
func BenchmarkLeaseThenAckAMillionInRandomRanges(b *testing.B) { benchmarkQueue(b, 100, true) }
func BenchmarkLeaseThenAckAMillionOneByOne(b *testing.B)       { benchmarkQueue(b, 1, false) }
func BenchmarkLeaseThenAckAMillionInRandomOrder(b *testing.B)  { benchmarkQueue(b, 1, true) }

// BenchmarkSteadyQueue is a worker with a window of 100 messages: lease one, acknowledge one.
func BenchmarkSteadyQueue(b *testing.B) {
	s, q := openQueue(b, Policy{})
	var one [1]Lease
	var settles [1]Settle
	buf := make([]byte, 0, 64)
	q.Lease(one[:0], 100, 100, 0, 1, t0)
	next := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		q.Lease(one[:0], 1, next+101, 0, 1, t0)
		settles[0] = Settle{next, 1, 1}
		cmd, _ := q.PlanAck(buf, settles[:])
		if s.Apply(cmd) != nil {
			b.Fatal("command refused")
		}
		next++
	}
}

// BenchmarkWorstQueue takes one message out of a million ranges and nacks it.
func BenchmarkWorstQueue(b *testing.B) {
	const n = MaxInFlight
	s, q := openQueue(b, Policy{MaxDeliveries: maxMaxDeliveries})
	fragment(q, n, t0)
	var settles [1]Settle
	buf := make([]byte, 0, 64)
	rng := rand.New(rand.NewPCG(1, 1))
	now := t0
	var leases [1]Lease
	l := Lease{uint64(rng.IntN(n)), 1, 1}
	b.ReportAllocs()
	for b.Loop() {
		settles[0] = Settle(l)
		cmd, lost := q.PlanNack(buf, settles[:], 0, "", now)
		if lost > 0 || s.Apply(cmd) != nil {
			b.Fatal("command refused")
		}
		l = q.Lease(leases[:0], 1, n, time.Hour, 1, now)[0]
		if l.Attempt > 900 {
			b.Fatal("too many attempts")
		}
		if rng.IntN(100) > 0 {
			l = Lease{uint64(rng.IntN(n)), 1, 0}
			r, _ := q.runs.find(l.First, probe{})
			l.Attempt = uint32(r.attempts)
		}
	}
}
