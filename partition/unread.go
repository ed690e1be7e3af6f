package partition

import (
	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// setAside makes a partition unusable because the state of its consumers or producers cannot be read. Without
// that state messages would be delivered again or not at all, and others stored twice. The files stay as they
// are, and the other partitions are served. When reading failed and nothing is damaged, that may pass: see reread.
func (p *Partition) setAside(err error) {
	p.state, p.passing = group.New(), passes(err)
	p.damaged.Store(true)
	again := ""
	if p.passing {
		p.log.Suspend()
		again = "; the broker tries again every " + loadRetry.String()
	} else {
		p.log.Refuse(err)
	}
	p.fail(wire.Errorf(wire.CodeReadOnly, "%s is not served: its consumer state cannot be read: %v%s", p, err, again))
	p.topic.registry.logger.Error("partition is not served: its consumer state cannot be read",
		"topic", p.topic.name, "partition", p.number, "err", err)
}

// unread returns the partitions whose state could not be read when the broker started, and may be readable later.
func (r *Registry) unread() (list []*Partition) {
	for _, t := range r.Topics() {
		for _, p := range t.Partitions() {
			if p.passing {
				list = append(list, p)
			}
		}
	}
	return list
}

// reread tries again to read the state of a partition that was set aside, and then serves it. It returns false when
// that has to be tried again.
func (r *Registry) reread(p *Partition) (done bool) {
	// Requests may look at p meanwhile, and must not wait for the disk.
	fresh := &Partition{topic: p.topic, number: p.number, log: p.log, state: group.New()}
	err := fresh.replay()
	if passes(err) {
		return false
	}
	r.mu.Lock() // so that the topic is not deleted meanwhile
	defer r.mu.Unlock()
	switch {
	case p.topic.deleted.Load():
	case err != nil:
		p.log.Refuse(err)
		r.logger.Error("the consumer state of a partition is damaged",
			"topic", p.topic.name, "partition", p.number, "err", err)
	default:
		r.serve(p, fresh)
	}
	return true
}

// serve makes a partition usable with the state of fresh. The caller holds mu.
func (r *Registry) serve(p, fresh *Partition) {
	p.mu.Lock()
	p.producers.mu.Lock()
	p.state = fresh.state
	p.producers.byID, p.producers.turn, p.producers.ids = fresh.producers.byID, fresh.producers.turn, fresh.producers.ids
	p.expiring.Store(fresh.expiring.Load())
	err := p.log.Resume()
	p.beginLocked()
	p.producers.mu.Unlock()
	p.mu.Unlock()
	p.failure.Store(nil)
	p.damaged.Store(false)
	p.notify(p.log.Positions(), err)
	if err := r.reopenSchedule(p); err != nil {
		r.logger.Error("open what is scheduled", "topic", p.topic.name, "partition", p.number, "err", err)
	}
	r.logger.Info("partition is served: its consumer state could be read", "topic", p.topic.name, "partition", p.number)
	if p.topic.before > 0 {
		r.resumeGrowth(p.topic, p.topic.record())
	}
}
