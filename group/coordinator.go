package group

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Coordinator keeps the members of ordered groups and decides who works on which partition. It moves
// a partition from one member to another only when the first one let it go, or did not within its
// hand-over timeout, or is gone; members that keep a partition notice nothing. All of it is soft
// state. The methods take the time and return errors; what has to be done to partitions and members
// is in Effects, to be taken after every call. It is not safe for concurrent use.
type Coordinator struct {
	topic   func(name string) (Topic, bool)
	next    func() uint32
	groups  map[string]*crowd
	members int
	due     time.Time // nothing ends before; zero when nothing ends
	effects Effects
}

// NewCoordinator returns a coordinator without members. topic describes a topic that exists. next
// returns a generation: larger than all it returned before, also before a restart, and not 0.
func NewCoordinator(topic func(name string) (Topic, bool), next func() uint32) *Coordinator {
	return &Coordinator{topic: topic, next: next, groups: map[string]*crowd{}}
}

// Effects returns what has to be done since the last call.
func (c *Coordinator) Effects() Effects {
	e := c.effects
	c.effects = Effects{}
	return e
}

// Join adds a member, or says that one is still there. The topics that do not exist are ignored until
// they do. The error is ErrReplaced, ErrMembers or ErrMember, and then nothing has changed.
func (c *Coordinator) Join(j Join, now time.Time) error {
	j, err := j.normal()
	if err != nil {
		return err
	}
	g := c.groups[j.Group]
	if g == nil {
		g = &crowd{name: j.Group, members: map[string]*member{}, instances: map[string]*member{}, topics: map[string]Topic{}}
		if len(j.Claims) > 0 {
			g.settled = now.Add(SettleTime)
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
		if len(g.members) >= MaxGroupMembers || c.members >= MaxMembers {
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

func (g *crowd) wasReplaced(id string) bool {
	for _, m := range g.instances {
		if slices.Contains(m.replaced, id) {
			return true
		}
	}
	return false
}

func (c *Coordinator) admit(g *crowd, j *Join, now time.Time) *member {
	m := &member{joined: now}
	c.groups[g.name] = g
	g.enter(m, j.Member)
	if j.Instance != "" {
		g.instances[j.Instance] = m
	}
	c.members++
	return m
}

// replace lets a member with the same instance id take the place of m. It gets what m had, under new
// generations: what is left of the old process is fenced.
func (c *Coordinator) replace(g *crowd, m *member, id string) {
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

// hear notes that a member lives.
func (c *Coordinator) hear(m *member, now time.Time) {
	m.heard = now
	m.deadline = now.Add(m.Session)
	c.wake(m.deadline)
}

// wake makes sure that Expire looks at at.
func (c *Coordinator) wake(at time.Time) {
	if !at.IsZero() && (c.due.IsZero() || at.Before(c.due)) {
		c.due = at
	}
}

// claim notes which free partitions a member works on that the coordinator did not know.
func (g *crowd) claim(m *member, claims []Partition) {
	for _, p := range claims {
		if s := g.slot(p); s != nil && s.holder == nil && s.claimed == nil && subscribes(m.Topics, p.Topic) {
			s.claimed = m
		}
	}
}

// Heartbeat says that a member lives, and which assignment it has seen. Partitions that were
// withdrawn with that revision or before, and are not in busy, have been let go. It returns
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

// letGo frees what a member was asked to hand over and is not busy with.
func (c *Coordinator) letGo(g *crowd, m *member, revision uint32, busy []Partition) (any bool) {
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

func (c *Coordinator) find(group, id string) (*crowd, *member, error) {
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

// Leave takes a member out at once: it has finished with its partitions. It returns ErrNotMember or
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

// Disconnected says that the connection by which a member joined last broke without a word. A member
// with an instance id is given the rest of its session, any other DisconnectGrace of it.
func (c *Coordinator) Disconnected(group, id string, connection uint64, now time.Time) {
	_, m, err := c.find(group, id)
	if err != nil || m.Instance != "" || m.Connection != connection {
		return
	}
	if end := now.Add(DisconnectGrace); end.Before(m.deadline) {
		m.deadline = end
		c.wake(end)
	}
}

func (c *Coordinator) remove(g *crowd, m *member) {
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
func (c *Coordinator) free(g *crowd, s *slot) {
	if s.withdrawn != 0 {
		s.holder.leaving--
	}
	s.holder, s.generation, s.withdrawn, s.until = nil, 0, 0, time.Time{}
	c.fence(g, s)
}

// fence reports who may commit on a slot now.
func (c *Coordinator) fence(g *crowd, s *slot) {
	c.effects.Fences = append(c.effects.Fences, Fence{Group: g.name, Partition: s.partition, Generation: s.generation})
}

func (c *Coordinator) notify(g *crowd, m *member) {
	c.effects.Notices = append(c.effects.Notices, Notice{Group: g.name, Member: m.Member})
}

// Due returns the next moment at which Expire has something to do, and false when there is none.
func (c *Coordinator) Due() (time.Time, bool) { return c.due, !c.due.IsZero() }

// Expire takes out members that were not heard of in time, takes away partitions that were not handed
// over in time, and ends settling.
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

// wakeFor makes sure that Expire comes back for everything in g that ends.
func (c *Coordinator) wakeFor(g *crowd) {
	c.wake(g.settled)
	for _, m := range g.members {
		c.wake(m.deadline)
	}
	for i := range g.slots {
		c.wake(g.slots[i].until)
	}
}

// Refresh looks again at the topics of all groups: partitions may have been added, topics made or
// deleted.
func (c *Coordinator) Refresh(now time.Time) {
	for _, g := range c.groups {
		if c.refresh(g) {
			c.rebalance(g, now)
		}
	}
}

// refresh makes the slots those of the topics that members subscribe to, and reports whether they
// changed. A topic that was made again has nothing in common with the one before.
func (c *Coordinator) refresh(g *crowd) bool {
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
			s.holder.revision = 0 // another one is due
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

// rebalance decides anew who should have what, and does of it what can be done at once.
func (c *Coordinator) rebalance(g *crowd, now time.Time) {
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

// decide sets the targets. While the group settles only those who claimed a partition get it.
func (g *crowd) decide() {
	subs := make([]subscriber, len(g.order))
	for i, m := range g.order {
		m.index, subs[i] = i, subscriber{topics: m.Topics}
	}
	at := func(m *member) int { // of a slot: those of former members were cleared
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

// dissolve forgets a group without members: everybody may commit again.
func (c *Coordinator) dissolve(g *crowd) {
	for _, s := range g.slots {
		c.effects.Fences = append(c.effects.Fences, Fence{Group: g.name, Partition: s.partition, Open: true})
	}
	delete(c.groups, g.name)
}

// Seek gives partitions of a group new generations, because its committed offsets were changed from
// outside: what their holders did so far counts no more, and they start again. It returns the
// generations in the order of the partitions, 0 for those nobody holds.
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

// Touch has all members of a group told their assignment again: something about its partitions
// changed that only the caller knows.
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

// Assignment returns what a member should work on, and false when there is no such member.
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
	Held             []Held // those that it has to hand over included
}

// GroupInfo describes the membership of a group.
type GroupInfo struct {
	Group      string
	Generation uint32 // of the last change
	Rebalances uint64 // since the group got its first member
	Members    []MemberInfo
}

// Groups describes the groups that have members, in the order of their names; group "" means all.
func (c *Coordinator) Groups(group string) []GroupInfo {
	var list []GroupInfo
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		if group == "" || name == group {
			list = append(list, c.groups[name].info())
		}
	}
	return list
}

func (g *crowd) info() GroupInfo {
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
