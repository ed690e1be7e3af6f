package group

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

var (
	// ErrNotMember is returned by Coordinator.Heartbeat and Leave for an unknown member: it was silent
	// for longer than its session, or the broker was restarted. It may join again.
	ErrNotMember = errors.New("group: not a member")
	// ErrReplaced is returned by Coordinator.Join, Heartbeat and Leave for a member whose instance id a
	// later member has taken over.
	ErrReplaced = errors.New("group: replaced by another member with the same instance id")
	// ErrMembers is returned by Coordinator.Join at maxGroupMembers or maxMembers.
	ErrMembers = errors.New("group: too many members")
	// ErrMember is returned by Coordinator.Join for a field outside its limits, and for a member that
	// changes its instance id.
	ErrMember = errors.New("group: member refused")
)

// Defaults and limits of members.
const (
	// defaultSession is the default of Join.Session.
	defaultSession = 10 * time.Second
	// defaultHandover is the default of Join.Handover.
	defaultHandover = 30 * time.Second
	// MinSession bounds Join.Session from below, so that heartbeats do not become a load.
	MinSession = 100 * time.Millisecond
	// MaxSession bounds Join.Session, the time for which a crash may go unnoticed.
	MaxSession = 30 * time.Minute
	// MaxHandover bounds Join.Handover, the time that a rebalance may take.
	MaxHandover = time.Hour
	// maxGroupMembers bounds the members of a group, because every change looks at all of them.
	maxGroupMembers = 2_000
	// maxMembers bounds the members of all groups together.
	maxMembers = 20_000
	// MaxTopics bounds the topics of a member.
	MaxTopics = 1_000
	// disconnectGrace is how long a member without an instance id keeps its partitions after its
	// connection broke: long enough for a client to reconnect, short enough for a quick takeover after a
	// crash.
	disconnectGrace = time.Second
	// settleTime is how long a group that comes back after a restart of the broker waits for all its
	// members to claim their partitions, before the first to come back get the others' partitions.
	settleTime = 2 * time.Second
	// maxReplaced is how many former member ids of an instance are remembered, for ErrReplaced.
	maxReplaced = 8
)

// Partition names a partition of a topic.
type Partition struct {
	Topic  string
	Number uint16
}

// Topic is what a Coordinator needs to know about a topic.
type Topic struct {
	ID         [16]byte // changes when the topic is deleted and created again
	Partitions []uint16 // numbers, ascending, of the partitions that can be consumed here
}

// Join is what a member says when it joins.
type Join struct {
	Group  string
	Member string // unique for every run of a process
	// Instance, when not empty, stays the same when the member is restarted: a restart within Session
	// moves no partition.
	Instance string
	// Connection identifies the connection on which the member joined; see Coordinator.Disconnected.
	Connection uint64
	Topics     []string
	// Session is how long the member may be silent. 0 means defaultSession.
	Session time.Duration
	// Handover is how long the member may take to finish with a partition that another one gets. 0 means
	// defaultHandover.
	Handover time.Duration
	// Claims are the partitions that the member believes to hold. The coordinator heeds claims to free
	// partitions only, so they matter after a restart of the broker.
	Claims []Partition
}

// normal returns j with its defaults filled in and its topics sorted, each once. The error is ErrMember.
func (j Join) normal() (Join, error) {
	if j.Session == 0 {
		j.Session = defaultSession
	}
	if j.Handover == 0 {
		j.Handover = defaultHandover
	}
	named := len(j.Topics)
	j.Topics = slices.Clone(j.Topics)
	slices.Sort(j.Topics)
	j.Topics = slices.Compact(j.Topics)
	switch {
	case j.Group == "" || len(j.Group) > maxName || j.Member == "" || len(j.Member) > maxName || len(j.Instance) > maxName:
		return j, ErrMember
	case named == 0 || named > MaxTopics:
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
	deadline time.Time // removed when it is not heard before
	revision uint32    // of its assignment; 0 when it needs a new one
	leaving  int       // partitions that it has to hand over
	index    int       // in membership.order, during decide
	replaced []string  // former ids of its instance
}

// slot is one partition of a group. Invariant: generation is 0 exactly while nobody holds it.
type slot struct {
	partition  Partition
	target     *member
	holder     *member
	generation uint32    // the fence: the holder's commits carry it
	withdrawn  uint32    // first revision of the holder without the partition; 0 while it may keep it
	until      time.Time // when a withdrawn partition is freed at the latest
	claimed    *member   // says that it held the partition before the broker was restarted
}

// membership is the membership of one group.
type membership struct {
	name       string
	members    map[string]*member
	order      []*member // by id
	instances  map[string]*member
	topics     map[string]Topic // of all members, as of the last refresh
	slots      []slot           // sorted by topic and number
	settled    time.Time        // end of settleTime; zero when it is over or was not needed
	generation uint32           // of the last change
	rebalances uint64
}

// place returns the index of a member in order, or the one it would get.
func (g *membership) place(id string) int {
	i, _ := slices.BinarySearchFunc(g.order, id, func(m *member, id string) int { return cmp.Compare(m.Member, id) })
	return i
}

// enter adds m to the members under an id.
func (g *membership) enter(m *member, id string) {
	i := g.place(id)
	m.Member = id
	g.members[id] = m
	g.order = slices.Insert(g.order, i, m)
}

// drop removes m from the members.
func (g *membership) drop(m *member) {
	i := g.place(m.Member)
	g.order = slices.Delete(g.order, i, i+1)
	delete(g.members, m.Member)
}

// slot returns the slot of a partition, or nil. It is valid until the slots change.
func (g *membership) slot(p Partition) *slot {
	i, ok := slices.BinarySearchFunc(g.slots, p, func(s slot, p Partition) int { return comparePartitions(s.partition, p) })
	if !ok {
		return nil
	}
	return &g.slots[i]
}

// Held is one partition of an assignment.
type Held struct {
	Partition
	// Generation is to be sent with commits. When it differs from that of the last assignment, the member
	// must start again at the committed offset, which a seek or another member may have moved.
	Generation uint32
}

// Assignment is what a member should work on. It has to finish with partitions of its last assignment that
// are not in this one, and let them go; see Coordinator.Heartbeat.
type Assignment struct {
	Revision   uint32
	Partitions []Held // sorted
}

// Fence says which commits of a group a partition may accept: with Open those of clients that are no
// members, because the group has no members that read the topic; otherwise those with the generation, and
// none when it is 0.
type Fence struct {
	Group string
	Partition
	Generation uint32
	Open       bool
}

// Notice says that a member has another assignment.
type Notice struct{ Group, Member string }

// Effects are what the caller of a Coordinator has to do: first the fences, in order, then the notices.
type Effects struct {
	Fences  []Fence
	Notices []Notice
}
