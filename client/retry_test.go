package client

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// busyTwice refuses the first two frames of an op.
func busyTwice(op wire.Op) func(c *fakeConn, f wire.Frame) bool {
	n := 0
	return func(c *fakeConn, f wire.Frame) bool {
		if f.Op != op {
			return false
		}
		if n++; n > 2 {
			return false
		}
		c.fail(f, wire.Errorf(wire.CodeBusy, "later"))
		return true
	}
}

func TestSettlementsAreTriedAgainWhenTheBrokerIsBusy(t *testing.T) {
	for _, op := range []wire.Op{wire.OpAck, wire.OpNack, wire.OpLease, wire.OpOpenQueue} {
		b := startBroker(t)
		topic := b.create("t", 1)
		b.fill("t", 0, 10, texts(20)...)
		b.setHook(busyTwice(op))
		c := dial(t, b, Options{})
		q, err := c.OpenQueue(within(t), Queue("q", "t"))
		require.NoError(t, err)
		ms, err := q.Fetch(within(t), 20)
		require.NoError(t, err)
		require.Len(t, ms, 20)
		for i, m := range ms {
			if i%5 == 0 {
				require.NoError(t, m.Nack(within(t), 0))
				continue
			}
			require.NoError(t, m.Ack(within(t)))
		}
		require.NoError(t, q.Flush(within(t)))
		b.locked(func() {
			require.Len(t, topic.queues["q"].acked, 16)
		})
		again, err := q.Fetch(within(t), 20) // with holes between the messages
		require.NoError(t, err)
		require.Len(t, again, 4)
		for i, m := range again {
			require.Equal(t, text(5*i), string(m.Value))
			require.Equal(t, 2, m.Attempt)
		}
		b.setHook(busyTwice(wire.OpNack))
		q.giveBack(again)
		require.NoError(t, q.Flush(within(t)))
		b.locked(func() {
			require.Empty(t, topic.queues["q"].leased)
		})
		require.NoError(t, q.Close(within(t)))
	}
}

// A worker that ends leaves no lease request behind, which could take what the worker has given back.
func TestAWorkerThatEndsLeavesNoLeaseRequest(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, "x")
	c := dial(t, b, Options{})
	waiting := make(chan wire.Frame, 2*maxLeases)
	served, asked := false, make(chan struct{}, 2*maxLeases)
	b.setHook(func(fc *fakeConn, f wire.Frame) bool {
		var m wire.Lease
		switch {
		case f.Op != wire.OpLease || m.Parse(f.Body) != nil:
			return false
		case !served:
			served = true
			return false
		case m.MaxMessages > 0:
			waiting <- f
			asked <- struct{}{}
			return true
		}
		for len(waiting) > 0 {
			fc.reply(<-waiting, 0, (&wire.Leased{}).Append(nil))
		}
		fc.reply(f, 0, (&wire.Leased{}).Append(nil))
		return true
	})
	require.NoError(t, c.Run(within(t), Queue("q", "t"), func(context.Context, *Message) error {
		<-asked
		return ErrStop
	}))
	require.Empty(t, waiting)
}

func TestAcknowledgementsLeaveBeforeADrainedConnectionCloses(t *testing.T) {
	b := startBroker(t)
	topic := b.create("t", 1)
	b.fill("t", 0, 10, texts(10)...)
	c := dial(t, b, Options{})
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	ms, err := q.Fetch(within(t), 10)
	require.NoError(t, err)
	q.mu.Lock()
	q.acks.scheduled = true // no timer: only the notice sends them
	q.mu.Unlock()
	for _, m := range ms {
		require.NoError(t, m.Ack(within(t)))
	}
	b.mu.Lock()
	for fc := range b.conns {
		n := wire.Notice{Code: wire.CodeShutdown}
		fc.send(encodeFrame(wire.OpNotice, 0, 0, n.Append(nil)))
	}
	b.mu.Unlock()
	require.NoError(t, q.Flush(within(t)))
	b.locked(func() {
		require.Len(t, topic.queues["q"].acked, 10)
	})
	eventually(t, func() bool { return b.count(wire.OpHello) == 2 })
}

