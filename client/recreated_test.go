package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// A client that has a handle of a topic goes on with the next topic of that name, which another client
// made, and sees nothing of the first one.
func TestAClientUsesTheTopicThatOthersMadeAgain(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		ctx := within(t)
		create := func(c *client.Client, partitions int) {
			_, err := c.CreateTopic(ctx, "t", client.TopicOptions{Partitions: partitions})
			require.NoError(t, err)
		}
		create(c, 3)
		publish := func(m client.Message) client.Receipt {
			m.Topic, m.Value = "t", []byte("v")
			r, err := c.Publish(ctx, &m)
			require.NoError(t, err)
			return r
		}
		publish(client.Message{Pinned: true, Partition: 2})
		publish(client.Message{Delay: time.Hour})
		require.NoError(t, c.Commit(ctx, "g", "t", map[int]uint64{2: 1}))
		q, err := c.OpenQueue(ctx, client.Queue("q", "t"))
		require.NoError(t, err)
		first, err := q.Fetch(ctx, 1)
		require.NoError(t, err)
		require.Len(t, first, 1)

		other := connect(t, b, client.Options{Dialer: b.Dial})
		require.NoError(t, other.DeleteTopic(ctx, "t"))
		create(other, 1)

		committed, err := c.Committed(ctx, "g", "t")
		require.NoError(t, err)
		require.Empty(t, committed)
		for range c.Schedules(ctx, "t", client.AllPartitions) {
			t.Fatal("the new topic has what was scheduled in the old one")
		}
		publish(client.Message{Pinned: true, Partition: 0})
		for _, key := range []string{"a", "b", "c", "d", "e"} { // some of them were in partitions that are not there
			require.Zero(t, publish(client.Message{Key: []byte(key)}).Partition)
		}
		require.NotZero(t, publish(client.Message{Delay: time.Hour}).Schedule)
		f, err := c.Fetch(ctx, client.FetchRequest{Topic: "t"})
		require.NoError(t, err)
		require.Len(t, f.Messages, 6)
		second, err := q.Fetch(ctx, 1)
		require.NoError(t, err)
		require.Zero(t, second[0].Offset)

		require.NoError(t, other.DeleteTopic(ctx, "t"))
		_, err = c.Committed(ctx, "g", "t")
		require.ErrorIs(t, err, wire.CodeTopicNotFound)
	})
}

// A message is placed by the partitions of the topic that stores it, also when the client has placed it by those of
// an earlier topic before the broker told it so.
func TestAMessageIsPlacedAgainInAnotherTopic(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		ctx := within(t)
		other := connect(t, b, client.Options{Dialer: b.Dial})
		replace := func(partitions int) {
			require.NoError(t, other.DeleteTopic(ctx, "t"))
			_, err := other.CreateTopic(ctx, "t", client.TopicOptions{Partitions: partitions})
			require.NoError(t, err)
		}
		where := func(m client.Message) int { // for a client that knows no earlier topic
			fresh := connect(t, b, client.Options{Dialer: b.Dial})
			r, err := fresh.Publish(ctx, &m)
			require.NoError(t, err)
			return r.Partition
		}
		_, err := other.CreateTopic(ctx, "t", client.TopicOptions{Partitions: 1})
		require.NoError(t, err)
		m := client.Message{Topic: "t", Key: []byte("alice"), Value: []byte("v")}
		_, err = c.Publish(ctx, &m)
		require.NoError(t, err)

		for _, partitions := range []int{16, 3, 1, 15} {
			replace(partitions)
			r, err := c.Publish(ctx, &m)
			require.NoError(t, err)
			require.Equal(t, where(m), r.Partition)
		}
		replace(16)
		r, err := c.PublishAtomic(ctx, &m, &m)
		require.NoError(t, err)
		require.Equal(t, where(m), r.Partition)

		replace(3)
		done := make(chan error, 1)
		require.NoError(t, c.PublishAsync(ctx, &m, func(_ client.Receipt, err error) { done <- err }))
		err = <-done
		require.ErrorIs(t, err, wire.CodeTopicDeleted)
		require.NotErrorIs(t, err, client.ErrUnknownOutcome)
		require.ErrorContains(t, err, "other partitions")
		r, err = c.Publish(ctx, &m)
		require.NoError(t, err)
		require.Equal(t, where(m), r.Partition)

		replace(9)
		r, err = c.Publish(ctx, &client.Message{Topic: "t", Pinned: true, Partition: 8})
		require.NoError(t, err)
		require.Equal(t, 8, r.Partition)
	})
}

// Dead letters of a topic that is gone do not stand for those of the next topic of its name.
func TestDeadLettersBelongToTheirTopic(t *testing.T) {
	brokers(t, func(t *testing.T, _ *servertest.Broker, c *client.Client) {
		ctx := within(t)
		_, err := c.CreateTopic(ctx, "t", client.TopicOptions{})
		require.NoError(t, err)
		letters := func() (letters []*client.DeadLetter) {
			for d, err := range c.DeadLetters(ctx, "t.q.dlq") {
				require.NoError(t, err)
				letters = append(letters, d)
			}
			return letters
		}
		q, err := c.OpenQueue(ctx, client.Queue("q", "t"))
		require.NoError(t, err)
		reject := func() []*client.DeadLetter {
			_, err := c.Publish(ctx, &client.Message{Topic: "t"})
			require.NoError(t, err)
			ms, err := q.Fetch(ctx, 1)
			require.NoError(t, err)
			require.NoError(t, ms[0].Reject(ctx, "bad"))
			require.Eventually(t, func() bool {
				_, err := c.Topic(ctx, "t.q.dlq")
				return err == nil && len(letters()) == 1
			}, 10*time.Second, time.Millisecond)
			return letters()
		}
		first := reject()
		require.NoError(t, c.DeleteTopic(ctx, "t.q.dlq"))
		second := reject()
		require.ErrorIs(t, c.DiscardDead(ctx, first...), wire.CodeTopicDeleted)
		require.Len(t, letters(), 1)
		require.NoError(t, c.DiscardDead(ctx, second...))
		require.Empty(t, letters())
	})
}
