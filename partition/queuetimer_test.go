package partition

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What needs the clock soon is noticed while the timer naps, whatever it is that needs it.
func TestALeaseWakesTheTimer(t *testing.T) {
	n := openNode(t, "", Options{})
	p := n.create("jobs", 1).Partition(0)
	publish(t, p, "a")
	_, err := p.OpenQueue("q", 0, QueuePolicy{}, time.Now())
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
}
