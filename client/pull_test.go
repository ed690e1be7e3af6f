package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// loopOver reads n messages and returns their values; end says how the loop ends.
func loopOver(t *testing.T, c *client.Client, s client.Source, n int) (got []string) {
	t.Helper()
	for m, err := range c.Messages(within(t), s) {
		require.NoError(t, err)
		got = append(got, string(m.Value))
		if len(got) == n {
			break
		}
	}
	return got
}

func TestALoopOverAGroupCommitsWhatItWentPast(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		for i := range 10 {
			_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(value(i))})
			require.NoError(t, err)
		}
		require.Equal(t, []string{value(0), value(1), value(2), value(3)}, loopOver(t, c, groupOf(), 4))
		offsets, err := c.Committed(within(t), "g", "t")
		require.NoError(t, err)
		require.Equal(t, map[int]uint64{0: 3}, offsets, "the last one is not done")
		require.Equal(t, []string{value(3), value(4)}, loopOver(t, c, groupOf(), 2))
		require.Panics(t, func() {
			for range c.Messages(within(t), groupOf()) {
				panic("no")
			}
		})
		require.Equal(t, []string{value(4)}, loopOver(t, c, groupOf(), 1))
	})
}

func TestALoopOverAQueueAcknowledgesWhatItWentPast(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	for i := range 5 {
		_, err := c.Publish(within(t), &client.Message{Topic: "t", Value: []byte(value(i))})
		require.NoError(t, err)
	}
	s := client.Queue("q", "t")
	require.Len(t, loopOver(t, c, s, 3), 3)
	infos, err := c.Groups(within(t), "q")
	require.NoError(t, err)
	require.EqualValues(t, 3, infos[0].Lag)
}

func TestALoopEndsWithTheReason(t *testing.T) {
	b := servertest.Start(t, servertest.Options{})
	c := connect(t, b, client.Options{Dialer: b.Dial})
	steps := 0
	for m, err := range c.Messages(within(t), client.Group("g", "none")) {
		require.Nil(t, m)
		require.ErrorIs(t, err, wire.CodeTopicNotFound)
		steps++
	}
	require.Equal(t, 1, steps)
	_, err := c.EnsureTopic(within(t), "t", client.TopicOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	for _, err := range c.Messages(ctx, groupOf()) {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}