func TestTopicsAreLookedUpAgainAfterAReconnect(t *testing.T) {
	b := startBroker(t)
	b.create("kept", 1)
	b.create("deleted", 1)
	c := dial(t, b, Options{})
	for _, topic := range []string{"kept", "deleted"} {
		_, err := c.Publish(within(t), &Message{Topic: topic})
		require.NoError(t, err)
	}
	b.remove("deleted")
	var lookups atomic.Int32
	b.setHook(func(fc *fakeConn, f wire.Frame) bool {
		var m wire.Resolve
		if f.Op != wire.OpResolve || m.Parse(f.Body) != nil || m.Topic != "kept" {
			return false
		}
		if lookups.Add(1) > 1 {
			return false
		}
		fc.fail(f, wire.Errorf(wire.CodeBusy, "later"))
		return true
	})
	b.cut()
	_, err := c.Publish(within(t), &Message{Topic: "kept"})
	if err != nil {
		require.ErrorIs(t, err, ErrUnknownOutcome) // it left on the connection that was being cut
	}
	eventually(t, func() bool { return lookups.Load() == 2 })
	b.locked(func() {
		require.Nil(t, b.topics["deleted"], "nothing waits for it, so it is not made again")
	})
	_, err = c.Publish(within(t), &Message{Topic: "deleted"})
	require.NoError(t, err)
}

func TestWhatWaitsForATopicThatIsRefusedFails(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Publish(within(t), &Message{Topic: "t"})
	require.NoError(t, err)
	b.setHook(func(fc *fakeConn, f wire.Frame) bool {
		switch f.Op {
		case wire.OpResolve:
			fc.fail(f, wire.Errorf(wire.CodeForbidden, "no more"))
			return true
		case wire.OpPublish:
			_ = fc.nc.Close()
			return true
		}
		return false
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := c.Publish(within(t), &Message{Topic: "t"})
			require.Error(t, err)
		})
	}
	wg.Wait()
	_, err = c.Publish(within(t), &Message{Topic: "t"})
	require.ErrorIs(t, err, wire.CodeForbidden)
	require.Zero(t, c.producer.budget.used.Load())
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	s := Source{BackoffMin: 100 * time.Millisecond, BackoffMax: time.Second}
	for attempt, most := range []time.Duration{0, 100, 200, 400, 800, 1000, 1000} {
		if attempt == 0 {
			continue
		}
		d := s.backoff(attempt)
		require.GreaterOrEqual(t, d, most*time.Millisecond/2)
		require.LessOrEqual(t, d, most*time.Millisecond)
	}
	require.LessOrEqual(t, s.backoff(1<<30), time.Second)
}

// What one request knows of a deleted topic is not taken for news after another one was told so.
func TestAPublishPassesEveryHandleOfADeletedTopic(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	m := &Message{Topic: "t", Value: []byte("v")}
	_, err := c.Publish(within(t), m)
	require.NoError(t, err)
	cn := c.conn.Load()
	cn.forget(cn.bound("t"), "t")
	_, err = cn.resolve(within(t), "t", false) // as when a consumer asks at the same time as the producer
	require.NoError(t, err)

	b.remove("t")
	b.create("t", 1)
	_, err = c.Publish(within(t), m)
	require.NoError(t, err)
	require.Equal(t, []string{"v"}, b.values("t", 0))
}

// recreate refuses the first lease, as a broker does that has lost the queue, and gives the requests that follow to open
// until that returns false.
func recreate(open func(c *fakeConn, f wire.Frame) bool) func(c *fakeConn, f wire.Frame) bool {
	refused, opened := false, false
	return func(c *fakeConn, f wire.Frame) bool {
		switch {
		case f.Op == wire.OpLease && !refused:
			refused = true
			c.fail(f, wire.Errorf(wire.CodeGroupNotFound, "it is gone"))
			return true
		case f.Op == wire.OpOpenQueue && refused && !opened:
			opened = !open(c, f)
			return !opened
		}
		return false
	}
}

// A broker that has lost the queue may also be too busy to make it again in time.
func TestAQueueIsMadeAgainByABrokerThatIsSlow(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, "x")
	c := dial(t, b, Options{RequestTimeout: time.Second})
	ignored := 0
	b.setHook(recreate(func(*fakeConn, wire.Frame) bool {
		ignored++
		return ignored == 1
	}))
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	ms, err := q.Fetch(within(t), 1)
	require.NoError(t, err)
	require.Len(t, ms, 1)
	require.NoError(t, q.Close(within(t)))
}

// The reason is the topic that is gone, not the queue that went with it.
func TestAQueueEndsWithItsTopic(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	b.setHook(recreate(func(c *fakeConn, f wire.Frame) bool {
		c.fail(f, wire.Errorf(wire.CodeTopicDeleted, "it is gone, too"))
		return true
	}))
	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	_, err = q.Fetch(within(t), 1)
	require.ErrorIs(t, err, wire.CodeTopicDeleted)
	require.NoError(t, q.Close(within(t)))
}
