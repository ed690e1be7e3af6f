package partition

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// The reasons of dead letters that wait for their topic are in memory and in checkpoints. Without a bound a worker that
// rejects a million messages one by one takes 256 MB with them.
func TestTheReasonsOfDeadLettersAreBounded(t *testing.T) {
	n := openNode(t, t.TempDir(), Options{})
	p := n.create("jobs", 1).Partition(0)
	reason := strings.Repeat("r", group.MaxReason)
	const fit, all = queueReasons / group.MaxReason, queueReasons/group.MaxReason + 100
	for p.Next() < all {
		publish(t, p, make([]string, 100)...)
	}
	for _, name := range []string{"q", "other"} {
		_, err := p.OpenQueue(name, 0, QueuePolicy{DeadLetter: name + "-dead"}, time.Now())
		require.NoError(t, err)
		_, err = p.Lease(nil, name, all, time.Hour, 1, time.Now())
		require.NoError(t, err)
	}
	hold := func(on bool) { // the dead letters
		p.mu.Lock()
		defer p.mu.Unlock()
		p.burying = on
	}
	fail := func(queue string, op wire.Op, first uint64, count uint32) {
		t.Helper()
		s := Settlement{Op: op, Ranges: []group.Settle{{First: first, Count: count, Attempt: 1}}, Reason: reason}
		_, lost, err := p.Settle(queue, s, time.Now())
		require.NoError(t, err)
		require.Zero(t, lost)
	}
	hold(true)
	for i := range all {
		fail("q", wire.OpReject, uint64(i), 1)
	}
	require.EqualValues(t, queueReasons, n.reasons.Load())
	fail("other", wire.OpReject, 0, 50)
	require.EqualValues(t, queueReasons+len(reason), n.reasons.Load(), "what a queue has leaves room for others")
	n.reasons.Store(allReasons)
	fail("other", wire.OpReject, 50, 1)
	require.EqualValues(t, allReasons, n.reasons.Load(), "all queues together have a bound, too")
	require.NoError(t, flushError(p.log.Sync()))

	n.reopen()
	p = n.Topic("jobs").Partition(0)
	eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !p.burying
	})
	require.Zero(t, n.reasons.Load())
	with := func(topic string) (letters, reasons int) {
		list := records(t, n.Topic(topic).Partition(0), 0)
		for _, rec := range list {
			if got, _ := rec.Headers.Get(wire.HeaderDeadReason); len(got) > 0 {
				reasons++
			}
		}
		return len(list), reasons
	}
	letters, reasons := with("q-dead")
	require.Equal(t, []int{all, fit}, []int{letters, reasons}, "no dead letter is lost")
	letters, reasons = with("other-dead")
	require.Equal(t, []int{51, 50}, []int{letters, reasons})
}
