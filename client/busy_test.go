package client

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// A loop that ends when its context does must end on a busy topic, too, where there is always one more message.
func TestAContextEndsTheReadingOfABusyTopic(t *testing.T) {
	b := startBroker(t)
	b.create("t", 10)
	for p := range 10 {
		b.fill("t", p, 3, texts(10)...)
	}
	c := dial(t, b, Options{})
	f := func(most int, next func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		require.NoError(t, next(ctx))
		cancel()
		more := 0
		for next(ctx) == nil {
			more++
		}
		require.LessOrEqual(t, more, most)
		require.ErrorIs(t, next(ctx), context.Canceled)
		require.NoError(t, next(within(t)))
	}

	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	defer k.Close()
	eventually(t, func() bool { // all has arrived
		k.f.mu.Lock()
		defer k.f.mu.Unlock()
		have := uint64(0)
		for _, p := range k.f.parts {
			have += p.next
		}
		return have == 100
	})
	f(9, func(ctx context.Context) error { _, err := k.Next(ctx); return err })

	g, err := c.OpenGroup(within(t), Group("g", "t"))
	require.NoError(t, err)
	f(0, func(ctx context.Context) error { _, err := g.Fetch(ctx, 1); return err })
	require.NoError(t, g.Close(within(t)))

	q, err := c.OpenQueue(within(t), Queue("q", "t"))
	require.NoError(t, err)
	q.mu.Lock()
	q.want = 5 // as after a Fetch whose context ended before the messages arrived
	q.mu.Unlock()
	q.ask()
	eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.ready) == 5
	})
	f(0, func(ctx context.Context) error { _, err := q.Fetch(ctx, 1); return err })
	require.NoError(t, q.Close(within(t)))
}
