package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// Whoever reads a compacted topic, at whatever moment, sees the latest message of every key and no
// error about those that are gone; a queue is done with them.
func TestACompactedTopicKeepsTheLatestOfEveryKey(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0", Dir: t.TempDir()}})
	c := connect(t, b, client.Options{Codec: wire.CodecS2, MaxBatchBytes: 600})
	_, err := c.CreateTopic(within(t), "t", client.TopicOptions{
		Settings: []wire.Setting{
			{Key: "cleanup", Value: "compact"}, {Key: "segment_bytes", Value: "4096"}, {Key: "durability", Value: "os"},
		},
	})
	require.NoError(t, err)
	value := func(i int) string { return fmt.Sprintf("%d %x", i, make([]byte, i%50)) }
	const n, keys = 2000, 17
	for i := range n {
		m := &client.Message{Topic: "t", Key: fmt.Append(nil, i%keys), Value: []byte(value(i))}
		require.NoError(t, c.PublishAsync(within(t), m, nil))
	}
	_, err = c.Publish(within(t), &client.Message{Topic: "t", Key: []byte("3")})
	require.NoError(t, err)
	check := func() (seen int) {
		last := map[string]string{}
		for at := uint64(0); ; {
			f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(at)})
			require.NoError(t, err)
			for _, m := range f.Messages {
				seen++
				require.GreaterOrEqual(t, m.Offset, at)
				if m.Value != nil {
					require.Equal(t, value(int(m.Offset)), string(m.Value))
				}
				last[string(m.Key)] = string(m.Value)
			}
			if at = f.Next; len(f.Messages) == 0 {
				break
			}
		}
		require.Len(t, last, keys)
		for i := n - keys; i < n; i++ {
			key := fmt.Sprint(i % keys)
			m, err := c.Get(within(t), "t", []byte(key))
			if key == "3" {
				require.ErrorIs(t, err, wire.CodeKeyNotFound)
				require.Empty(t, last[key])
				continue
			}
			require.NoError(t, err)
			require.Equal(t, value(i), string(m.Value))
			require.Equal(t, uint64(i), m.Offset)
			require.Equal(t, value(i), last[key])
		}
		return seen
	}
	require.LessOrEqual(t, check(), n+1)
	b.Restart() // checkpoints, so that segments are sealed
	require.Eventually(t, func() bool { return check() < n/4 }, 20*time.Second, 100*time.Millisecond)

	q, err := c.OpenQueue(within(t), client.Queue("q", "t"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for len(seen) < keys {
		ms, err := q.Fetch(within(t), 100)
		require.NoError(t, err)
		for _, m := range ms {
			seen[string(m.Key)] = true
			require.NoError(t, m.Ack(within(t)))
		}
	}
	require.NoError(t, q.Close(within(t)))
	require.Eventually(t, func() bool {
		infos, err := c.Groups(within(t), "q")
		require.NoError(t, err)
		return len(infos) == 1 && infos[0].InFlight == 0
	}, 20*time.Second, 50*time.Millisecond)
}
