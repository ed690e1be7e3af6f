package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// A dead letter of a group is like one of a queue: it outlives its message, is no duplicate of another, and says when
// the message failed.
func TestDeadLettersOfGroupsAreLikeThoseOfQueues(t *testing.T) {
	clock := servertest.NewClock()
	b := servertest.Start(t, servertest.Options{Server: server.Options{Now: clock.Now}})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	ctx := within(t)
	_, err := c.CreateTopic(ctx, "dead", client.TopicOptions{Settings: []wire.Setting{{Key: "dedupe_window", Value: "1h"}}})
	require.NoError(t, err)
	_, err = c.Publish(ctx, &client.Message{Topic: "t", ID: "4711", TTL: time.Minute, Value: []byte("v")})
	require.NoError(t, err)
	_, err = c.Publish(ctx, &client.Message{Topic: "t", Value: []byte("next")})
	require.NoError(t, err)
	for _, s := range []client.Source{client.Queue("q", "t"), client.Group("g", "t"), client.Group("h", "t")} {
		s.DeadLetter = "dead"
		err := c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
			if m.Offset == 1 {
				return client.ErrStop
			}
			return client.Reject(errors.New("no"))
		})
		require.NoError(t, err)
	}
	clock.Advance(time.Hour)
	var from []string
	for d, err := range c.DeadLetters(ctx, "dead") {
		require.NoError(t, err)
		require.Equal(t, "t", d.OriginTopic)
		require.Equal(t, "4711", d.ID)
		require.Equal(t, 1, d.Attempts)
		require.False(t, d.First.IsZero())
		require.False(t, d.Last.Before(d.First))
		from = append(from, d.Queue)
	}
	require.Equal(t, []string{"q", "g", "h"}, from)
}
