package server

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// resolve gives a topic a handle on this connection. With wire.FlagCreate it creates a missing topic if that is allowed.
func (b *binary) resolve(f wire.Frame, _ time.Time) error {
	var m wire.Resolve
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	asked := actionDescribe
	if f.Flags&wire.FlagCreate != 0 && !allows(b.s.who, asked, m.Topic) {
		asked = actionPublish // which who creates a topic by resolving it is about to do: the error speaks of that
	}
	if err := b.allowed(asked, m.Topic); err != nil {
		return err
	}
	srv := b.s.loop.srv
	if t := srv.registry.Topic(m.Topic); t != nil {
		return b.resolved(f.Correlation, t)
	}
	if f.Flags&wire.FlagCreate == 0 || srv.opts.NoAutoCreate {
		return srv.registry.NotFound(m.Topic)
	}
	if err := b.allowed(actionPublish, m.Topic); err != nil {
		return err
	}
	return b.work(f.Op, f.Correlation, func() (func(time.Time) error, error) {
		t, err := srv.registry.Create(m.Topic, 0, nil)
		if errors.Is(err, wire.CodeTopicExists) {
			err = nil
		}
		return func(time.Time) error { return b.resolved(f.Correlation, t) }, err
	})
}

func (b *binary) resolved(correlation uint32, t *partition.Topic) error {
	handle, ok := b.handles[t]
	if !ok {
		if len(b.topics) >= maxHandles {
			return wire.Errorf(wire.CodeLimit, "a connection resolves at most %d topics", maxHandles)
		}
		handle = uint16(len(b.topics))
		b.topics = append(b.topics, t)
		if b.handles == nil {
			b.handles = map[*partition.Topic]uint16{}
		}
		b.handles[t] = handle
	}
	c := t.Config()
	reply := wire.ResolveReply{
		Handle: handle, ID: t.ID(), Partitions: uint16(len(t.Partitions())),
		Level: c.Level, Hash: c.Hash, MaxRecord: uint32(c.MaxRecord),
	}
	b.replyTo(wire.OpResolve, correlation, 0, reply.Append)
	return nil
}

func (b *binary) createTopic(f wire.Frame, _ time.Time) error {
	var m wire.CreateTopic
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.allowed(actionAdmin, m.Topic); err != nil {
		return err
	}
	if err := b.s.mayBind(m.Settings); err != nil {
		return err
	}
	return b.workTopic(f, func(r *partition.Registry) (*partition.Topic, error) {
		t, err := r.Create(m.Topic, int(m.Partitions), m.Settings)
		if errors.Is(err, wire.CodeTopicExists) && f.Flags&wire.FlagIfNotExists != 0 {
			return t, nil
		}
		return t, err
	})
}

func (b *binary) alterTopic(f wire.Frame, _ time.Time) error {
	var m wire.AlterTopic
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.allowed(actionAdmin, m.Topic); err != nil {
		return err
	}
	if err := b.s.mayBind(m.Settings); err != nil {
		return err
	}
	return b.workTopic(f, func(r *partition.Registry) (*partition.Topic, error) {
		return r.Alter(m.Topic, int(m.Partitions), m.Settings)
	})
}

// workTopic runs a change of a topic on a worker and answers with a TopicInfo.
func (b *binary) workTopic(f wire.Frame, change func(r *partition.Registry) (*partition.Topic, error)) error {
	op, correlation := f.Op, f.Correlation
	return b.work(op, correlation, func() (func(time.Time) error, error) {
		t, err := change(b.s.loop.srv.registry)
		return func(time.Time) error {
			info := t.Info()
			b.replyTo(op, correlation, 0, info.Append)
			return nil
		}, err
	})
}

func (b *binary) describeTopic(f wire.Frame, _ time.Time) error {
	var m wire.TopicName
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.allowed(actionDescribe, m.Topic); err != nil {
		return err
	}
	t := b.s.loop.srv.registry.Topic(m.Topic)
	if t == nil {
		return b.s.loop.srv.registry.NotFound(m.Topic)
	}
	info := t.Info()
	b.reply(f, info.Append)
	return nil
}

// maxListed bounds the topics in one reply, and maxListedBytes their size, so that they fit a frame.
const (
	maxListed      = 1000
	maxListedBytes = 4 << 20
)

func (b *binary) listTopics(f wire.Frame, _ time.Time) error {
	var m wire.ListTopics
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	topics := b.s.loop.srv.registry.Topics()
	from, found := slices.BinarySearchFunc(topics, m.After, func(t *partition.Topic, name string) int {
		return strings.Compare(t.Name(), name)
	})
	if found {
		from++
	}
	var list wire.TopicList
	size := 0
	for _, t := range topics[from:] {
		if !allows(b.s.who, actionDescribe, t.Name()) {
			continue
		}
		if len(list.Topics) >= min(int(m.Limit), maxListed) || size > maxListedBytes {
			list.More = true
			break
		}
		info := t.Info()
		size += len(info.Partitions)*33 + len(info.Settings)*64
		list.Topics = append(list.Topics, info)
	}
	b.reply(f, list.Append)
	return nil
}

func (b *binary) deleteTopic(f wire.Frame, _ time.Time) error {
	var m wire.TopicName
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.allowed(actionAdmin, m.Topic); err != nil {
		return err
	}
	return b.workEmpty(f, func(r *partition.Registry) error { return r.Delete(m.Topic) })
}

func (b *binary) purgeTopic(f wire.Frame, _ time.Time) error {
	var m wire.PurgeTopic
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	if err := b.allowed(actionAdmin, m.Topic); err != nil {
		return err
	}
	return b.workEmpty(f, func(r *partition.Registry) error { return r.Purge(m.Topic, m.Partition, m.Before) })
}

// workEmpty runs a change of topics on a worker and answers with an empty body.
func (b *binary) workEmpty(f wire.Frame, change func(r *partition.Registry) error) error {
	op, correlation := f.Op, f.Correlation
	return b.work(op, correlation, func() (func(time.Time) error, error) {
		err := change(b.s.loop.srv.registry)
		return func(time.Time) error {
			b.replyTo(op, correlation, 0, nil)
			return nil
		}, err
	})
}
