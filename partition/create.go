package partition

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/wire"
)

// creation is a topic that somebody asked for. Whoever holds Registry.mu makes all that were asked for meanwhile:
// they share a flush, as publishes do, and a copy of the map of topics.
type creation struct {
	name       string
	partitions int
	config     Config

	done  bool
	topic *Topic
	err   error
}

// Create makes a topic, durably. 0 partitions means the default. It returns the existing topic
// together with CodeTopicExists when there is one.
func (r *Registry) Create(name string, partitions int, changes []wire.Setting) (*Topic, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c, err := r.defaults.With(changes)
	if err != nil {
		return nil, err
	}
	if err := r.checkLevel(c); err != nil {
		return nil, err
	}
	a := &creation{name: name, partitions: cmp.Or(partitions, r.opts.Partitions), config: c}
	r.askedMu.Lock()
	r.asked = append(r.asked, a)
	r.askedMu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !a.done {
		r.createAsked()
	}
	return a.topic, a.err
}

// createAsked makes the topics that were asked for. Nobody sees one before it is durable. The caller holds mu.
func (r *Registry) createAsked() {
	r.askedMu.Lock()
	asked := r.asked
	r.asked = nil
	r.askedMu.Unlock()
	topics, bound := maps.Clone(*r.byName.Load()), slices.Clip(r.bound.Load().topics)
	made := map[string]*creation{}
	for _, a := range asked {
		a.done = true
		if a.topic = topics[a.name]; a.topic != nil {
			a.err = wire.Errorf(wire.CodeTopicExists, "topic %q exists", a.name)
			continue
		}
		if a.err = r.beginTopic(a, topics, bound); a.err != nil {
			continue
		}
		topics[a.name], made[a.name] = a.topic, a
		if a.config.Subjects != "" {
			bound = append(bound, a.topic)
		}
	}
	if len(made) == 0 {
		return
	}
	err := flushed(r.meta.Sync())
	for _, a := range asked {
		switch m := made[a.name]; {
		case m == a:
			if a.err = r.finishTopic(a, err); a.err != nil {
				delete(topics, a.name)
				a.topic, r.partitions = nil, r.partitions-a.partitions
				continue
			}
			r.logger.Info("topic created", "topic", a.name, "partitions", a.partitions)
		case m != nil && a.topic != nil:
			a.topic = m.topic
			a.err = cmp.Or(m.err, a.err)
		}
	}
	r.byName.Store(&topics)
	if len(bound) > len(r.bound.Load().topics) {
		r.rebind()
	}
}

// beginTopic writes the topic to the metadata log, after all that can refuse it beside the topics given.
func (r *Registry) beginTopic(a *creation, topics map[string]*Topic, bound []*Topic) error {
	if err := r.checkPartitions(0, a.partitions); err != nil {
		return err
	}
	if err := checkSubjects(topics, bound, a.name, &a.config); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return wire.Errorf(wire.CodeInternal, "make a topic id: %v", err)
	}
	if err := r.appendChange(change{Put: recordOf(id, a.name, a.partitions, a.config)}); err != nil {
		return err
	}
	a.topic = r.newTopic(id, a.name, &a.config)
	r.partitions += a.partitions
	return nil
}

// finishTopic opens the partitions of a topic when the flush of the metadata did not fail.
func (r *Registry) finishTopic(a *creation, flush error) error {
	if flush != nil {
		return flush
	}
	if err := r.grow(a.topic, a.partitions); err != nil {
		return wire.Errorf(wire.CodeStorage, "%v", err)
	}
	return nil
}
