package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// far makes the broker answer pings late, and keeps back the answers to publishes. It returns where it says that one arrived.
func (b *broker) far(by time.Duration) (arrived chan struct{}) {
	arrived = make(chan struct{}, 16)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		switch f.Op {
		case wire.OpPing:
			time.Sleep(by)
		case wire.OpPublish:
			arrived <- struct{}{}
			return true
		}
		return false
	})
	return arrived
}

// roundTrip waits until a client knows how far its broker is.
func roundTrip(t *testing.T, c *Client) time.Duration {
	t.Helper()
	cn := c.conn.Load()
	require.Eventually(t, func() bool { return cn.roundTrip() > 0 }, 10*time.Second, time.Millisecond)
	return cn.roundTrip()
}

func TestADistantBrokerGetsTheNextBatchBeforeItAnswers(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	arrived := b.far(2 * farRoundTrip)
	c := dial(t, b, Options{})
	require.GreaterOrEqual(t, roundTrip(t, c), 2*farRoundTrip)

	for range 4 {
		require.NoError(t, c.PublishAsync(within(t), &Message{Topic: "t", Value: []byte("x")}, func(Receipt, error) {}))
		select {
		case <-arrived:
		case <-within(t).Done():
			t.Fatal("a message waits for the answer to the one before")
		}
	}
}

func TestTheRoundTripIsThatOfTheFastestPing(t *testing.T) {
	b := startBroker(t)
	b.far(50 * time.Millisecond)
	c := dial(t, b, Options{})
	slow := roundTrip(t, c)
	require.GreaterOrEqual(t, slow, 50*time.Millisecond)
	cn := c.conn.Load()
	b.setHook(nil)
	require.Eventually(t, func() bool {
		cn.ping()
		return cn.roundTrip() < slow
	}, 10*time.Second, 10*time.Millisecond)

	b.far(slow)
	answered := make(chan struct{})
	cn.ping()
	cn.ask(wire.OpPing, 0, nil, func(*frame, error) { close(answered) })
	<-answered
	require.Less(t, cn.roundTrip(), slow)
}
