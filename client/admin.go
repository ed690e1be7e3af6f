package client

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rafka-mq/rafka/wire"
)

// AllPartitions stands for every partition, where a method accepts it.
const AllPartitions = -1

// TopicOptions configures a topic.
type TopicOptions struct {
	Partitions int            // 0: the broker's default for a new topic, no change for an existing one
	Settings   []wire.Setting // spelled as in the configuration file; others keep their default or value
}

// CreateTopic creates a topic. The error is wire.CodeTopicExists when a topic of that name exists.
func (c *Client) CreateTopic(ctx context.Context, name string, o TopicOptions) (wire.TopicInfo, error) {
	return c.changeTopic(ctx, call{op: wire.OpCreateTopic, once: true}, name, o)
}

// EnsureTopic creates a topic unless one of that name exists. It does not change an existing topic,
// even one with other options.
func (c *Client) EnsureTopic(ctx context.Context, name string, o TopicOptions) (wire.TopicInfo, error) {
	return c.changeTopic(ctx, call{op: wire.OpCreateTopic, flags: wire.FlagIfNotExists}, name, o)
}

// AlterTopic changes the settings of a topic, and adds partitions when o.Partitions is greater than
// their number. Partitions cannot be removed. The error is wire.CodeTopicNotFound when there is no such topic, and
// wire.CodeInvalid for settings and numbers that are not possible; then nothing is changed.
func (c *Client) AlterTopic(ctx context.Context, name string, o TopicOptions) (wire.TopicInfo, error) {
	return c.changeTopic(ctx, call{op: wire.OpAlterTopic}, name, o)
}

func (c *Client) changeTopic(ctx context.Context, r call, name string, o TopicOptions) (info wire.TopicInfo, err error) {
	if o.Partitions < 0 || o.Partitions > wire.MaxPartitions {
		we := wire.Errorf(wire.CodeInvalid, "%d partitions, the limit is %d", o.Partitions, wire.MaxPartitions)
		return info, explain(we, r.op, name, anyPartition)
	}
	m := wire.CreateTopic{Topic: name, Partitions: uint16(o.Partitions), Settings: o.Settings}
	err = c.named(ctx, r, name, m.Append, info.Parse)
	return info, err
}

// DeleteTopic removes a topic with all its messages, groups and queues. The error is wire.CodeTopicNotFound when there is
// no such topic.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	m := wire.TopicName{Topic: name}
	return c.named(ctx, call{op: wire.OpDeleteTopic, once: true}, name, m.Append, nil)
}

// PurgeTopic removes the messages before an offset from one partition, or from AllPartitions. With
// PurgeAll as the offset it removes every visible message.
func (c *Client) PurgeTopic(ctx context.Context, name string, partition int, before uint64) error {
	p, err := partitionOrAny(wire.OpPurgeTopic, name, partition)
	if err != nil {
		return err
	}
	m := wire.PurgeTopic{Topic: name, Partition: p, Before: before}
	return c.named(ctx, call{op: wire.OpPurgeTopic}, name, m.Append, nil)
}

// PurgeAll is the offset that makes PurgeTopic remove every visible message.
const PurgeAll uint64 = math.MaxUint64

// Topic describes one topic. The error is wire.CodeTopicNotFound when it does not exist; it is not created.
func (c *Client) Topic(ctx context.Context, name string) (info wire.TopicInfo, err error) {
	m := wire.TopicName{Topic: name}
	err = c.named(ctx, call{op: wire.OpDescribeTopic}, name, m.Append, info.Parse)
	return info, err
}

// Topics describes all topics, ordered by name.
func (c *Client) Topics(ctx context.Context) ([]wire.TopicInfo, error) {
	var all []wire.TopicInfo
	m := wire.ListTopics{Limit: 500}
	for {
		var page wire.TopicList
		if err := c.named(ctx, call{op: wire.OpListTopics}, "", m.Append, page.Parse); err != nil {
			return nil, err
		}
		all = append(all, page.Topics...)
		if !page.More || len(page.Topics) == 0 {
			return all, nil
		}
		m.After = page.Topics[len(page.Topics)-1].Topic
	}
}

