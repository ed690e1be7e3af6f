package client

import (
	"context"
	"testing"

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
