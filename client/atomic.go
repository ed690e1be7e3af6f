package client

import (
	"context"
	"fmt"

	"github.com/rafka-mq/rafka/wire"
)

// PublishAtomic stores messages as one batch in one partition: all of them or none, at consecutive
// offsets, even if the broker crashes. It waits like Publish. The receipt is that of the first
// message.
//
// All messages must have the same topic, Level and TTL, and all or none of them a Time. They go to
// one partition: a message with a Key or Pinned must belong to the partition of the first.
// Scheduled messages are refused. Together the messages must fit in a frame, 8 MiB unless the
// broker is configured for less.
//
// On a topic with a dedupe window, nothing is stored when one of the IDs is known, and the error is
// wire.CodeDuplicate. A single message is answered as by Publish, with Receipt.Duplicate.
func (c *Client) PublishAtomic(ctx context.Context, ms ...*Message) (Receipt, error) {
	if len(ms) == 0 {
		we := wire.Errorf(wire.CodeInvalid, "an atomic batch without messages")
		return Receipt{}, explain(we, wire.OpPublish, "", anyPartition)
	}
	p := &c.producer
	name := ms[0].Topic
	for {
		if ctx.Err() != nil {
			return Receipt{}, fmt.Errorf("publish %s: %w", name, context.Cause(ctx))
		}
		t, err := p.topic(ctx, name)
		if err != nil {
			return Receipt{}, err
		}
		l, kind, size, err := t.together(ms)
		if outdated(err) {
			if now := t.learn(ctx); now != nil {
				t = now
				l, kind, size, err = t.together(ms)
			}
		}
		if err != nil {
			return Receipt{}, err
		}
		if err := c.awaitRoom(ctx, name, size); err != nil {
			return Receipt{}, err
		}
		w := p.waiter()
		if !l.addAll(ms, kind, size, w) {
			p.waiters.Put(w)
			p.budget.release(size)
			continue
		}
		if r, err := c.await(ctx, name, w); !isPlacedElsewhere(err) {
			return r, err
		}
	}
}

// together returns the lane that the messages of one batch go to, what they have in common, and
// their size.
func (t *topic) together(ms []*Message) (l *lane, kind batchKind, size int, err error) {
	if len(ms) > wire.MaxBatchRecords {
		return nil, kind, 0, t.refused(wire.CodeTooLarge, "an atomic batch of %d messages, the limit is %d", len(ms), wire.MaxBatchRecords)
	}
	first, err := t.place(ms[0])
	if err != nil {
		return nil, kind, 0, err
	}
	for i, m := range ms {
		own := t.p.c.kindOf(m)
		if i == 0 {
			kind = own
		}
		kind.ids = kind.ids || own.ids
		own.ids = kind.ids
		if m.Topic != t.name || own != kind {
			return nil, kind, 0, t.invalid("message %d of an atomic batch differs from the first in its topic, level or time to live, or in having a time", i)
		}
		if m.isLater() {
			return nil, kind, 0, t.invalid("message %d of an atomic batch is scheduled; publish it by itself", i)
		}
		if m.Key != nil || m.Pinned {
			at, err := t.place(m)
			if err != nil {
				return nil, kind, 0, err
			}
			if at != first {
				return nil, kind, 0, t.invalid("message %d of an atomic batch belongs to partition %d, the first one to %d: pin all to one partition",
					i, at.partition, first.partition)
			}
		}
		n, _, err := t.measure(m)
		if err != nil {
			return nil, kind, 0, err
		}
		size += n
	}
	if limit := t.info.Load().maxAtomic; size > limit {
		return nil, kind, 0, t.tooLarge("atomic batch has", size, limit)
	}
	return first, kind, size, nil
}
