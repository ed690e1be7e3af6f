package partition

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// What needs the clock soon is noticed while the timer naps, whatever it is that needs it.
func TestALeaseWakesTheTimer(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a")
	_, err := p.OpenQueue("q", 0, QueuePolicy{MaxDeliveries: 3}, time.Now())
	require.NoError(t, err)
	n.Registry.Close()
	n.timer.rest = time.Hour
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { n.timer.run(stop) })
	defer func() {
		close(stop)
		wg.Wait()
		require.NoError(t, n.store.Close())
		n.Registry = nil
	}()

	eventually(t, n.timer.napping.Load)
	got, err := p.Lease(nil, "q", 1, 20*time.Millisecond, 1, time.Now())
	require.NoError(t, err)
	require.Len(t, got, 1)
	before := p.log.Positions().NextIndex
	eventually(t, func() bool { return p.log.Positions().NextIndex > before }) // the expiry is logged

	got, err = p.Lease(nil, "q", 1, 2*time.Hour, 1, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, got, 1)
	eventually(t, n.timer.napping.Load)
	// A lease that is made shorter.
	settle := Settlement{Op: wire.OpExtend, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 2}}, Delay: 20 * time.Millisecond}
	_, lost, err := p.Settle("q", settle, time.Now())
	require.NoError(t, err)
	require.Zero(t, lost)
	before = p.log.Positions().NextIndex
	eventually(t, func() bool { return p.log.Positions().NextIndex > before })

	got, err = p.Lease(nil, "q", 1, 2*time.Hour, 1, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, got, 1)
	eventually(t, n.timer.napping.Load)
	before = p.log.Positions().NextIndex
	p.ReturnLeases("q", 1, time.Now()) // its connection is gone, and it was delivered often enough
	eventually(t, func() bool { return p.log.Positions().NextIndex > before })
}

// Messages that nobody leases again keep the timer awake no longer than it takes to tell the workers.
func TestTheTimerNapsBesideWhatNobodyWantsAgain(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a")
	publish(t, p, "b")
	now := time.Now().Truncate(time.Millisecond) // in which the ends of delays are kept
	timer := newQueueTimer(func() time.Time { return now })
	timer.add(p)
	_, err := p.OpenQueue("q", 0, QueuePolicy{}, now)
	require.NoError(t, err)
	lease := func(want group.Lease) {
		got, err := p.Lease(nil, "q", 1, time.Minute, 1, now)
		require.NoError(t, err)
		require.Equal(t, []group.Lease{want}, got)
	}
	nack := func(offset uint64, attempt uint32, delay time.Duration) {
		s := Settlement{Op: wire.OpNack, Ranges: []group.Settle{{First: offset, Count: 1, Attempt: attempt}}, Delay: delay}
		_, lost, err := p.Settle("q", s, now)
		require.NoError(t, err)
		require.Zero(t, lost)
	}
	fired := 0
	w := NewWatcher(func() { fired++ })
	p.Watch(w)

	lease(group.Lease{First: 0, Count: 1, Attempt: 1})
	lease(group.Lease{First: 1, Count: 1, Attempt: 1})
	nack(0, 1, 100*time.Millisecond)
	nack(1, 1, 200*time.Millisecond)
	w.Arm()
	require.True(t, timer.tick(), "it has to tell that the first one is due")
	require.Zero(t, fired)
	now = now.Add(100 * time.Millisecond)
	require.False(t, timer.tick(), "the first one is due, and nobody takes it")
	require.Equal(t, 1, fired)
	lease(group.Lease{First: 0, Count: 1, Attempt: 2})
	require.True(t, timer.tick(), "the second one will be due")
	now = now.Add(100 * time.Millisecond)
	w.Arm()
	require.False(t, timer.tick())
	require.Equal(t, 2, fired)
}

// A wall clock that was ahead for a moment hides no message of a queue for as long as it was ahead.
func TestAQueueSurvivesAClockThatWasAhead(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		clock := &fakeTime{now: time.UnixMilli(1_763_800_000_000)}
		n := openNode(t, t.TempDir(), Options{Now: clock.Now})
		p := n.create("jobs", 1).Partition(0)
		publish(t, p, "a")
		_, err := p.OpenQueue("q", 0, QueuePolicy{MaxDeliveries: 9}, clock.Now())
		require.NoError(t, err)
		n.Registry.Close() // the test is the timer
		const years = 70 * 365 * 24 * time.Hour
		clock.add(years)
		n.timer.tick()
		got, err := p.Lease(nil, "q", 1, 0, 1, clock.Now())
		require.NoError(t, err)
		require.Len(t, got, 1)
		nack := Settlement{Op: wire.OpNack, Ranges: []group.Settle{{First: 0, Count: 1, Attempt: 1}}, Delay: time.Minute}
		_, _, err = p.Settle("q", nack, clock.Now())
		require.NoError(t, err)
		clock.add(-years)
		if restarted {
			require.NoError(t, n.store.Close())
			n.open()
			p = n.Topic("jobs").Partition(0)
		} else {
			n.timer.tick()
		}
		eventually(t, func() bool {
			got, err := p.Lease(nil, "q", 1, 0, 1, clock.Now())
			return err == nil && len(got) == 1
		})
		if !restarted {
			require.NoError(t, n.store.Close())
			n.Registry = nil
		}
	}
}

// On a full disk each try plans the same expiry again, while everybody waits for the partition.
func TestAnExpiryThatTheLogRefusesIsTriedAgainLater(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a")
	now := time.Now()
	_, err := p.OpenQueue("q", 0, QueuePolicy{}, now)
	require.NoError(t, err)
	n.Registry.Close()
	t.Cleanup(func() {
		require.NoError(t, n.store.Close())
		n.Registry = nil
	})
	got, err := p.Lease(nil, "q", 1, time.Second, 1, now)
	require.NoError(t, err)
	require.Len(t, got, 1)
	f := func(after time.Duration, wantNext time.Duration, wantDue bool) {
		t.Helper()
		next, due := p.expire(now.Add(after))
		require.Equal(t, wantDue, due)
		require.WithinDuration(t, now.Add(wantNext), next, 2*time.Millisecond)
	}
	f(0, time.Second, false)
	p.log.Refuse(log.ErrFull)
	const at = 2 * time.Second
	p.expire(now.Add(at))
	f(at+timerInterval, at+expireRetry, false)
	p.expire(now.Add(at + expireRetry))
	f(at+expireRetry+timerInterval, at+2*expireRetry, false)
}
