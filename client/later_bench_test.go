package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

func BenchmarkRealPublishLater(b *testing.B) {
	c := realClient(b)
	m := &client.Message{Topic: "t", Value: make([]byte, 128), Delay: time.Hour}
	b.ReportAllocs()
	b.SetBytes(128)
	b.ResetTimer()
	for range b.N {
		if err := c.PublishAsync(b.Context(), m, nil); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, c.Flush(b.Context()))
}
