package client

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// unanswered makes the broker leave requests of an operation unanswered, and returns a channel that tells of them.
func (b *broker) unanswered(op wire.Op) (asked chan struct{}) {
	asked = make(chan struct{}, 100)
	b.setHook(func(_ *fakeConn, f wire.Frame) bool {
		if f.Op != op {
			return false
		}
		asked <- struct{}{}
		return true
	})
	return asked
}

// patient calls f in the background with a context that ends with the test. over reports whether it has returned.
func patient(t *testing.T, f func(context.Context)) (over func() bool) {
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// The first request of a client subscribes to the answers. Others wait for that no longer than their context.
func TestARequestWaitsForNoOtherRequestLongerThanItsContext(t *testing.T) {
	b := startBroker(t)
	asked := b.unanswered(wire.OpListen)
	c := dial(t, b, Options{})
	request := func(ctx context.Context) error {
		_, err := c.Request(ctx, &Message{Subject: "s"})
		return err
	}
	over := patient(t, func(ctx context.Context) { _ = request(ctx) })
	<-asked
	require.ErrorIs(t, request(soon(t)), context.DeadlineExceeded)
	require.False(t, over())
}

// A commit of a group waits for another one no longer than its context.
func TestACommitWaitsForNoOtherCommitLongerThanItsContext(t *testing.T) {
	r := &groupRun{crew: &crew{}, progress: newGate()}
	r.forfeit = &place{"t", 0}
	require.NoError(t, r.progress.enter(t.Context()))
	require.ErrorIs(t, r.store(soon(t), nil), context.DeadlineExceeded)
	require.NoError(t, r.takeForfeit(soon(t)))
	r.progress.leave()
	require.NoError(t, r.store(soon(t), nil))
	require.ErrorIs(t, r.takeForfeit(soon(t)), ErrPartitionLost)
}
