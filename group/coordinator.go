package group

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Coordinator keeps the members of ordered groups and decides which of them works on which partition. It
// moves a partition to another member only when the holder has let it go, has left, or has used up its
// hand-over timeout. Members that keep a partition are not interrupted. All of its state is soft. What
// the caller has to do to partitions and members after a call is collected in Effects. A Coordinator is
// not safe for concurrent use.
type Coordinator struct {
	topic   func(name string) (Topic, bool)
	next    func() uint32
	groups  map[string]*membership
	members int       // of all groups
	due     time.Time // no deadline is earlier; zero when there is none
	effects Effects
}

// NewCoordinator returns a coordinator without members. topic describes a topic, and returns false for
// one that does not exist. next returns a new generation: not 0, and larger than all it returned before,
// even before a restart.
func NewCoordinator(topic func(name string) (Topic, bool), next func() uint32) *Coordinator {
	return &Coordinator{topic: topic, next: next, groups: map[string]*membership{}}
}

// Effects returns what has to be done because of the calls since the last call of Effects.
func (c *Coordinator) Effects() Effects {
	e := c.effects
	c.effects = Effects{}
	return e
}

// Join adds a member, or renews one. Topics that do not exist are ignored until they do. After an error,
// which is ErrReplaced, ErrMembers or ErrMember, nothing has changed.
func (c *Coordinator) Join(j Join, now time.Time) error {
	j, err := j.normal()
	if err != nil {
		return err
	}
	g := c.groups[j.Group]
	if g == nil {
		g = &membership{name: j.Group, members: map[string]*member{}, instances: map[string]*member{}, topics: map[string]Topic{}}
		if len(j.Claims) > 0 {
			g.settled = now.Add(settleTime)
		}
	}
	if g.wasReplaced(j.Member) {
		return ErrReplaced
	}
	m := g.members[j.Member]
	switch before := g.instances[j.Instance]; {
	case m != nil && m.Instance != j.Instance:
		return ErrMember
	case m == nil && j.Instance != "" && before != nil:
		m = before
		c.replace(g, m, j.Member)
	case m == nil:
		if len(g.members) >= maxGroupMembers || c.members >= maxMembers {
			return ErrMembers
		}
		m = c.admit(g, &j, now)
	}
	claims := j.Claims
	j.Claims = nil
	m.Join = j
	c.hear(m, now)
	c.refresh(g)
	g.claim(m, claims)
	c.wake(g.settled)
	c.rebalance(g, now)
	return nil
}

// Topics returns the topics of the member that has an id or, when there is none, of the one with an instance id, whose place
// a Join with both would take. nil means that there is no such member.
func (c *Coordinator) Topics(group, id, instance string) []string {
	g := c.groups[group]
	if g == nil {
		return nil
	}
	m := g.members[id]
	if m == nil && instance != "" {
		m = g.instances[instance]
	}
	if m == nil {
		return nil
	}
	return m.Topics
}

// wasReplaced reports whether a member with this id has been replaced by another of its instance.
func (g *membership) wasReplaced(id string) bool {
	for _, m := range g.instances {
		if slices.Contains(m.replaced, id) {
			return true
		}
	}
	return false
}

// admit adds a new member.
func (c *Coordinator) admit(g *membership, j *Join, now time.Time) *member {
	m := &member{joined: now}
	c.groups[g.name] = g
	g.enter(m, j.Member)
	if j.Instance != "" {
		g.instances[j.Instance] = m
	}
	c.members++
	return m
}

// replace gives m, whose process was restarted under the same instance id, a new member id. It keeps the
// partitions of m under new generations, so that the old process is fenced.
func (c *Coordinator) replace(g *membership, m *member, id string) {
	g.drop(m)
	m.replaced = append(m.replaced, m.Member)
	if n := len(m.replaced) - maxReplaced; n > 0 {
		m.replaced = slices.Delete(m.replaced, 0, n)
	}
	g.enter(m, id)
	m.revision = c.next()
	for i := range g.slots {
		s := &g.slots[i]
		switch {
		case s.holder != m:
		case s.withdrawn != 0:
			c.free(g, s)
		default:
			s.generation = m.revision
			c.fence(g, s)
		}
	}
}

// hear notes that a member is alive.
func (c *Coordinator) hear(m *member, now time.Time) {
	m.heard = now
	m.deadline = now.Add(m.Session)
	c.wake(m.deadline)
}

