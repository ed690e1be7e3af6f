package server

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// topics emits the series of topics and of partitions.
func (c collector) topics(e *emitter, topics []topicSurvey) {
	partitions := 0
	for i := range topics {
		t := &topics[i]
		if e.room(cutTopics, i) {
			t.emit(e)
		}
		for _, p := range t.parts {
			if e.room(cutPartitions, partitions) {
				p.emit(e, t.topic.Name())
			}
			partitions++
		}
	}
}

func (t *topicSurvey) emit(e *emitter) {
	topic := []string{"topic", t.topic.Name()}
	s := &t.sum
	e.counter("rafka_topic_published_messages_total", "Messages appended.", float64(s.PublishedMessages), topic...)
	e.counter("rafka_topic_published_bytes_total", "Bytes of batches appended.", float64(s.PublishedBytes), topic...)
	e.counter("rafka_topic_delivered_messages_total", "Messages delivered to consumers.", float64(s.DeliveredMessages), topic...)
	e.counter("rafka_topic_delivered_bytes_total", "Bytes of entries delivered to consumers.", float64(s.DeliveredBytes), topic...)
	e.counter("rafka_topic_acked_messages_total", "Messages acknowledged in queues or covered by commits.", float64(s.AckedMessages), topic...)
	e.counter("rafka_topic_redelivered_messages_total", "Deliveries after the first.", float64(s.Redelivered), topic...)
	e.counter("rafka_topic_dead_lettered_messages_total", "Messages moved to a dead-letter topic.", float64(s.DeadLettered), topic...)
	e.counter("rafka_topic_duplicate_messages_total", "Messages that were not stored because their id was known.", float64(s.Deduplicated), topic...)
	e.counter("rafka_topic_expired_messages_total", "Messages left out of a delivery because their time to live was over.", float64(s.Expired), topic...)
	e.counter("rafka_topic_dropped_messages_total", "Messages that retention removed before a queue delivered them.", float64(s.LostUndelivered), topic...)
	e.gauge("rafka_topic_segments", "Segment files.", float64(t.log.segments), topic...)
}

func (p *partitionSurvey) emit(e *emitter, topic string) {
	labels := []string{"topic", topic, "partition", strconv.Itoa(p.number)}
	e.gauge("rafka_partition_start_offset", "First offset stored.", float64(p.first), labels...)
	e.gauge("rafka_partition_end_offset", "End of what consumers may read.", float64(p.limit), labels...)
	e.gauge("rafka_partition_size_bytes", "Bytes stored.", float64(p.bytes), labels...)
}

// groups emits the series of groups and queues, summed over the partitions of a topic, and those of
// ordered groups by partition. It returns the names of the ordered groups.
func (c collector) groups(e *emitter, now time.Time) map[string]bool {
	n, offsets, ordered := 0, 0, map[string]bool{}
	for _, t := range c.srv.registry.Topics() {
		sums := map[groupKind]*wire.GroupInfo{}
		for _, p := range t.Partitions() {
			for _, g := range p.GroupsCold(now) {
				addGroup(sums, &g)
				if g.Mode != "group" {
					continue
				}
				ordered[g.Group] = true
				if e.room(cutOffsets, offsets) {
					e.gauge("rafka_group_committed_offset", "Offset to be read next.", float64(g.Offset),
						"group", g.Group, "topic", g.Topic, "partition", strconv.Itoa(g.Partition))
				}
				offsets++
			}
		}
		for _, g := range slices.SortedFunc(maps.Values(sums), byGroup) {
			if e.room(cutGroups, n) {
				emitGroup(e, g)
			}
			n++
		}
	}
	return ordered
}

// members emits the series of the members of groups. The names in ordered are those of the groups that have
// committed something; one without members has zero of them, so that an alert can see it.
func (c collector) members(e *emitter, ordered map[string]bool) {
	var groups []group.GroupInfo
	c.srv.coordinator.ask(func(time.Time) { groups = c.srv.coordinator.group.Groups("") })
	for i, g := range groups {
		delete(ordered, g.Group)
		if !e.room(cutMembers, i) {
			continue
		}
		e.gauge("rafka_group_members", "Members of the group.", float64(len(g.Members)), "group", g.Group)
		e.counter("rafka_group_rebalances_total", "Changes of the assignment since the group got its first member.",
			float64(g.Rebalances), "group", g.Group)
	}
	for i, name := range slices.Sorted(maps.Keys(ordered)) {
		if e.room(cutMembers, len(groups)+i) {
			e.gauge("rafka_group_members", "Members of the group.", 0, "group", name)
		}
	}
}

// groupKind names a group or a queue on a topic: one of each may have the same name.
type groupKind struct{ name, mode string }

func byGroup(a, b *wire.GroupInfo) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Mode, b.Mode))
}

// addGroup adds the figures of a group on one partition.
func addGroup(sums map[groupKind]*wire.GroupInfo, g *wire.GroupInfo) {
	key := groupKind{g.Group, g.Mode}
	s := sums[key]
	if s == nil {
		s = &wire.GroupInfo{Group: g.Group, Topic: g.Topic, Mode: g.Mode}
		sums[key] = s
	}
	s.Lag += g.Lag
	s.LagSeconds = max(s.LagSeconds, g.LagSeconds)
	s.InFlight += g.InFlight
	s.Retrying += g.Retrying
	s.Parked += g.Parked
	s.Dead += g.Dead
	s.Paused = s.Paused || g.Paused
	if g.CommittedAt.After(s.CommittedAt) {
		s.CommittedAt = g.CommittedAt
	}
}

func emitGroup(e *emitter, g *wire.GroupInfo) {
	labels := []string{"group", g.Group, "topic", g.Topic, "mode", g.Mode}
	e.gauge("rafka_group_lag_messages", "Messages not yet committed or settled.", float64(g.Lag), labels...)
	e.gauge("rafka_group_lag_seconds", "Age of the oldest message not yet committed or settled.", g.LagSeconds, labels...)
	e.gauge("rafka_group_in_flight_messages", "Messages leased now.", float64(g.InFlight), labels...)
	e.gauge("rafka_group_retrying_messages", "Messages that wait for their redelivery.", float64(g.Retrying), labels...)
	e.gauge("rafka_group_parked_messages", "Messages that wait for an earlier one of their key.", float64(g.Parked), labels...)
	e.gauge("rafka_group_paused", "1 while the group or queue is paused.", boolValue(g.Paused), labels...)
	if !g.CommittedAt.IsZero() {
		e.gauge("rafka_group_last_commit_timestamp_seconds", "When an ordered group last committed, in seconds since 1970.",
			float64(g.CommittedAt.UnixMilli())/1000, labels...)
	}
	e.gauge("rafka_group_dead_messages", "Messages on their way to the dead-letter topic.", float64(g.Dead), labels...)
}
