package client

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// Close does not wait for the broker on behalf of what has not begun yet.
func TestCloseEndsWhatWaitsForTheBroker(t *testing.T) {
	nothing := func(context.Context, *Message) error { return nil }
	for name, begin := range map[string]func(c *Client) error{
		"a group": func(c *Client) error { return c.Run(context.Background(), Group("g", "t"), nothing) },
		"a queue": func(c *Client) error { return c.Run(context.Background(), Queue("q", "t"), nothing) },
		"a group that is fetched": func(c *Client) error {
			_, err := c.OpenGroup(context.Background(), Group("g", "t"))
			return err
		},
		"a listener": func(c *Client) error {
			_, err := c.Listen(context.Background(), "a", ListenOptions{}, func(context.Context, *Message) {})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			b.create("t", 1)
			asked := make(chan struct{}, 1)
			b.setHook(func(_ *fakeConn, f wire.Frame) bool {
				if f.Op == wire.OpHello || f.Op == wire.OpPing {
					return false
				}
				asked <- struct{}{} // and never answered
				return true
			})
			c := dial(t, b, Options{})
			ended := make(chan error, 1)
			go func() { ended <- begin(c) }()
			<-asked
			require.NoError(t, c.Close(within(t)))
			require.ErrorIs(t, <-ended, ErrClosed)
		})
	}
}

// Close waits for handlers also when the client has ended before, or ends meanwhile.
func TestCloseWaitsForHandlersOfAnEndedClient(t *testing.T) {
	b := startBroker(t)
	b.create("t", 1)
	b.fill("t", 0, 1, text(0))
	c := dial(t, b, Options{})
	entered, leave, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go c.Run(context.Background(), Queue("q", "t"), func(context.Context, *Message) error {
		close(entered)
		<-leave
		close(returned)
		return nil
	})
	<-entered
	over, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, c.Close(over), context.Canceled) // drops everything and ends the client
	closed := make(chan error)
	go func() { closed <- c.Close(within(t)) }()
	select {
	case <-closed:
		t.Fatal("a handler still runs")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	require.NoError(t, <-closed)
	<-returned
}
