package client_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

func alter(t *testing.T, c *client.Client, topic string, partitions int, kv ...string) {
	t.Helper()
	o := client.TopicOptions{Partitions: partitions}
	for i := 0; i < len(kv); i += 2 {
		o.Settings = append(o.Settings, wire.Setting{Key: kv[i], Value: kv[i+1]})
	}
	_, err := c.AlterTopic(within(t), topic, o)
	require.NoError(t, err)
}

// A client that knows the topic from before learns that it was altered when it would refuse a message.
func TestWhatAnAlteredTopicAcceptsIsPublished(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		ctx, other := within(t), connect(t, b, client.Options{Dialer: b.Dial})
		_, err := other.CreateTopic(ctx, "t", client.TopicOptions{})
		require.NoError(t, err)
		alter(t, other, "t", 0, "max_record_bytes", "1000")
		large := client.Message{Topic: "t", Value: make([]byte, 2000)}
		_, err = c.Publish(ctx, &large)
		require.ErrorIs(t, err, wire.CodeTooLarge)
		_, err = c.PublishAtomic(ctx, &large)
		require.ErrorIs(t, err, wire.CodeTooLarge)

		alter(t, other, "t", 0, "max_record_bytes", "3000")
		_, err = c.Publish(ctx, &large)
		require.NoError(t, err)
		alter(t, other, "t", 0, "max_record_bytes", "5000")
		larger := client.Message{Topic: "t", Value: make([]byte, 4000)}
		_, err = c.PublishAtomic(ctx, &larger)
		require.NoError(t, err)
		alter(t, other, "t", 2)
		_, err = c.PublishAtomic(ctx, &client.Message{Topic: "t", Value: []byte("x"), Pinned: true, Partition: 1})
		require.NoError(t, err)
	})
}

// deadLetterOf has a group reject a message that is as large as one can be, and returns its dead letter. late is called
// when the dead-letter topic has refused it.
func deadLetterOf(t *testing.T, b *servertest.Broker, m *client.Message, late func(c *client.Client)) *client.Message {
	t.Helper()
	ctx := within(t)
	refused := make(chan struct{}, 1)
	c := connect(t, b, client.Options{Dialer: b.Dial, OnError: func(err error) {
		if errors.Is(err, wire.CodeTooLarge) {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
	}})
	_, err := c.Publish(ctx, m)
	require.NoError(t, err)
	_, err = c.Publish(ctx, &client.Message{Topic: m.Topic, Value: []byte("next")})
	require.NoError(t, err)
	if late != nil {
		go func() {
			<-refused
			late(c)
		}()
	}
	s := client.Group("g", m.Topic)
	s.DeadLetter, s.BackoffMin, s.BackoffMax = "dead", time.Millisecond, time.Millisecond
	err = c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
		if string(m.Value) == "next" {
			return client.ErrStop
		}
		return client.Reject(errors.New("no"))
	})
	require.NoError(t, err)
	f, err := c.Fetch(ctx, client.FetchRequest{Topic: "dead"})
	require.NoError(t, err)
	require.Len(t, f.Messages, 1)
	return &f.Messages[0]
}

func TestADeadLetterOfAGroupLosesItsHeadersRatherThanHoldUpThePartition(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, _ *client.Client) {
		m := &client.Message{Topic: "t", Value: []byte("v")}
		m.Headers = []client.Header{{Name: "h", Value: make([]byte, wire.MaxHeaderBytes-20)}}
		dead := deadLetterOf(t, b, m, nil)
		require.Equal(t, "v", string(dead.Value))
		require.Nil(t, dead.Header("h"))
		require.Equal(t, "no", string(dead.Header("rafka-dead-reason")))
	})
}

func TestADeadLetterOfAGroupWaitsForATopicThatTakesIt(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, _ *client.Client) {
		m := &client.Message{Topic: "t", Value: bytes.Repeat([]byte("v"), wire.DefaultMaxRecordBytes-100)}
		dead := deadLetterOf(t, b, m, func(c *client.Client) { alter(t, c, "dead", 0, "max_record_bytes", "2MiB") })
		require.Equal(t, m.Value, dead.Value)
	})
}
