package client

import (
	"context"
	"math"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// Pending lists the messages of a queue in one partition that are not done, from an offset on, as
// ranges in offset order. It returns at most limit ranges; 0 means wire.MaxPendingRanges, which is
// also the maximum.
func (c *Client) Pending(ctx context.Context, topic, queue string, partition int, from uint64, limit int) ([]wire.PendingRange, error) {
	if err := checkPartition(wire.OpPending, topic, partition); err != nil {
		return nil, err
	}
	var r wire.PendingReply
	err := c.request(ctx, call{
		op: wire.OpPending, topic: topic, partition: partition,
		body: func(dst []byte, b *binding) []byte {
			m := wire.Pending{
				Handle: b.Handle, Partition: uint16(partition), Group: queue, From: from,
				Limit: uint32(min(max(limit, 0), wire.MaxPendingRanges)),
			}
			return m.Append(dst)
		},
	}, r.Parse)
	return r.Ranges, err
}

// Discard marks messages of a queue as done, as if they had been acknowledged. It returns how many
// could not be marked, because a worker holds them, they were done before, or more than about a million messages
// that were never leased are in front of them. Of each range only First and Count are used.
func (c *Client) Discard(ctx context.Context, topic, queue string, partition int, ranges []wire.PendingRange) (left int, err error) {
	return c.discard(ctx, topic, [16]byte{}, queue, partition, ranges)
}

// discard is Discard on the topic with an id; zero means whichever has the name.
func (c *Client) discard(ctx context.Context, topic string, id [16]byte, queue string, partition int, ranges []wire.PendingRange) (left int, err error) {
	if err := checkPartition(wire.OpDiscard, topic, partition); err != nil {
		return 0, err
	}
	for some := range slices.Chunk(splitRanges(ranges), maxRanges) {
		var r wire.SettleReply
		err := c.request(ctx, call{
			op: wire.OpDiscard, topic: topic, id: id, partition: partition,
			body: func(dst []byte, b *binding) []byte {
				m := wire.Settle{Handle: b.Handle, Partition: uint16(partition), Group: []byte(queue), Ranges: some}
				return m.Append(dst)
			},
		}, r.Parse)
		if err != nil {
			return left, err
		}
		left += int(r.Lost)
	}
	return left, nil
}

// splitRanges splits ranges into pieces whose count fits the wire format.
func splitRanges(ranges []wire.PendingRange) []wire.LeaseRange {
	parts := make([]wire.LeaseRange, 0, len(ranges))
	for _, r := range ranges {
		for first, left := r.First, r.Count; left > 0; {
			n := min(left, math.MaxUint32)
			parts = append(parts, wire.LeaseRange{First: first, Count: uint32(n)})
			first, left = first+n, left-n
		}
	}
	return parts
}
