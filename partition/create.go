package partition

import (
	"cmp"
	"maps"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/wire"
)

// creation is one call of Create. The call that gets Registry.mu creates the topics of all calls that wait by then,
// so that they share one flush, as publishes do, and one copy of the map of topics.
type creation struct {
	name       string
	partitions int
	config     Config

	done  bool
	topic *Topic
	err   error
}

// Create makes a topic and returns when it is on the disk. 0 partitions means Options.Partitions. When the topic
// exists, Create returns it together with a *wire.Error with CodeTopicExists.
func (r *Registry) Create(name string, partitions int, changes []wire.Setting) (*Topic, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c, err := r.defaults.with(changes)
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

// createAsked creates the topics of all waiting calls. A topic is visible only when it is durable. The caller holds
// mu.
func (r *Registry) createAsked() {
	r.askedMu.Lock()
	asked := r.asked
	r.asked = nil
	r.askedMu.Unlock()
	topics, made := maps.Clone(*r.byName.Load()), map[string]*creation{}
	var unbound []*Topic // of made, those that are to be bound
	for _, a := range asked {
		a.done = true
		if a.topic = topics[a.name]; a.topic != nil {
			a.err = wire.Errorf(wire.CodeTopicExists, "topic %q exists", a.name)
			continue
		}
		if a.err = r.beginTopic(a, topics, unbound); a.err != nil {
			continue
		}
		topics[a.name], made[a.name] = a.topic, a
		if a.config.Subjects != "" {
			unbound = append(unbound, a.topic)
		}
	}
	if len(made) == 0 {
		return
	}
	err := flushError(r.meta.Sync())
	for _, a := range asked {
		switch m := made[a.name]; {
		case m == a:
			if a.err = r.finishTopic(a, err); a.err != nil {
				delete(topics, a.name)
				r.takeBack(a.topic)
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
	for _, t := range unbound {
		if topics[t.name] == t {
			r.bound.add(t, t.Config())
		}
	}
}

// beginTopic checks the topic, against the topics given too, and appends it to the metadata log without a wait
// for the disk. made are those of them that are not bound to their subjects yet.
func (r *Registry) beginTopic(a *creation, topics map[string]*Topic, made []*Topic) error {
	if err := r.checkPartitions(0, a.partitions); err != nil {
		return err
	}
	if err := r.checkSubjects(topics, made, a.name, &a.config); err != nil {
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

// finishTopic opens the partitions of a topic, unless the flush of the metadata failed.
func (r *Registry) finishTopic(a *creation, flushErr error) error {
	if flushErr != nil {
		return flushErr
	}
	if err := r.grow(a.topic, a.partitions); err != nil {
		return wire.Errorf(wire.CodeStorage, "%v", err)
	}
	return nil
}

// takeBack removes a topic from the metadata that could not be made. The entry that made it may become durable yet, and
// the name may be used again: there must not be two topics of one name after a restart.
func (r *Registry) takeBack(t *Topic) {
	if err := r.appendChange(change{Deleted: uuid.UUID(t.id).String()}); err != nil { // nor is any other change possible
		r.logger.Warn("a topic that was not made may exist after a restart", "topic", t.name, "err", err)
	}
}
