package client

import (
	"context"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/keyhash"
)

// Get returns the latest message with a key on a compacted topic. It looks in the partition where
// the topic places the key. The error is wire.CodeKeyNotFound when there is no such message, when
// the latest one has no value, or when its time to live is over; it is wire.CodeInvalid when the
// topic is not compacted. The first Get in a partition makes the broker read all of it. A client notices within
// 30 s that partitions were added, when it publishes as well as here; messages stay where they are. The caller may keep
// the message.
func (c *Client) Get(ctx context.Context, topic string, key []byte) (*Message, error) {
	if len(key) > wire.MaxKeyBytes {
		we := wire.Errorf(wire.CodeTooLarge, "a key has at most %d bytes", wire.MaxKeyBytes)
		return nil, explain(we, wire.OpGet, topic, anyPartition)
	}
	var e wire.Entries
	var b *binding
	partition := anyPartition
	err := c.request(ctx, call{
		op: wire.OpGet, topic: topic, partition: anyPartition,
		body: func(dst []byte, bd *binding) []byte {
			b, partition = bd, keyhash.Partition(bd.Hash, key, int(bd.Partitions))
			m := wire.Get{Handle: bd.Handle, Partition: uint16(partition), Key: key}
			return m.Append(dst)
		},
	}, e.Parse)
	if err != nil {
		return nil, err
	}
	cur := cursor{keep: true}
	cur.reset(e.Bytes, b.seed(partition), e.Next-1)
	switch ok, err := cur.more(); {
	case err != nil:
		return nil, explain(err, wire.OpGet, topic, partition)
	case !ok || cur.offset() != e.Next-1:
		return nil, fmt.Errorf("get %s/%d: %w: not the record that was announced", topic, partition, ErrProtocol)
	}
	m := &Message{Topic: topic, Partition: partition}
	cur.take(m)
	return m, nil
}
