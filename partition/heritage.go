package partition

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// heritage is what a new partition of a topic takes over from the others: the queues, the groups that have
// committed, and which of them are paused, as far as all the others agree. So the consumers of the topic do not miss
// messages that are published to the new partition before they look there.
type heritage struct {
	queues map[string]QueuePolicy
	groups map[string]struct{}
	paused map[string]struct{}
}

// heritageOf returns what all usable partitions of parts have in common.
func heritageOf(parts []*Partition) heritage {
	var h heritage
	for _, p := range parts {
		if p.Err() != nil {
			continue
		}
		own := p.heritage()
		if h.queues == nil {
			h = own
			continue
		}
		keepCommon(h.queues, own.queues)
		keepCommon(h.groups, own.groups)
		keepCommon(h.paused, own.paused)
	}
	return h
}

// keepCommon deletes the keys from m that other does not have.
func keepCommon[V any](m, other map[string]V) {
	maps.DeleteFunc(m, func(name string, _ V) bool {
		_, ok := other[name]
		return !ok
	})
}

// heritage returns the queues, groups and pauses of p.
func (p *Partition) heritage() heritage {
	h := heritage{queues: map[string]QueuePolicy{}, groups: map[string]struct{}{}, paused: map[string]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.state.Groups() {
		if g.Mode == group.ModeQueue {
			h.queues[g.Name] = p.state.Queue(g.Name).Policy()
		} else {
			h.groups[g.Name] = struct{}{}
		}
	}
	for name := range p.state.PausedNames() {
		h.paused[name] = struct{}{}
	}
	return h
}

// equal reports whether both are the same.
func (h heritage) equal(other heritage) bool {
	return maps.Equal(h.queues, other.queues) && maps.Equal(h.groups, other.groups) && maps.Equal(h.paused, other.paused)
}

// missing returns the names in before that now does not have.
func missing[V any](before, now map[string]V) []string {
	gone := maps.Clone(before)
	maps.DeleteFunc(gone, func(name string, _ V) bool {
		_, ok := now[name]
		return ok
	})
	return slices.Sorted(maps.Keys(gone))
}

// inherit adds what p lacks of h, and gives its queues the policies in h. New queues and groups start at offset 0.
func (p *Partition) inherit(h heritage, now time.Time) error {
	if p.Err() != nil {
		return nil // another broker's
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heirs == nil {
		p.heirs = map[string]struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(h.queues)) {
		q := p.state.Queue(name)
		if q != nil && q.Policy() == h.queues[name] {
			continue
		}
		if q == nil {
			if err := p.checkOwnRoomLocked(name, group.ModeQueue); err != nil {
				return err
			}
			p.heirs[name] = struct{}{}
		}
		if _, err := p.logLocked(group.AppendOpen(nil, name, 0, h.queues[name]), now); err != nil {
			return err
		}
		p.topic.registry.timer.add(p)
	}
	for _, name := range slices.Sorted(maps.Keys(h.groups)) {
		if _, ok := p.state.Committed(name); ok {
			continue
		}
		if err := p.checkOwnRoomLocked(name, group.ModeOffsets); err != nil {
			return err
		}
		if _, err := p.logLocked(group.AppendCommit(nil, name, 0, now), now); err != nil {
			return err
		}
		p.heirs[name] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(h.paused)) {
		if p.state.Paused(name) {
			continue
		}
		if err := p.checkPauseLocked(name); err != nil {
			return err
		}
		if _, err := p.logLocked(group.AppendPause(nil, name, true), now); err != nil {
			return err
		}
	}
	return nil
}

// extend opens new partitions until the topic has n, and returns all of them when what they inherit is on the disk.
// It does not publish them. It first removes what earlier attempts left behind that did not reach the metadata.
func (r *Registry) extend(t *Topic, n int) (parts []*Partition, h heritage, err error) {
	old := t.Partitions()
	if n == len(old) {
		return old, h, nil
	}
	if err := r.removeLeftovers(t, len(old), n); err != nil {
		return nil, h, err
	}
	h, now := heritageOf(old), r.opts.Now()
	parts = slices.Clone(old)
	for i := len(old); i < n; i++ {
		p, err := r.openPartition(t, i)
		if err != nil {
			return nil, h, wire.Errorf(wire.CodeStorage, "%v", err)
		}
		if err := p.inherit(h, now); err != nil {
			return nil, h, err
		}
		parts = append(parts, p)
	}
	return parts, h, syncAll(parts[len(old):])
}

// removeLeftovers removes what earlier attempts to give t more than have partitions left behind, and does not return nil
// before nothing is left of those below n: not even a directory whose removal has failed.
func (r *Registry) removeLeftovers(t *Topic, have, n int) error {
	left := slices.DeleteFunc(r.store.Logs(), func(id wire.Identity) bool {
		return id.Topic != t.id || id.Partition&^companion < uint32(have)
	})
	for i := have; i < n; i++ {
		id := wire.Identity{Topic: t.id, Partition: uint32(i)}
		left = append(left, id, companionID(id))
	}
	if err := r.store.RemoveLogs(left...); err != nil {
		return wire.Errorf(wire.CodeStorage, "remove what is left of an earlier growth: %v", err)
	}
	for _, id := range left {
		delete(r.companions, id)
	}
	return nil
}

// catchUp gives the new partitions, which are those from number have on, what changed on the others since extend.
// before is what they inherited then. A change that its last look at the others misses is made with Topic.All, which
// finds the new partitions.
func (r *Registry) catchUp(t *Topic, have int, before heritage) error {
	parts := t.Partitions()
	for {
		h, now := heritageOf(parts[:have]), r.opts.Now()
		if h.equal(before) {
			settleHeirs(parts[have:])
			return syncAll(parts[have:])
		}
		for _, p := range parts[have:] {
			if err := p.follow(before, h, now); err != nil {
				return err
			}
		}
		before = h
	}
}

// finishGrowth finishes the growth in rec, if there is one, and with it an earlier one that failed. The caller holds mu.
func (r *Registry) finishGrowth(t *Topic, rec *record, before heritage) error {
	if t.before > 0 {
		r.resumeGrowth(t, rec)
		return nil
	}
	if t.before = rec.Before; t.before == 0 {
		return nil
	}
	return r.endGrowth(t, rec, before)
}

// endGrowth is catchUp and then notes, without a wait for the disk, that the growth in rec is finished.
func (r *Registry) endGrowth(t *Topic, rec *record, before heritage) error {
	if err := r.catchUp(t, rec.Before, before); err != nil {
		return err
	}
	done := *rec
	done.Before = 0
	if err := r.appendChange(change{Put: &done}); err != nil {
		return err
	}
	t.before = 0
	return nil
}

// resumeGrowth gives new partitions what a crash or a failure kept them from taking over. Groups and queues that they have
// stay: nobody knows any more whether they were used there. When that fails, as it may on a full disk, the next change of
// the topic or the next start tries again, and so does a partition that is served again.
func (r *Registry) resumeGrowth(t *Topic, rec *record) {
	parts := t.Partitions()
	err := errUnserved
	if !slices.ContainsFunc(parts, func(p *Partition) bool { return p.damaged.Load() }) {
		err = r.endGrowth(t, rec, heritageOf(parts[rec.Before:]))
	}
	if err != nil {
		r.logger.Warn("new partitions may lack groups of the others", "topic", t.name, "err", err)
	}
}

var errUnserved = errors.New("partition: not every partition is served")

// settleHeirs forgets what new partitions have inherited: from now on they are like the others.
func settleHeirs(parts []*Partition) {
	for _, p := range parts {
		p.mu.Lock()
		p.heirs = nil
		p.mu.Unlock()
	}
}

// follow changes p as the other partitions have changed, from before to h.
func (p *Partition) follow(before, h heritage, now time.Time) error {
	if p.Err() != nil {
		return nil // another broker's
	}
	for _, name := range slices.Concat(missing(before.queues, h.queues), missing(before.groups, h.groups)) {
		if err := p.dropInherited(name, now); err != nil {
			return err
		}
	}
	if err := p.inherit(h, now); err != nil {
		return err
	}
	p.moved() // a new policy may allow more deliveries
	for _, name := range missing(before.paused, h.paused) {
		if _, err := p.Pause(name, false, now); err != nil {
			return err
		}
	}
	return nil
}
