package client

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// gather keeps back the requests of one kind until n of them have arrived, and answers them then. So a client that waits
// for the first answer before it sends the second request waits for ever.
func (b *broker) gather(op wire.Op, n int) {
	var mu sync.Mutex
	var waiting []wire.Frame
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		if f.Op != op {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		f.Body = bytes.Clone(f.Body)
		waiting = append(waiting, f)
		if len(waiting) == n {
			for _, f := range waiting {
				c.handle(f)
			}
			waiting = nil
		}
		return true
	})
}

func TestManyPartitionsAreAskedAboutAtOnce(t *testing.T) {
	const parts = 16
	b := startBroker(t)
	b.create("t", parts)
	for p := range parts {
		b.fill("t", p, 1, "a")
	}
	b.gather(wire.OpOffsets, parts)
	c := dial(t, b, Options{})

	k, err := c.Subscribe(within(t), Subscription{Topic: "t"})
	require.NoError(t, err)
	k.Close()

	moves, err := c.PlanSeek(within(t), "g", "t", nil, End())
	require.NoError(t, err)
	require.Len(t, moves, parts)
	for p, m := range moves {
		require.Equal(t, Move{Partition: p, To: 1}, m)
	}

	ends, err := c.OffsetsOf(within(t), "t", []int{3, 1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, End())
	require.NoError(t, err)
	require.Len(t, ends, parts)

	require.NoError(t, c.Run(within(t), Group("g", "t"), func(context.Context, *Message) error { return ErrStop }))
}

func TestTheOffsetsOfASeekAreInOrder(t *testing.T) {
	const parts = 64
	b := startBroker(t)
	asked := make(chan wire.SeekGroup, 1)
	b.setHook(func(c *fakeConn, f wire.Frame) bool {
		var m wire.SeekGroup
		if f.Op != wire.OpSeekGroup || m.Parse(f.Body) != nil {
			return false
		}
		asked <- m
		c.reply(f, 0, nil)
		return true
	})
	c := dial(t, b, Options{})
	offsets := map[int]uint64{}
	var want []wire.PartitionOffset
	for p := range parts {
		offsets[p] = uint64(2 * p)
		want = append(want, wire.PartitionOffset{Partition: uint16(p), Offset: uint64(2 * p)})
	}
	require.NoError(t, c.SeekGroup(within(t), "g", "t", offsets))
	require.Equal(t, want, (<-asked).Offsets)
}