// wake makes sure that Expire has work at the time at, unless that is zero.
func (c *Coordinator) wake(at time.Time) {
	if !at.IsZero() && (c.due.IsZero() || at.Before(c.due)) {
		c.due = at
	}
}

// claim notes the free partitions that a member says it works on.
func (g *membership) claim(m *member, claims []Partition) {
	for _, p := range claims {
		if s := g.slot(p); s != nil && s.holder == nil && s.claimed == nil && subscribes(m.Topics, p.Topic) {
			s.claimed = m
		}
	}
}

// Heartbeat says that a member is alive and has seen the assignment with a revision. The partitions that
// were withdrawn in that revision or an earlier one and are not in busy have been let go. The error is
// ErrNotMember or ErrReplaced.
func (c *Coordinator) Heartbeat(group, id string, revision uint32, busy []Partition, now time.Time) error {
	g, m, err := c.find(group, id)
	if err != nil {
		return err
	}
	c.hear(m, now)
	if m.leaving > 0 && c.letGo(g, m, revision, busy) {
		c.rebalance(g, now)
	}
	return nil
}

// letGo frees the partitions that m has let go, see Heartbeat, and reports whether there were any.
func (c *Coordinator) letGo(g *membership, m *member, revision uint32, busy []Partition) (any bool) {
	kept := make(map[Partition]struct{}, len(busy))
	for _, p := range busy {
		kept[p] = struct{}{}
	}
	for i := range g.slots {
		s := &g.slots[i]
		if _, keeps := kept[s.partition]; s.holder == m && s.withdrawn != 0 && s.withdrawn <= revision && !keeps {
			c.free(g, s)
			any = true
		}
	}
	return any
}

// find returns a member and its group. The error is ErrNotMember or ErrReplaced.
func (c *Coordinator) find(group, id string) (*membership, *member, error) {
	g := c.groups[group]
	if g == nil {
		return nil, nil, ErrNotMember
	}
	m := g.members[id]
	if m == nil && g.wasReplaced(id) {
		return nil, nil, ErrReplaced
	}
	if m == nil {
		return nil, nil, ErrNotMember
	}
	return g, m, nil
}

// Leave removes a member, which has finished with its partitions, at once. The error is ErrNotMember or
// ErrReplaced.
func (c *Coordinator) Leave(group, id string, now time.Time) error {
	g, m, err := c.find(group, id)
	if err != nil {
		return err
	}
	c.remove(g, m)
	c.refresh(g)
	c.rebalance(g, now)
	return nil
}

// Disconnected says that a connection broke without a Leave. If the member joined last on that connection,
// it may come back within the rest of its session when it has an instance id, and otherwise within
// disconnectGrace.
func (c *Coordinator) Disconnected(group, id string, connection uint64, now time.Time) {
	_, m, err := c.find(group, id)
	if err != nil || m.Instance != "" || m.Connection != connection {
		return
	}
	if end := now.Add(disconnectGrace); end.Before(m.deadline) {
		m.deadline = end
		c.wake(end)
	}
}

// remove removes a member and frees its partitions.
func (c *Coordinator) remove(g *membership, m *member) {
	g.drop(m)
	if g.instances[m.Instance] == m {
		delete(g.instances, m.Instance)
	}
	c.members--
	for i := range g.slots {
		s := &g.slots[i]
		if s.holder == m {
			c.free(g, s)
		}
		if s.target == m {
			s.target = nil
		}
		if s.claimed == m {
			s.claimed = nil
		}
	}
}

// free takes a partition from its holder.
func (c *Coordinator) free(g *membership, s *slot) {
	if s.withdrawn != 0 {
		s.holder.leaving--
	}
	s.holder, s.generation, s.withdrawn, s.until = nil, 0, 0, time.Time{}
	c.fence(g, s)
}

// fence adds the effect that only the holder of s may commit.
func (c *Coordinator) fence(g *membership, s *slot) {
	c.effects.Fences = append(c.effects.Fences, Fence{Group: g.name, Partition: s.partition, Generation: s.generation})
}

// notify adds the effect that m is told its assignment.
func (c *Coordinator) notify(g *membership, m *member) {
	c.effects.Notices = append(c.effects.Notices, Notice{Group: g.name, Member: m.Member})
}

// Due returns the next time at which Expire has something to do, and false when there is none.
func (c *Coordinator) Due() (time.Time, bool) { return c.due, !c.due.IsZero() }

