package client

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// Arguments that can only be mistakes are refused at once. None of them is noticed at the first message.

func TestAMissingHandlerIsRefused(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	handle := func(context.Context, *Message) error { return ErrStop }
	for _, s := range []Source{Group("g", "t"), Queue("q", "t")} {
		require.ErrorContains(t, c.Run(within(t), s, nil), "the handler is nil")
		s.Middleware = []func(Handler) Handler{nil}
		require.ErrorContains(t, c.Run(within(t), s, handle), "Middleware of a source is nil")
		s.Middleware[0] = func(Handler) Handler { return nil }
		require.ErrorContains(t, c.Run(within(t), s, handle), "returned no handler")
	}
	_, err := c.Listen(within(t), "s", ListenOptions{}, nil)
	require.ErrorContains(t, err, "the handler is nil")
	_, err = c.Reply(within(t), "s", ListenOptions{}, nil)
	require.ErrorContains(t, err, "the handler is nil")
}

func TestWorkersHaveALimit(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	for _, n := range []int{MaxWorkers + 1, math.MaxInt} {
		for _, s := range []Source{Group("g", "t"), Queue("q", "t")} {
			s.Workers = n
			require.Equal(t, errManyWorkers, c.Run(within(t), s, func(context.Context, *Message) error { return ErrStop }))
		}
		_, err := c.Listen(within(t), "s", ListenOptions{Workers: n}, func(context.Context, *Message) {})
		require.Equal(t, errManyWorkers, err)
	}
}

func TestAClosedConsumerReturnsNoMoreMessages(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, texts(3)...)
	k, err := dial(t, b, Options{}).Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	require.Equal(t, texts(1), read(t, k, 1))
	k.Close()
	k.Close()
	for range 2 {
		_, err := k.Next(within(t))
		require.ErrorIs(t, err, ErrClosed)
	}
}

func TestAnErrorNamesThePartitionThatCannotExist(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Subscribe(within(t), Subscription{Topic: "t", Partitions: []int{-1}})
	require.ErrorIs(t, err, wire.CodePartitionNotFound)
	require.ErrorContains(t, err, "there is no partition -1")
	_, err = c.Subscribe(within(t), Subscription{Topic: "t", Partitions: []int{}})
	require.ErrorIs(t, err, wire.CodePartitionNotFound)
	require.ErrorContains(t, err, "leave it nil to read all")
}

func TestOffsetsOfACommittedPositionNeedAGroup(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	c := dial(t, b, Options{})
	_, err := c.Offsets(within(t), "t", 0, Committed())
	require.ErrorContains(t, err, `the position "committed" needs a group`)
	_, err = c.OffsetsOf(within(t), "t", []int{0}, BeforeCommitted(1))
	require.ErrorContains(t, err, `the position "committed-1" needs a group`)
}

func TestAPasswordNeedsAUser(t *testing.T) {
	_, err := Dial(within(t), startBroker(t).addr(), Options{Password: "secret"})
	require.ErrorContains(t, err, "set User")
}

// ignore is a handler for runs that end before it is called.
func ignore(context.Context, *Message) error { return nil }
