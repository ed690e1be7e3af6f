package group

import (
	"iter"
	"maps"
)

// AppendPause appends the command that pauses or resumes the ordered group and the queue of this name.
// The name must have passed CheckPause.
func AppendPause(dst []byte, group string, pause bool) []byte {
	kind := byte(kindResume)
	if pause {
		kind = kindPause
	}
	return appendHeader(dst, kind, group)
}

// CheckPause returns nil when a group may be paused, and otherwise errName or ErrTooMany.
func (s *State) CheckPause(group string) error {
	if len(group) == 0 || len(group) > maxName {
		return errName
	}
	if _, ok := s.paused[group]; !ok && len(s.paused) >= MaxGroups {
		return ErrTooMany
	}
	return nil
}

// Paused reports whether a group or queue is paused. The caller enforces it: Queue.Lease does not look.
func (s *State) Paused(group string) bool {
	_, ok := s.paused[group]
	return ok
}

// PausedNames iterates over the paused names in no particular order. The state must not change meanwhile.
func (s *State) PausedNames() iter.Seq[string] { return maps.Keys(s.paused) }

func (s *State) applyPause(r *reader, name []byte, pause bool) error {
	if err := r.end(); err != nil {
		return err
	}
	if !pause {
		delete(s.paused, string(name))
		return nil
	}
	if err := s.CheckPause(string(name)); err != nil {
		return err
	}
	s.paused[string(name)] = struct{}{}
	return nil
}
