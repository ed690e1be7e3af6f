package client

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/rafka-mq/rafka/wire"
)

// Members returns the members of a group, or those of all groups when group is empty. Groups
// without members are absent.
func (c *Client) Members(ctx context.Context, group string) (groups []wire.GroupMembers, err error) {
	m := wire.Groups{Group: group}
	err = c.named(ctx, call{op: wire.OpMembers}, "", m.Append, func(b []byte) error { return json.Unmarshal(b, &groups) })
	return groups, err
}

// Move says how a seek changes the position of a group in one partition.
type Move struct {
	Partition int
	Known     bool   // the group has committed in the partition
	From, To  uint64 // offsets to read next, now and after the seek; From is the first offset if not Known
}

// PlanSeek says how a seek to a position would move a group in the given partitions of a topic; nil
// means all partitions. It changes nothing; pass the result to SeekGroup.
func (c *Client) PlanSeek(ctx context.Context, group, topic string, partitions []int, to Position) ([]Move, error) {
	var info wire.TopicInfo
	var committed map[int]uint64
	both, asking := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		info, err = c.Topic(asking, topic)
		return err
	})
	both.Go(func() (err error) {
		committed, err = c.Committed(asking, group, topic)
		return err
	})
	if err := both.Wait(); err != nil {
		return nil, err
	}
	if partitions == nil {
		for p := range info.Partitions {
			if info.Partitions[p].Status != wire.StatusForeign {
				partitions = append(partitions, p)
			}
		}
	}
	partitions = slices.Sorted(slices.Values(partitions))
	replies, err := c.offsetsOf(ctx, topic, partitions, to, group)
	if err != nil {
		return nil, err
	}
	moves := make([]Move, 0, len(partitions))
	for i, o := range replies {
		p := partitions[i]
		m := Move{Partition: p, From: o.First, To: o.Offset}
		if offset, ok := committed[p]; ok {
			m.Known, m.From = true, offset
		}
		moves = append(moves, m)
	}
	return moves, nil
}

// SeekGroup sets the position of a group on one topic: for each partition, the offset to read next.
// It returns when the position is durable. A group that does not exist yet will start there.
// Running members continue from there after the message they are handling; what they had not
// committed before the seek is not committed any more. A queue has no position: a seek does not move one of the same
// name. DeleteGroup makes it begin anew.
func (c *Client) SeekGroup(ctx context.Context, group, topic string, offsets map[int]uint64) error {
	m := wire.SeekGroup{Group: group, Topic: topic}
	for _, p := range slices.Sorted(maps.Keys(offsets)) {
		if err := checkPartition(wire.OpSeekGroup, topic, p); err != nil {
			return err
		}
		m.Offsets = append(m.Offsets, wire.PartitionOffset{Partition: uint16(p), Offset: offsets[p]})
	}
	return c.named(ctx, call{op: wire.OpSeekGroup}, topic, m.Append, nil)
}

// PauseGroup pauses a group or queue on one topic, or on all its topics when topic is empty, until
// ResumeGroup is called. The pause survives a restart of the broker. When PauseGroup returns, a
// queue delivers no more messages; the members of a group may still handle a few until they hear of
// the pause.
func (c *Client) PauseGroup(ctx context.Context, group, topic string) error {
	return c.pauseGroup(ctx, group, topic, true)
}

// ResumeGroup ends a pause that PauseGroup began.
func (c *Client) ResumeGroup(ctx context.Context, group, topic string) error {
	return c.pauseGroup(ctx, group, topic, false)
}

func (c *Client) pauseGroup(ctx context.Context, group, topic string, pause bool) error {
	m := wire.PauseGroup{Group: group, Topic: topic, Pause: pause}
	return c.named(ctx, call{op: wire.OpPauseGroup}, topic, m.Append, nil)
}
