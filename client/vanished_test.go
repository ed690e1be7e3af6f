package client

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A broker that has vanished accepts nothing and refuses nothing. It does not use up the time of the next one.
func TestABrokerThatDoesNotAnswerLeavesTimeForTheNext(t *testing.T) {
	b := startBroker(t)
	dialer := func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != "vanished:1" {
			return dialTCP(ctx, addr)
		}
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		return ours, nil
	}
	for name, o := range map[string]Options{
		"the context":         {},
		"the request timeout": {RequestTimeout: time.Second},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		o.Dialer = dialer
		c, err := Dial(ctx, "vanished:1,"+b.addr(), o)
		cancel()
		require.NoError(t, err, name)
		require.NoError(t, c.Close(within(t)))
	}
}
