package group

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

var (
	// ErrNotMember is returned by Coordinator.Heartbeat, Leave and others for a member that is not
	// known: it was not heard of for its session timeout, or the coordinator is a new one. It may join
	// again.
	ErrNotMember = errors.New("group: not a member")
	// ErrReplaced is returned by Coordinator.Join and Heartbeat for a member whose instance id a later
	// member has taken over.
	ErrReplaced = errors.New("group: replaced by another member with the same instance id")
	// ErrMembers is returned by Coordinator.Join when the group or the coordinator has no room.
	ErrMembers = errors.New("group: too many members")
	// ErrMember is returned by Coordinator.Join for a field that is not allowed.
	ErrMember = errors.New("group: member refused")
)

// Defaults and limits of members.
const (
	// DefaultSession is how long a member may be silent.
	DefaultSession = 10 * time.Second
	// DefaultHandover is how long a member may take to finish with a partition that another one gets.
	DefaultHandover = 30 * time.Second
	// MinSession keeps heartbeats from becoming a load.
	MinSession = 100 * time.Millisecond
	// MaxSession is how long a crash may go unnoticed.
	MaxSession = 30 * time.Minute
	// MaxHandover is how long a rebalance may take.
	MaxHandover = time.Hour
	// MaxGroupMembers bounds the members of a group: a change looks at all of them.
	MaxGroupMembers = 2_000
	// MaxMembers bounds the members of all groups together.
	MaxMembers = 20_000
	// MaxTopics bounds the topics of a member.
	MaxTopics = 1_000
	// DisconnectGrace is how long the partitions of a member without an instance id wait for it after
	// its connection broke: long enough for a client to connect again, short enough that a crash hurts
	// little.
	DisconnectGrace = time.Second
	// SettleTime is how long a group that comes back after a restart of the broker waits for its other
	// members before their partitions are given to those that are there already.
	SettleTime = 2 * time.Second
	// maxReplaced is how many former ids of an instance are remembered, to tell zombies the truth.
	maxReplaced = 8
)

// Partition names a partition of a topic.
type Partition struct {
	Topic  string
	Number uint16
}

// Topic is what a Coordinator needs to know of a topic.
type Topic struct {
	ID         [16]byte // another one after the topic was deleted and made again
	Partitions []uint16 // in ascending order; those that can be consumed here
}

// Join is what a member says when it joins.
type Join struct {
	Group  string
	Member string // unique for every process and run
	// Instance, when not empty, stays the same over restarts of the member: a restart within Session
	// moves no partition.
	Instance string
	// Connection is where the member can be told things; see Coordinator.Disconnected.
	Connection uint64
	Topics     []string
	Session    time.Duration // DefaultSession when 0
	Handover   time.Duration // DefaultHandover when 0
	// Claims are the partitions that the member works on, as far as it knows. They count when the
	// coordinator does not know the member, which is so after a restart of the broker.
	Claims []Partition
}

// normal returns j with defaults and topics in order, each once.
func (j Join) normal() (Join, error) {
	if j.Session == 0 {
		j.Session = DefaultSession
	}
	if j.Handover == 0 {
		j.Handover = DefaultHandover
	}
	j.Topics = slices.Clone(j.Topics)
	slices.Sort(j.Topics)
	j.Topics = slices.Compact(j.Topics)
	switch {
	case j.Group == "" || len(j.Group) > MaxName || j.Member == "" || len(j.Member) > MaxName || len(j.Instance) > MaxName:
		return j, ErrMember
	case len(j.Topics) == 0 || len(j.Topics) > MaxTopics:
		return j, ErrMember
	case j.Session < MinSession || j.Session > MaxSession || j.Handover < 0 || j.Handover > MaxHandover:
		return j, ErrMember
	}
	return j, nil
}

// member is one member of a group.
type member struct {
	Join
	joined   time.Time
	heard    time.Time
	deadline time.Time // gone when it is not heard of before
	revision uint32    // of its assignment
	leaving  int       // partitions that it has to hand over
	index    int       // in crowd.order, during decide
	replaced []string  // ids under which the instance was known before
}

// slot is one partition of a group. Invariant: generation is 0 exactly while nobody holds it.
type slot struct {
	partition  Partition
	target     *member
	holder     *member
	generation uint32    // the fence: the holder's commits carry it
	withdrawn  uint32    // the holder's revision from which on it may not keep the partition; 0 if it may
	until      time.Time // when a withdrawn partition is taken away
	claimed    *member   // who worked on it before the coordinator was there
}

// crowd is the membership of one group.
type crowd struct {
	name       string
	members    map[string]*member
	order      []*member // by id
	instances  map[string]*member
	topics     map[string]Topic // of all members, as of the last look
	slots      []slot           // sorted by topic and number
	settled    time.Time        // until then only claimed partitions are given out
	generation uint32           // of the last change
	rebalances uint64
}

// place returns where a member with this id is in order, or would be.
func (g *crowd) place(id string) int {
	i, _ := slices.BinarySearchFunc(g.order, id, func(m *member, id string) int { return cmp.Compare(m.Member, id) })
	return i
}

// enter puts m among the members under an id.
func (g *crowd) enter(m *member, id string) {
	i := g.place(id)
	m.Member = id
	g.members[id] = m
	g.order = slices.Insert(g.order, i, m)
}

// drop takes m out of the members.
func (g *crowd) drop(m *member) {
	i := g.place(m.Member)
	g.order = slices.Delete(g.order, i, i+1)
	delete(g.members, m.Member)
}

// slot returns the slot of a partition, nil when there is none.
func (g *crowd) slot(p Partition) *slot {
	i, ok := slices.BinarySearchFunc(g.slots, p, func(s slot, p Partition) int { return comparePartitions(s.partition, p) })
	if !ok {
		return nil
	}
	return &g.slots[i]
}

// Held is one partition of an assignment.
type Held struct {
	Partition
	// Generation is to be sent with commits. With another one than before reading starts again at the
	// committed offset: a seek has moved it, or others may have.
	Generation uint32
}

// Assignment is what a member should work on. A partition that was in an earlier assignment and is
// not in this one has to be finished and let go; see Coordinator.Heartbeat.
type Assignment struct {
	Revision   uint32
	Partitions []Held // sorted
}

// Fence says who may commit on a partition: who has the generation, nobody while it is 0, and
// everybody when Open is set, because the group has no members that read the topic.
type Fence struct {
	Group string
	Partition
	Generation uint32
	Open       bool
}

// Notice says that a member has another assignment.
type Notice struct{ Group, Member string }

// Effects are what a coordinator wants to be done: the fences first, in order, then the notices.
type Effects struct {
	Fences  []Fence
	Notices []Notice
}