// Groups returns the position of a group or queue in each partition of its topics, or those of all groups and
// queues when group is empty. It returns none for a group that does not exist.
func (c *Client) Groups(ctx context.Context, group string) (infos []wire.GroupInfo, err error) {
	m := wire.Groups{Group: group}
	err = c.named(ctx, call{op: wire.OpGroups}, "", m.Append, func(b []byte) error { return json.Unmarshal(b, &infos) })
	return infos, err
}

// DeleteGroup deletes a group or queue on one topic, or on all topics when topic is empty. The error is wire.CodeFenced
// while the group has members there, and wire.CodeGroupNotFound when there is no such group or queue.
func (c *Client) DeleteGroup(ctx context.Context, group, topic string) error {
	m := wire.DeleteGroup{Group: group, Topic: topic}
	return c.named(ctx, call{op: wire.OpDeleteGroup, once: true}, topic, m.Append, nil)
}

// Stats returns the broker's counters as JSON.
func (c *Client) Stats(ctx context.Context) (stats json.RawMessage, err error) {
	err = c.named(ctx, call{op: wire.OpStats}, "", nil, func(b []byte) error {
		stats = b
		return nil
	})
	return stats, err
}

// Ping measures the time of one request to the broker and its answer.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	var start time.Time
	err := c.named(ctx, call{op: wire.OpPing}, "", func(dst []byte) []byte {
		start = time.Now()
		return dst
	}, nil)
	return time.Since(start), err
}

// named sends a request that names its topic in its body, or has none, instead of using a handle.
func (c *Client) named(ctx context.Context, r call, topic string, body func([]byte) []byte, parse func([]byte) error) error {
	r.partition = anyPartition
	r.topic, r.named = topic, true
	if body != nil {
		r.body = func(dst []byte, _ *binding) []byte { return body(dst) }
	}
	return c.request(ctx, r, parse)
}

// Offsets resolves a position to an offset in one partition, and returns which offsets can be read
// there.
func (c *Client) Offsets(ctx context.Context, topic string, partition int, p Position) (wire.OffsetsReply, error) {
	if err := p.checkGroup(wire.OpOffsets, topic, ""); err != nil {
		return wire.OffsetsReply{}, err
	}
	return c.offsets(ctx, topic, partition, p, "")
}

// OffsetsOf is Offsets for several partitions, which are asked about at the same time. Its answers are in the order of
// the partitions.
func (c *Client) OffsetsOf(ctx context.Context, topic string, partitions []int, p Position) ([]wire.OffsetsReply, error) {
	if err := p.checkGroup(wire.OpOffsets, topic, ""); err != nil {
		return nil, err
	}
	return c.offsetsOf(ctx, topic, partitions, p, "")
}

// mostOffsets bounds the requests of one OffsetsOf that are in progress, and so its goroutines.
const mostOffsets = 64

// offsetsOf is OffsetsOf for positions that depend on what group has committed.
func (c *Client) offsetsOf(ctx context.Context, topic string, partitions []int, p Position, group string) ([]wire.OffsetsReply, error) {
	replies := make([]wire.OffsetsReply, len(partitions))
	requests, ctx := errgroup.WithContext(ctx)
	requests.SetLimit(mostOffsets)
	for i, n := range partitions {
		requests.Go(func() (err error) {
			replies[i], err = c.offsets(ctx, topic, n, p, group)
			return err
		})
	}
	if err := requests.Wait(); err != nil {
		return nil, err
	}
	return replies, nil
}

// offsets is Offsets for positions that depend on what group has committed.
func (c *Client) offsets(ctx context.Context, topic string, partition int, p Position, group string) (r wire.OffsetsReply, err error) {
	if err := checkPartition(wire.OpOffsets, topic, partition); err != nil {
		return r, err
	}
	err = c.request(ctx, call{
		op: wire.OpOffsets, topic: topic, partition: partition,
		body: func(dst []byte, bd *binding) []byte {
			m := wire.Offsets{Handle: bd.Handle, Partition: uint16(partition), From: p.wire(), Group: group}
			return m.Append(dst)
		},
	}, r.Parse)
	if err != nil {
		return r, err
	}
	r.Offset = p.offset(r)
	return r, nil
}

func partitionOrAny(op wire.Op, topic string, partition int) (uint16, error) {
	if partition == AllPartitions {
		return wire.AnyPartition, nil
	}
	if err := checkPartition(op, topic, partition); err != nil {
		return 0, err
	}
	return uint16(partition), nil
}
