package client_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// What passes a filter is exactly what matches, with its offset, whatever the batches look like.
func TestFiltersAreAppliedByTheBroker(t *testing.T) {
	brokers(t, func(t *testing.T, b *servertest.Broker, c *client.Client) {
		rng := rand.New(rand.NewPCG(1, 2))
		want := map[uint64]string{}
		var last uint64
		for _, codec := range []wire.Codec{wire.CodecNone, wire.CodecS2, wire.CodecZstd, wire.CodecLZ4, wire.CodecNone} {
			p := connect(t, b, client.Options{Codec: codec, MaxBatchBytes: 3000, Dialer: b.Dial})
			for range 300 {
				kind := fmt.Sprint(rng.IntN(4))
				m := &client.Message{
					Topic: "t", Value: fmt.Appendf(nil, "%s %x", kind, rng.Uint64()),
					Headers: []client.Header{{Name: "type", Value: []byte(kind)}},
				}
				value := string(m.Value)
				require.NoError(t, p.PublishAsync(within(t), m, func(r client.Receipt, err error) {
					require.NoError(t, err)
					last = r.Offset
					if kind == "2" {
						want[r.Offset] = value
					}
				}))
				if rng.IntN(20) == 0 {
					require.NoError(t, p.Flush(within(t)))
				}
			}
			require.NoError(t, p.Flush(within(t)))
		}
		filter := wire.Filter{{Op: wire.FilterEqual, Name: "type", Value: "2"}}
		got := map[uint64]string{}
		for at := uint64(0); ; {
			f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(at), Filter: filter, MaxBytes: 1 + rng.IntN(5000)})
			require.NoError(t, err)
			for _, m := range f.Messages {
				require.GreaterOrEqual(t, m.Offset, at)
				got[m.Offset] = string(m.Value)
			}
			if at = f.Next; at > last {
				break
			}
		}
		require.Equal(t, want, got)

		sub, err := c.Subscribe(within(t), client.Subscription{Topic: "t", Filter: filter, CreditBytes: 1})
		require.NoError(t, err)
		defer sub.Close()
		got = map[uint64]string{}
		for len(got) < len(want) {
			m, err := sub.Next(within(t))
			require.NoError(t, err)
			got[m.Offset] = string(m.Value)
		}
		require.Equal(t, want, got)

		// A fetch waits for what passes, and only for that; so does a subscription.
		found := make(chan client.Fetched, 1)
		go func() {
			f, err := c.Fetch(within(t), client.FetchRequest{Topic: "t", From: client.At(last + 1), Filter: filter, MaxWait: 10 * time.Second})
			if err != nil {
				t.Error(err)
			}
			found <- f
		}()
		send := func(kind string) {
			m := &client.Message{Topic: "t", Value: []byte("live " + kind), Headers: []client.Header{{Name: "type", Value: []byte(kind)}}}
			_, err := c.Publish(within(t), m)
			require.NoError(t, err)
		}
		send("1")
		send("3")
		send("2")
		f := <-found
		require.Len(t, f.Messages, 1)
		require.Equal(t, "live 2", string(f.Messages[0].Value))
		m, err := sub.Next(within(t))
		require.NoError(t, err)
		require.Equal(t, last+3, m.Offset)

		none := wire.Filter{{Name: "absent"}}
		f, err = c.Fetch(within(t), client.FetchRequest{Topic: "t", Filter: none, MaxWait: 20 * time.Millisecond})
		require.NoError(t, err)
		require.Empty(t, f.Messages)
		require.Equal(t, last+4, f.Next)
		_, err = c.Fetch(within(t), client.FetchRequest{Topic: "t", Filter: wire.Filter{{}}})
		require.ErrorIs(t, err, wire.CodeInvalid)
		_, err = c.Subscribe(within(t), client.Subscription{Topic: "t", Filter: wire.Filter{{}}})
		require.ErrorIs(t, err, wire.CodeInvalid)
	})
}
