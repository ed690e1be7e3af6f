package client_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// realClient connects to a broker in memory over loopback.
func realClient(b *testing.B) *client.Client {
	br := servertest.Start(b, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	return connect(b, br, client.Options{})
}

func publishMany(b *testing.B, c *client.Client, n int) {
	m := &client.Message{Topic: "t", Value: make([]byte, 128)}
	failed := func(_ client.Receipt, err error) {
		if err != nil {
			b.Error(err)
		}
	}
	for range n {
		if err := c.PublishAsync(b.Context(), m, failed); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, c.Flush(b.Context()))
}

func BenchmarkRealPublishAsync(b *testing.B) {
	c := realClient(b)
	_, err := c.EnsureTopic(b.Context(), "t", client.TopicOptions{Settings: []wire.Setting{{Key: "retention_bytes", Value: "256MiB"}}})
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(128)
	b.ResetTimer()
	publishMany(b, c, b.N)
}

func BenchmarkRealSubscribe(b *testing.B) {
	c := realClient(b)
	const stored = 1_000_000
	publishMany(b, c, stored)
	b.ReportAllocs()
	b.SetBytes(128)
	b.ResetTimer()
	for n := 0; n < b.N; {
		k, err := c.Subscribe(b.Context(), client.Subscription{Topic: "t"})
		require.NoError(b, err)
		for range min(stored, b.N-n) {
			if _, err := k.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
			n++
		}
		k.Close()
	}
}
