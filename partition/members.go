package partition

import (
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// SetFence lets only commits of this generation through for a group, and none while it is 0.
func (p *Partition) SetFence(groupName string, generation uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.SetFence(groupName, generation)
}

// LiftFence lets commits of generation 0 through: the group has no members that read the partition.
func (p *Partition) LiftFence(groupName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.LiftFence(groupName)
}

// checkFence refuses commits of a generation that does not hold the partition. The caller holds mu.
func (p *Partition) checkFence(groupName string, generation uint32) error {
	switch err := p.state.MayCommit(groupName, generation); {
	case err == nil:
		return nil
	case generation == 0:
		return wire.Errorf(wire.CodeFenced, "group %q has members that read %s: only they may commit, or a seek", groupName, p)
	}
	return wire.Errorf(wire.CodeFenced, "%s is not assigned under generation %d of group %q", p, generation, groupName)
}

// Seek stores a group's next offset, whoever holds the partition. The caller fences the holder first.
// It returns the index of the state entry. Offsets beyond the visible end are refused.
func (p *Partition) Seek(groupName string, offset uint64, now time.Time) (index uint64, err error) {
	if err := p.checkOffset(groupName, offset); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commitLocked(groupName, offset, now)
}

// CheckSeek returns the error that Seek would return before it tries.
func (p *Partition) CheckSeek(groupName string, offset uint64) error {
	return p.checkOffset(groupName, offset)
}

// Pause stops or resumes a group or queue: a paused queue leases nothing, and that members of a group
// read nothing is theirs to see to. It returns the index of the state entry, 0 when nothing changed.
func (p *Partition) Pause(groupName string, pause bool, now time.Time) (index uint64, err error) {
	index, err = p.pause(groupName, pause, now)
	if err == nil && index != 0 && !pause {
		p.moved() // leases wait
	}
	return index, err
}

func (p *Partition) pause(groupName string, pause bool, now time.Time) (index uint64, err error) {
	if err := p.checkGroup(groupName); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.Paused(groupName) == pause {
		return 0, nil
	}
	if err := p.state.CheckPause(groupName); err != nil {
		return 0, wire.Errorf(wire.CodeLimit, "%s cannot pause group %q: %v", p, groupName, err)
	}
	return p.logLocked(group.AppendPause(p.command[:0], groupName, pause), now)
}

// Paused reports whether a group or queue is paused.
func (p *Partition) Paused(groupName string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Paused(groupName)
}

// Knows reports whether anything is stored about a group or queue of this name.
func (p *Partition) Knows(groupName string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knowsLocked(groupName)
}

func (p *Partition) knowsLocked(groupName string) bool {
	_, committed := p.state.Committed(groupName)
	return committed || p.state.Queue(groupName) != nil || p.state.Paused(groupName)
}

// Generations returns the first of n numbers that were never returned before, also not before a
// restart. It may wait for the disk. With an error they are not reserved: a restart may return them
// again.
func (r *Registry) Generations(n uint32) (first uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dataMu.Lock()
	first = max(1, r.data.Generations)
	r.dataMu.Unlock()
	if first+n < first {
		return 0, wire.Errorf(wire.CodeLimit, "all generations of members are used up")
	}
	return first, r.change(change{Generations: first + n})
}
