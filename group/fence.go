package group

import "errors"

// errFenced is returned by State.MayCommit for a commit by somebody who does not hold the partition.
var errFenced = errors.New("group: fenced")

// SetFence allows only commits of this generation for a group, and none when generation is 0. Fences are
// soft, like the membership: they are in no command and in no snapshot.
func (s *State) SetFence(group string, generation uint32) { s.fences[group] = generation }

// LiftFence removes the fence of a group: it has no members that read the partition.
func (s *State) LiftFence(group string) { delete(s.fences, group) }

// MayCommit returns nil when a commit of this generation is allowed, and otherwise errFenced. Generation 0
// is that of a client that is no member, which may commit only while the group has no fence.
func (s *State) MayCommit(group string, generation uint32) error {
	fence, fenced := s.fences[group]
	if !fenced && generation == 0 || fenced && generation != 0 && generation == fence {
		return nil
	}
	return errFenced
}

// IsLate reports whether a commit, which MayCommit allows, is a member's that lies before what is committed.
// A member only moves forward under one generation. So the commit was sent earlier, on a connection that the
// member has given up since, and must not undo what came after it. Only a seek moves members back.
func (s *State) IsLate(group string, offset uint64, generation uint32) bool {
	c := s.commits[group]
	return generation != 0 && c != nil && offset < c.Offset
}
