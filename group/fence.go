package group

import "errors"

// ErrFenced is returned by State.MayCommit for a commit of somebody who does not hold the partition.
var ErrFenced = errors.New("group: fenced")

// SetFence lets only those commit for a group who know this generation; 0 lets nobody. Fences are
// soft: they are in no command and in no snapshot, because the membership is not either.
func (s *State) SetFence(group string, generation uint32) { s.fences[group] = generation }

// LiftFence lets everybody commit for a group: it has no members that read the partition.
func (s *State) LiftFence(group string) { delete(s.fences, group) }

// MayCommit returns nil if a commit of this generation may be planned, else ErrFenced. Generation 0 is
// of somebody who is no member: that is allowed while there are none.
func (s *State) MayCommit(group string, generation uint32) error {
	fence, fenced := s.fences[group]
	if !fenced && generation == 0 || fenced && generation != 0 && generation == fence {
		return nil
	}
	return ErrFenced
}