// Expire removes members that were silent for too long, frees partitions that were not handed over in
// time, and ends the settleTime of groups.
func (c *Coordinator) Expire(now time.Time) {
	if c.due.IsZero() || c.due.After(now) {
		return
	}
	c.due = time.Time{}
	for _, g := range c.groups {
		changed := !g.settled.IsZero() && !g.settled.After(now)
		for _, m := range g.members {
			if !m.deadline.After(now) {
				c.remove(g, m)
				changed = true
			}
		}
		for i := range g.slots {
			if s := &g.slots[i]; s.withdrawn != 0 && !s.until.After(now) {
				c.free(g, s)
				changed = true
			}
		}
		if changed {
			c.refresh(g)
			c.rebalance(g, now)
		}
		c.wakeFor(g)
	}
}

// wakeFor makes sure that Expire has work at every deadline of g.
func (c *Coordinator) wakeFor(g *membership) {
	c.wake(g.settled)
	for _, m := range g.members {
		c.wake(m.deadline)
	}
	for i := range g.slots {
		c.wake(g.slots[i].until)
	}
}

// Refresh follows changes of topics: some may have been created or deleted, or have got partitions.
func (c *Coordinator) Refresh(now time.Time) {
	for _, g := range c.groups {
		if c.refresh(g) {
			c.rebalance(g, now)
		}
	}
}

// refresh makes the slots those of the topics that members subscribe to, and reports whether that changed
// anything. A topic that was deleted and created again is another topic.
func (c *Coordinator) refresh(g *membership) bool {
	now := map[string]Topic{}
	for _, m := range g.members {
		for _, name := range m.Topics {
			if _, seen := now[name]; seen {
				continue
			}
			if t, ok := c.topic(name); ok {
				now[name] = t
			}
		}
	}
	same := maps.EqualFunc(now, g.topics, func(a, b Topic) bool {
		return a.ID == b.ID && slices.Equal(a.Partitions, b.Partitions)
	})
	if same {
		return false
	}
	kept := map[Partition]slot{}
	for _, s := range g.slots {
		t, ok := now[s.partition.Topic]
		if ok && t.ID == g.topics[s.partition.Topic].ID && slices.Contains(t.Partitions, s.partition.Number) {
			kept[s.partition] = s
			continue
		}
		c.effects.Fences = append(c.effects.Fences, Fence{Group: g.name, Partition: s.partition, Open: true})
		if s.holder != nil {
			s.holder.revision = 0 // it needs a new one
		}
		if s.withdrawn != 0 {
			s.holder.leaving--
		}
	}
	g.topics = now
	g.slots = g.slots[:0:0]
	for name, t := range now {
		for _, n := range t.Partitions {
			p := Partition{Topic: name, Number: n}
			s, ok := kept[p]
			if !ok {
				s = slot{partition: p}
				c.fence(g, &s)
			}
			g.slots = append(g.slots, s)
		}
	}
	slices.SortFunc(g.slots, func(a, b slot) int { return comparePartitions(a.partition, b.partition) })
	return true
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
}

// rebalance decides anew which member should have which partition. It assigns free partitions, and
// withdraws those that should move.
func (c *Coordinator) rebalance(g *membership, now time.Time) {
	if len(g.members) == 0 {
		c.dissolve(g)
		return
	}
	if !g.settled.After(now) {
		g.settled = time.Time{}
	}
	g.decide()
	touched := map[*member]struct{}{}
	revision := uint32(0)
	turn := func() uint32 {
		if revision == 0 {
			revision = c.next()
		}
		return revision
	}
	for i := range g.slots {
		s := &g.slots[i]
		switch {
		case s.holder == nil && s.target != nil:
			s.holder, s.generation = s.target, turn()
			c.fence(g, s)
			touched[s.holder] = struct{}{}
		case s.holder != nil && s.holder != s.target && s.withdrawn == 0:
			s.withdrawn = turn()
			s.holder.leaving++
			s.until = now.Add(s.holder.Handover)
			c.wake(s.until)
			touched[s.holder] = struct{}{}
		}
	}
	for _, m := range g.members {
		if m.revision == 0 {
			touched[m] = struct{}{}
			turn()
		}
	}
	if revision != 0 {
		g.generation = revision
		g.rebalances++
	}
	for _, m := range slices.SortedFunc(maps.Keys(touched), byID) {
		m.revision = revision
		c.notify(g, m)
	}
}

func byID(a, b *member) int { return cmp.Compare(a.Member, b.Member) }

