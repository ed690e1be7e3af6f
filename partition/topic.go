package partition

import (
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/rafka-mq/rafka/wire"
)

// Topic is a name, a configuration and partitions.
type Topic struct {
	registry *Registry
	name     string
	id       [16]byte
	config   atomic.Pointer[Config]
	parts    atomic.Pointer[[]*Partition]
	deleted  atomic.Bool

	before int // record.Before; guarded by Registry.mu
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.name }

// ID returns the topic's identity. A topic that is deleted and created again gets another one.
func (t *Topic) ID() [16]byte { return t.id }

// Config returns the current configuration. The caller must not modify it.
func (t *Topic) Config() *Config { return t.config.Load() }

// Err returns a *wire.Error with CodeTopicDeleted once the topic was deleted, even when its name is in use again.
func (t *Topic) Err() error {
	if t.deleted.Load() {
		return wire.Errorf(wire.CodeTopicDeleted, "topic %q was deleted", t.name)
	}
	return nil
}

// Partitions returns the partitions in the order of their numbers. The caller must not modify the slice.
func (t *Topic) Partitions() []*Partition { return *t.parts.Load() }

// All iterates over the partitions in the order of their numbers, and over those that are added meanwhile. Changes of a
// group on all partitions are made with it: a partition takes over what the others have when it is added.
func (t *Topic) All() iter.Seq[*Partition] {
	return func(yield func(*Partition) bool) {
		for i := 0; i < len(t.Partitions()); i++ {
			if !yield(t.Partitions()[i]) {
				return
			}
		}
	}
}

// Partition returns the partition with this number, or nil.
func (t *Topic) Partition(number uint16) *Partition {
	if parts := t.Partitions(); int(number) < len(parts) {
		return parts[number]
	}
	return nil
}

// effective returns the configuration with the sizes and ages of segments that hold: the logs choose those that are not set,
// and limit the others.
func (t *Topic) effective() Config {
	c := *t.Config()
	for _, p := range t.Partitions() {
		if p.log != nil {
			holds := p.log.Config()
			c.SegmentBytes, c.SegmentAge = holds.SegmentBytes, holds.SegmentAge
			break
		}
	}
	return c
}

// Info describes the topic to clients.
func (t *Topic) Info() wire.TopicInfo {
	info := wire.TopicInfo{Topic: t.name, ID: t.id, Settings: t.effective().settings()}
	for _, p := range t.Partitions() {
		info.Partitions = append(info.Partitions, p.info())
	}
	return info
}

// String returns "topic/number", the form in which all messages name a partition.
func (p *Partition) String() string { return fmt.Sprintf("%s/%d", p.topic.name, p.number) }
