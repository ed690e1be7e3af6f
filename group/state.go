package group

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

var (
	// errCommand is returned by State.Apply for a command that is damaged or of an unknown kind.
	errCommand = errors.New("group: damaged or unknown command")
	// ErrVersion is returned by State.Apply and Restore for bytes of a newer version of Rafka.
	ErrVersion = errors.New("group: written by a newer version")
	// errSnapshot is returned by Restore for a snapshot that is damaged.
	errSnapshot = errors.New("group: damaged snapshot")
	// errName is returned by State.Check for a name that is empty or longer than maxName.
	errName = errors.New("group: name is empty or too long")
	// ErrTooMany is returned by State.Check and State.CheckPause, and by State.Apply for a group that was
	// not checked, when the partition has MaxGroups of them.
	ErrTooMany = errors.New("group: too many groups in the partition")
)

// State is the state of all consumers of one partition. Create one with New or Restore.
type State struct {
	first   uint64 // records below were removed by retention
	commits map[string]*Commit
	queues  map[string]*Queue
	paused  map[string]struct{}
	total   totals
	fences  map[string]uint32 // soft: the generation that a commit must carry, by group; see SetFence
}

// totals are the sums of all queues.
type totals struct {
	messages uint64 // that are neither done nor fresh
	reasons  uint64 // bytes of the reasons of dead letters
}

// Commit is how far an ordered group has read.
type Commit struct {
	Offset uint64    // the next offset to read: the group has finished all messages below
	At     time.Time // when it committed, in whole milliseconds
}

// New returns an empty state.
func New() *State {
	return &State{
		commits: make(map[string]*Commit), queues: make(map[string]*Queue),
		paused: make(map[string]struct{}), fences: make(map[string]uint32),
	}
}

// Check returns nil when a group with this name and mode exists or may be created, and otherwise errName or
// ErrTooMany. Call it before AppendCommit and AppendOpen.
func (s *State) Check(name string, mode Mode) error {
	if len(name) == 0 || len(name) > maxName {
		return errName
	}
	if len(s.commits)+len(s.queues) < MaxGroups {
		return nil
	}
	_, exists := s.commits[name]
	if mode == ModeQueue {
		_, exists = s.queues[name]
	}
	if !exists {
		return ErrTooMany
	}
	return nil
}

// Size returns the number of ordered groups, queues and pauses.
func (s *State) Size() int { return len(s.commits) + len(s.queues) + len(s.paused) }

// Tracked returns how many messages of all queues are neither done nor fresh.
func (s *State) Tracked() uint64 { return s.total.messages }

// Reasons returns how many bytes the reasons of the dead letters of all queues have.
func (s *State) Reasons() uint64 { return s.total.reasons }

// Committed returns the last commit of an ordered group, and false when it has none. The commit does not move
// when retention removes the records at its offset.
func (s *State) Committed(group string) (Commit, bool) {
	c, ok := s.commits[group]
	if !ok {
		return Commit{}, false
	}
	return *c, true
}

// Queue returns the queue with this name, or nil. It is valid until a command drops it.
func (s *State) Queue(name string) *Queue { return s.queues[name] }

// Queues iterates over all queues in no particular order, without an allocation. Meanwhile the queues may
// change, but none may be created or dropped.
func (s *State) Queues() iter.Seq2[string, *Queue] { return maps.All(s.queues) }

// Mode is how a group consumes the partition.
type Mode uint8

const (
	// ModeOffsets is an ordered group, which commits offsets.
	ModeOffsets Mode = 1
	// ModeQueue is a queue, which settles single messages.
	ModeQueue Mode = 2
)

// String returns "offsets" or "queue".
func (m Mode) String() string {
	if m == ModeQueue {
		return "queue"
	}
	return "offsets"
}

// Info is one line of the list of groups.
type Info struct {
	Name   string
	Mode   Mode
	Offset uint64 // all messages below are done: an ordered group's commit, a queue's floor
}

// Groups returns all groups sorted by name. When an ordered group and a queue have the same name, the group
// comes first.
func (s *State) Groups() []Info {
	list := make([]Info, 0, len(s.commits)+len(s.queues))
	for name, c := range s.commits {
		list = append(list, Info{name, ModeOffsets, c.Offset})
	}
	for name, q := range s.queues {
		list = append(list, Info{name, ModeQueue, q.floor()})
	}
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Mode, b.Mode))
	})
	return list
}

