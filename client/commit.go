package client

import (
	"cmp"
	"context"
	"slices"

	"github.com/rafka-mq/rafka/wire"
)

// Commit stores the position of a group: for each partition, the offset of the first message that
// it has not handled. It returns when the position is durable. The error is
// wire.CodeOffsetOutOfRange when an offset is beyond the visible end; then nothing is stored. It is
// wire.CodeFenced while the group has members on the topic, because they commit; use SeekGroup
// then. Commit also moves back: what the broker takes last counts. That may be a Commit whose context
// has ended, or one that was sent again because its connection broke.
func (c *Client) Commit(ctx context.Context, group, topic string, offsets map[int]uint64) error {
	return c.commit(ctx, group, commitKey{topic: topic}, offsets)
}

// commitKey is what the partitions of one commit have in common.
type commitKey struct {
	topic string
	id    [16]byte // of the topic whose messages were handled; zero means any topic of that name
	tenure
}

func (c *Client) commit(ctx context.Context, group string, key commitKey, offsets map[int]uint64) error {
	m := wire.Commit{Group: []byte(group), Generation: key.generation}
	for p, off := range offsets {
		if err := checkPartition(wire.OpCommit, key.topic, p); err != nil {
			return err
		}
		m.Offsets = append(m.Offsets, wire.PartitionOffset{Partition: uint16(p), Offset: off})
	}
	slices.SortFunc(m.Offsets, func(a, b wire.PartitionOffset) int { return cmp.Compare(a.Partition, b.Partition) })
	return c.request(ctx, call{
		op: wire.OpCommit, topic: key.topic, id: key.id, broker: key.broker, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			m.Handle = b.Handle
			return m.Append(dst)
		},
	}, nil)
}

// Committed returns the committed offset of each partition of a topic. Partitions on which the
// group has not committed are absent. A commit counts from when the broker has taken it, which is
// before it is durable and Commit returns: if the broker crashes in between, the offset goes back.
func (c *Client) Committed(ctx context.Context, group, topic string) (map[int]uint64, error) {
	offsets, _, err := c.committed(ctx, group, topic)
	return offsets, err
}

// committed is Committed that also returns the id of the topic.
func (c *Client) committed(ctx context.Context, group, topic string) (offsets map[int]uint64, id [16]byte, err error) {
	var r wire.CommittedReply
	err = c.request(ctx, call{
		op: wire.OpCommitted, topic: topic, partition: anyPartition,
		body: func(dst []byte, b *binding) []byte {
			id = b.ID // of the last attempt, which is answered
			m := wire.Committed{Handle: b.Handle, Group: group}
			return m.Append(dst)
		},
	}, r.Parse)
	if err != nil {
		return nil, id, err
	}
	offsets = make(map[int]uint64, len(r.Offsets))
	for _, o := range r.Offsets {
		offsets[int(o.Partition)] = o.Offset
	}
	return offsets, id, nil
}
