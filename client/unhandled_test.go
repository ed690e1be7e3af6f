package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
)

// The end of a run says nothing about the messages that it was busy with, or had leased ahead: they do not come
// nearer to the dead-letter topic.
func TestTheEndOfARunIsNoAttempt(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		ctx := within(t)
		const messages = 5
		_, err := c.CreateTopic(ctx, "t", client.TopicOptions{})
		require.NoError(t, err)
		for range messages {
			_, err := c.Publish(ctx, &client.Message{Topic: "t", Key: []byte("k")})
			require.NoError(t, err)
		}
		why := errors.New("no time left")
		f := func(ordered bool, queue string, fails func(ctx context.Context) error) {
			s := client.Queue(queue, "t")
			s.MaxDeliveries, s.OrderByKey = 1, ordered
			life, end := context.WithCancelCause(ctx)
			err := c.Run(life, s, func(ctx context.Context, m *client.Message) error {
				end(why)
				<-ctx.Done()
				return fails(ctx)
			})
			require.ErrorIs(t, err, why)
			n := 0
			err = c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
				require.Equal(t, 1, m.Attempt)
				require.Equal(t, uint64(n), m.Offset)
				if n++; n == messages {
					return client.ErrStop
				}
				return nil
			})
			require.NoError(t, err)
		}
		f(false, "error", context.Context.Err)
		f(true, "ordered", context.Context.Err)
		f(false, "cause", context.Cause)
	})
}

// withOneMessage returns a client of a broker whose topic t has one message.
func withOneMessage(t *testing.T) (context.Context, *client.Client) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	ctx := within(t)
	_, err := c.CreateTopic(ctx, "t", client.TopicOptions{})
	require.NoError(t, err)
	_, err = c.Publish(ctx, &client.Message{Topic: "t"})
	require.NoError(t, err)
	return ctx, c
}

// Nor does a group give up the message, which would skip it for good.
func TestTheEndOfARunGivesNoMessageUp(t *testing.T) {
	ctx, c := withOneMessage(t)
	s := client.Group("g", "t")
	s.MaxDeliveries = 1
	for m, err := range c.Messages(ctx, s) {
		require.NoError(t, err)
		require.Zero(t, m.Offset)
		break
	}
	life, end := context.WithCancel(ctx)
	err := c.Run(life, s, func(ctx context.Context, _ *client.Message) error {
		end()
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	err = c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
		require.Zero(t, m.Offset)
		require.Equal(t, 1, m.Attempt)
		return client.ErrStop
	})
	require.NoError(t, err)
}

// A handler that failed before the run ended has failed.
func TestAFailureAtTheEndOfARunIsAnAttempt(t *testing.T) {
	ctx, c := withOneMessage(t)
	s := client.Queue("q", "t")
	s.MaxDeliveries = 1
	life, end := context.WithCancel(ctx)
	err := c.Run(life, s, func(context.Context, *client.Message) error {
		end()
		return errors.New("broken")
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool {
		for d, err := range c.DeadLetters(ctx, "t.q.dlq") {
			return err == nil && d.Reason == "broken"
		}
		return false
	}, 10*time.Second, time.Millisecond)
}