// TruncatePrefix tells the state that retention removed the records below first. The queues drop their
// leases, redeliveries and dead letters below. It returns how many messages of all queues were lost, which
// means that they were neither done nor leased. It is not a command, because the log itself knows where it
// starts, and because the outcome is the same before and after other commands. Call it after a restart, too.
func (s *State) TruncatePrefix(first uint64) uint64 {
	if first <= s.first {
		return 0
	}
	s.first = first
	var lost uint64
	for _, q := range s.queues {
		lost += q.truncate(first)
	}
	return lost
}

// Apply changes the state by one command. It does not keep the command. A command for a queue that does not
// exist changes nothing, because the queue may have been dropped after it was planned. After an error the
// state is as before. ErrTooMany is the same on every replay: skip the command and go on. After any other
// error the rest of the log must not be applied.
func (s *State) Apply(command []byte) error {
	if err := CheckCommand(command); err != nil {
		return err
	}
	r := reader{b: command}
	version, kind, name := r.byte(), r.byte(), r.name()
	if r.bad || version != commandVersion {
		return errCommand
	}
	switch kind {
	case kindCommit:
		return s.applyCommit(&r, name)
	case kindDrop:
		return s.applyDrop(&r, name)
	case kindPause, kindResume:
		return s.applyPause(&r, name, kind == kindPause)
	case kindOpen, kindOpenOrdered:
		return s.applyOpen(&r, name, kind == kindOpenOrdered)
	case kindAck, kindFail, kindBury:
		return s.applyQueue(&r, kind, name)
	}
	return errCommand
}

// CheckCommand returns ErrVersion for a command of a newer version, and otherwise nil.
func CheckCommand(command []byte) error {
	r := reader{b: command}
	if version, _, _ := r.byte(), r.byte(), r.name(); !r.bad && version > commandVersion {
		return fmt.Errorf("%w: command version %d, not %d", ErrVersion, version, commandVersion)
	}
	return nil
}

// end returns errCommand unless all of the command was read and valid.
func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return errCommand
	}
	return nil
}

func (s *State) applyCommit(r *reader, name []byte) error {
	c := Commit{Offset: r.uint(1<<64 - 1), At: time.UnixMilli(r.moment())}
	if err := r.end(); err != nil {
		return err
	}
	if old := s.commits[string(name)]; old != nil {
		*old = c
		return nil
	}
	if err := s.Check(string(name), ModeOffsets); err != nil {
		return err
	}
	s.commits[string(name)] = &c
	return nil
}

func (s *State) applyDrop(r *reader, name []byte) error {
	if err := r.end(); err != nil {
		return err
	}
	delete(s.commits, string(name))
	if q := s.queues[string(name)]; q != nil {
		s.total.messages -= q.tracked()
		s.total.reasons -= q.reasons
		delete(s.queues, string(name))
	}
	delete(s.paused, string(name))
	return nil
}

func (s *State) applyOpen(r *reader, name []byte, ordered bool) error {
	start, policy := r.uint(1<<64-1), r.policy()
	policy.OrderByKey = ordered
	if err := r.end(); err != nil {
		return err
	}
	if q := s.queues[string(name)]; q != nil {
		q.policy = policy
		q.keepOrder(ordered)
		return nil
	}
	if err := s.Check(string(name), ModeQueue); err != nil {
		return err
	}
	s.queues[string(name)] = newQueue(string(name), max(start, s.first), policy, &s.total)
	return nil
}

func (s *State) applyQueue(r *reader, kind byte, name []byte) error {
	var at int64
	var reason []byte
	if kind == kindFail {
		at, reason = r.moment(), r.bytes(MaxReason)
	}
	ranges := r.spans(kind == kindFail)
	if err := r.end(); err != nil {
		return err
	}
	q := s.queues[string(name)]
	if q == nil {
		return nil
	}
	switch kind {
	case kindAck:
		q.applyAck(ranges)
	case kindFail:
		q.applyFail(ranges, at, reason)
	case kindBury:
		q.applyBury(ranges)
	}
	return nil
}
