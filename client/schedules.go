package client

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
	"github.com/rafka-mq/rafka/wire/codec"
)

// Scheduled is a message that the broker will publish later.
type Scheduled struct {
	Message           // with Cron and Zone; if another client scheduled a batch, its first message
	ID      uint64    // identifies it in its partition
	Due     time.Time // when the broker publishes it next
}

// Schedules iterates over the scheduled messages of one partition of a topic, or of AllPartitions.
// Those of one partition come in the order in which they are due. Several partitions are asked about at the same time.
// An error ends the iteration.
func (c *Client) Schedules(ctx context.Context, topic string, partition int) iter.Seq2[*Scheduled, error] {
	return func(yield func(*Scheduled, error) bool) {
		first, next := partition, partition+1
		if partition == AllPartitions {
			info, err := c.Topic(ctx, topic)
			if err != nil {
				yield(nil, err)
				return
			}
			first, next = 0, len(info.Partitions)
		}
		lists := ahead(ctx, next-first, func(ctx context.Context, i int) (wire.ScheduleList, error) {
			return c.schedules(ctx, topic, first+i, wire.Schedules{Limit: wire.MaxScheduleList})
		})
		p := first
		for list, err := range lists {
			if !c.schedulesOf(ctx, topic, p, list, err, yield) {
				return
			}
			p++
		}
	}
}

// schedulesOf yields the scheduled messages of one partition, of which the first list, or why there is none, is known.
func (c *Client) schedulesOf(
	ctx context.Context, topic string, partition int, list wire.ScheduleList, err error, yield func(*Scheduled, error) bool,
) bool {
	for whole := uint64(len(list.Items)) == list.Total; ; whole = false { // of later lists, Total does not tell
		if err != nil {
			yield(nil, err)
			return false
		}
		for i := range list.Items {
			s, err := newScheduled(topic, partition, &list.Items[i])
			if err != nil {
				yield(nil, err)
				return false
			}
			if !yield(s, nil) {
				return false
			}
		}
		if len(list.Items) == 0 || whole {
			return true
		}
		last := list.Items[len(list.Items)-1]
		list, err = c.schedules(ctx, topic, partition, wire.Schedules{
			Limit: wire.MaxScheduleList, AfterDue: last.Due, AfterID: last.ID,
		})
	}
}

// Schedule returns a scheduled message. The error is wire.CodeOffsetOutOfRange when no message with
// that id waits in the partition.
func (c *Client) Schedule(ctx context.Context, topic string, partition int, id uint64) (*Scheduled, error) {
	if id == 0 {
		return nil, noSchedule(topic, partition, id)
	}
	list, err := c.schedules(ctx, topic, partition, wire.Schedules{ID: id, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, noSchedule(topic, partition, id)
	}
	return newScheduled(topic, partition, &list.Items[0])
}

func noSchedule(topic string, partition int, id uint64) error {
	we := wire.Errorf(wire.CodeOffsetOutOfRange, "no message with the id %d waits to be published", id)
	return explain(we, wire.OpSchedules, topic, partition)
}

func (c *Client) schedules(ctx context.Context, topic string, partition int, m wire.Schedules) (list wire.ScheduleList, err error) {
	if err := checkPartition(wire.OpSchedules, topic, partition); err != nil {
		return list, err
	}
	err = c.request(ctx, call{
		op: wire.OpSchedules, topic: topic, partition: partition,
		body: func(dst []byte, b *binding) []byte {
			m.Handle, m.Partition = b.Handle, uint16(partition)
			return m.Append(dst)
		},
	}, list.Parse)
	return list, err
}

func newScheduled(topic string, partition int, it *wire.ScheduleInfo) (*Scheduled, error) {
	s := &Scheduled{ID: it.ID, Due: time.UnixMilli(it.Due)}
	b, err := wire.ParseBatch(it.Batch)
	if err == nil {
		b, err = codec.Unpack(b, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("scheduled message %d of %s/%d: %w", it.ID, topic, partition, err)
	}
	s.Topic, s.Partition, s.Cron, s.Zone = topic, partition, it.Spec, it.Zone
	for rec, err := range b.Records() {
		if err != nil {
			return nil, fmt.Errorf("scheduled message %d of %s/%d: %w", it.ID, topic, partition, err)
		}
		s.fill(&rec, it.Due)
		break
	}
	return s, nil
}

// CancelScheduled cancels scheduled messages of one partition by their ids. The ids belong to the topic: in another one
// that has its name by now, they may be those of other messages. CancelScheduled returns how many of
// them were not waiting any more: those are published, or about to be. The error is wire.CodeBusy
// when a recurring message could not be published all the time, because the disk is full.
// When an answer is lost with its connection, the request is sent again, and messages that the first
// one cancelled then count as not waiting, too.
func (c *Client) CancelScheduled(ctx context.Context, topic string, partition int, ids ...uint64) (missing int, err error) {
	if err := checkPartition(wire.OpCancel, topic, partition); err != nil {
		return 0, err
	}
	const most = 10_000
	for some := range slices.Chunk(ids, most) {
		var r wire.SettleReply
		err := c.request(ctx, call{
			op: wire.OpCancel, topic: topic, partition: partition,
			body: func(dst []byte, b *binding) []byte {
				m := wire.Cancel{Handle: b.Handle, Partition: uint16(partition), IDs: some}
				return m.Append(dst)
			},
		}, r.Parse)
		if err != nil {
			return missing, err
		}
		missing += int(r.Lost)
	}
	return missing, nil
}