// decide sets the targets of all slots. During settleTime a free partition goes only to a member that
// claimed it.
func (g *membership) decide() {
	subs := make([]subscriber, len(g.order))
	for i, m := range g.order {
		m.index, subs[i] = i, subscriber{topics: m.Topics}
	}
	at := func(m *member) int { // slots refer to present members only
		if m == nil {
			return -1
		}
		return m.index
	}
	settling := !g.settled.IsZero()
	parts := make([]wanted, len(g.slots))
	for i := range g.slots {
		s := &g.slots[i]
		if s.target == nil && s.holder == nil {
			s.target = s.claimed
		}
		s.claimed = nil
		parts[i] = wanted{partition: s.partition, target: at(s.target), holder: at(s.holder)}
	}
	if !settling {
		assign(parts, subs)
	}
	for i := range parts {
		g.slots[i].target = nil
		if t := parts[i].target; t >= 0 {
			g.slots[i].target = g.order[t]
		}
	}
}

// dissolve forgets a group without members. Clients that are no members may commit again.
func (c *Coordinator) dissolve(g *membership) {
	for _, s := range g.slots {
		c.effects.Fences = append(c.effects.Fences, Fence{Group: g.name, Partition: s.partition, Open: true})
	}
	delete(c.groups, g.name)
}

// Seek gives partitions of a group new generations, because their committed offsets were changed from
// outside. The holders' earlier generations are fenced, and the holders start again at the committed
// offset. Seek returns the generations in the order of parts, 0 for partitions that nobody holds.
func (c *Coordinator) Seek(group string, parts []Partition) []uint32 {
	out := make([]uint32, len(parts))
	g := c.groups[group]
	if g == nil {
		return out
	}
	generation := uint32(0)
	touched := map[*member]struct{}{}
	for i, p := range parts {
		s := g.slot(p)
		if s == nil || s.holder == nil {
			continue
		}
		if generation == 0 {
			generation = c.next()
		}
		s.generation = generation
		out[i] = generation
		c.fence(g, s)
		touched[s.holder] = struct{}{}
	}
	for _, m := range slices.SortedFunc(maps.Keys(touched), byID) {
		m.revision = generation
		c.notify(g, m)
	}
	return out
}

// Touch has all members of a group told their assignment again, because something about the partitions
// changed that the coordinator does not know of.
func (c *Coordinator) Touch(group string) {
	g := c.groups[group]
	if g == nil {
		return
	}
	revision := c.next()
	for _, m := range g.order {
		m.revision = revision
		c.notify(g, m)
	}
}

// Assignment returns the partitions that a member should work on, and false when there is no such member.
func (c *Coordinator) Assignment(group, id string) (Assignment, bool) {
	g, m, err := c.find(group, id)
	if err != nil {
		return Assignment{}, false
	}
	a := Assignment{Revision: m.revision}
	for i := range g.slots {
		if s := &g.slots[i]; s.holder == m && s.withdrawn == 0 {
			a.Partitions = append(a.Partitions, Held{s.partition, s.generation})
		}
	}
	return a, true
}

// MemberInfo describes a member.
type MemberInfo struct {
	Member, Instance string
	Connection       uint64
	Topics           []string
	Joined, Heard    time.Time
	Held             []Held // also those that it has to hand over
}

// GroupInfo describes the membership of a group.
type GroupInfo struct {
	Group      string
	Generation uint32 // of the last change
	Rebalances uint64 // since the group got its first member
	Members    []MemberInfo
}

// Groups describes one group, or all in the order of their names when group is empty. A group without
// members is left out.
func (c *Coordinator) Groups(group string) []GroupInfo {
	var list []GroupInfo
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		if group == "" || name == group {
			list = append(list, c.groups[name].info())
		}
	}
	return list
}

func (g *membership) info() GroupInfo {
	held := map[*member][]Held{}
	for i := range g.slots {
		if s := &g.slots[i]; s.holder != nil {
			held[s.holder] = append(held[s.holder], Held{s.partition, s.generation})
		}
	}
	info := GroupInfo{Group: g.name, Generation: g.generation, Rebalances: g.rebalances}
	for _, m := range g.order {
		info.Members = append(info.Members, MemberInfo{
			Member: m.Member, Instance: m.Instance, Connection: m.Connection, Topics: m.Topics,
			Joined: m.joined, Heard: m.heard, Held: held[m],
		})
	}
	return info
}
