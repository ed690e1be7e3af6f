package client_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
)

// BenchmarkQueue handles and acknowledges messages of 128 bytes with 16 workers.
func BenchmarkQueue(b *testing.B) {
	br := servertest.Start(b, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", MemoryBytes: 1 << 30}})
	c := connect(b, br, client.Options{})
	const n = 200_000
	ctx := context.Background()
	m := &client.Message{Topic: "t", Value: make([]byte, 128)}
	s := client.Queue("q", "t")
	s.Workers, s.Prefetch = 16, 1000
	b.SetBytes(n * 128)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for range n {
			require.NoError(b, c.PublishAsync(ctx, m, nil))
		}
		require.NoError(b, c.Flush(ctx))
		b.StartTimer()
		var left atomic.Int64
		left.Store(n)
		require.NoError(b, c.Run(ctx, s, func(context.Context, *client.Message) error {
			if left.Add(-1) == 0 {
				return client.ErrStop
			}
			return nil
		}))
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
}
