package partition

import (
	"cmp"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// SetFence makes Commit accept only this generation for a group, and none while generation is 0.
func (p *Partition) SetFence(groupName string, generation uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.SetFence(groupName, generation)
}

// LiftFence makes Commit accept generation 0 for a group: it has no members that read the partition.
func (p *Partition) LiftFence(groupName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.LiftFence(groupName)
}

// checkFenceLocked refuses a commit whose generation does not hold the partition.
func (p *Partition) checkFenceLocked(groupName string, generation uint32) error {
	switch err := p.state.MayCommit(groupName, generation); {
	case err == nil:
		return nil
	case generation == 0:
		return wire.Errorf(wire.CodeFenced, "group %q has members that read %s: only they may commit, or a seek", groupName, p)
	}
	return wire.Errorf(wire.CodeFenced, "%s is not assigned under generation %d of group %q", p, generation, groupName)
}

// Seek commits an offset for a group regardless of who holds the partition. The caller must fence the holder
// first. It returns the index of the state entry. Offsets beyond the visible end are refused.
func (p *Partition) Seek(groupName string, offset uint64, now time.Time) (index uint64, err error) {
	if err := p.checkOffset(groupName, offset); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commitLocked(groupName, offset, now)
}

// CheckSeek returns the error with which Seek would refuse, or nil.
func (p *Partition) CheckSeek(groupName string, offset uint64) error {
	return p.checkOffset(groupName, offset)
}

// Pause stores that a group or queue is paused or resumed. A paused queue leases nothing. Pausing a group is not
// enforced here: its members are told, and stop reading. It returns the index of the state entry or, when nothing
// changes, that of the last entry, because an earlier change may not be durable yet.
func (p *Partition) Pause(groupName string, pause bool, now time.Time) (index uint64, err error) {
	index, err = p.pause(groupName, pause, now)
	if err == nil && !pause {
		p.moved() // workers may lease again
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
		return p.log.Positions().NextIndex - 1, nil
	}
	if pause {
		if err := cmp.Or(p.checkPauseLocked(groupName), p.checkTotal(groupName)); err != nil {
			return 0, err
		}
	}
	defer p.countLocked()
	return p.logLocked(group.AppendPause(p.command[:0], groupName, pause), now)
}

// checkPauseLocked refuses another pause when the partition has as many as it may.
func (p *Partition) checkPauseLocked(name string) error {
	if err := p.state.CheckPause(name); err != nil {
		return wire.Errorf(wire.CodeLimit, "%s cannot pause group %q: %v", p, name, err)
	}
	return nil
}

// Paused reports whether a group or queue is paused.
func (p *Partition) Paused(groupName string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Paused(groupName)
}

// Knows reports whether a group or queue with this name has any state here.
func (p *Partition) Knows(groupName string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.knowsLocked(groupName)
}

func (p *Partition) knowsLocked(groupName string) bool {
	_, committed := p.state.Committed(groupName)
	return committed || p.state.Queue(groupName) != nil || p.state.Paused(groupName)
}

// Generations reserves n numbers that were never returned before, not even before a restart, and returns the
// first. It waits for the disk. After an error the numbers are not reserved: they may be returned again.
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
