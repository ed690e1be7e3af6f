package group

import (
	"encoding/binary"
	"slices"
)

// subscriber is a member as the assignment sees it.
type subscriber struct {
	topics []string // sorted
}

func subscribes(topics []string, topic string) bool {
	_, ok := slices.BinarySearch(topics, topic)
	return ok
}

// wanted is one partition as the assignment sees it.
type wanted struct {
	partition Partition
	target    int // index of the member that should have it so far, -1 for nobody
	holder    int // index of the member that has it, -1 for nobody
}

// assign sets the target of every partition whose topic some member subscribes to, and moves as few
// partitions as it can. parts must be sorted by topic. Among members that subscribe to the same topics
// the numbers of partitions then differ by at most one. Otherwise no single move from one member to
// another would bring their numbers closer together.
func assign(parts []wanted, members []subscriber) {
	a := assignment{parts: parts, load: make([]int, len(members))}
	a.classify(members)
	for i := range a.classes {
		a.fill(&a.classes[i])
	}
	for a.move() {
	}
}

// assignment is the state of one call of assign.
type assignment struct {
	parts   []wanted
	load    []int // partitions by member
	classes []class
}

// class is the partitions that the same members may have.
type class struct {
	parts   []int // indexes of partitions
	members []int // indexes of members, sorted
}

// classify divides the partitions into classes, and drops targets that do not subscribe to the topic.
func (a *assignment) classify(members []subscriber) {
	known := map[string]int{}
	for first := 0; first < len(a.parts); {
		topic := a.parts[first].partition.Topic
		var may []int
		var key []byte
		for i := range members {
			if subscribes(members[i].topics, topic) {
				may = append(may, i)
				key = binary.AppendUvarint(key, uint64(i))
			}
		}
		at, ok := known[string(key)]
		if !ok {
			at = len(a.classes)
			known[string(key)] = at
			a.classes = append(a.classes, class{members: may})
		}
		for ; first < len(a.parts) && a.parts[first].partition.Topic == topic; first++ {
			a.enter(&a.classes[at], first)
		}
	}
}

// enter adds partition i to a class.
func (a *assignment) enter(c *class, i int) {
	c.parts = append(c.parts, i)
	p := &a.parts[i]
	if _, may := slices.BinarySearch(c.members, p.target); !may {
		p.target = -1
	}
	if p.target >= 0 {
		a.load[p.target]++
	}
}

// fill gives every partition without a target to the member with the fewest partitions. Among several it
// prefers the one that holds the partition.
func (a *assignment) fill(c *class) {
	if len(c.members) == 0 {
		return
	}
	for _, i := range c.parts {
		p := &a.parts[i]
		if p.target < 0 {
			p.target = a.least(c, p.holder)
			a.load[p.target]++
		}
	}
}

// least returns the member of c with the fewest partitions. Among several it prefers favourite.
func (a *assignment) least(c *class, favourite int) int {
	best := c.members[0]
	for _, m := range c.members[1:] {
		if a.load[m] < a.load[best] || a.load[m] == a.load[best] && m == favourite {
			best = m
		}
	}
	return best
}

// move moves one partition from the member with the most to the one with the fewest. It returns false when
// no move makes the numbers more equal.
func (a *assignment) move() bool {
	gain, from, to := 1, -1, -1
	for i := range a.classes {
		c := &a.classes[i]
		if len(c.members) < 2 {
			continue
		}
		most := a.most(c)
		least := a.least(c, a.parts[most].holder)
		if d := a.load[a.parts[most].target] - a.load[least]; d > gain {
			gain, from, to = d, most, least
		}
	}
	if from < 0 {
		return false
	}
	p := &a.parts[from]
	a.load[p.target]--
	a.load[to]++
	p.target = to
	return true
}

// most returns the partition of c that should move first: one of the member with the most partitions, and
// preferably one that this member does not hold yet.
func (a *assignment) most(c *class) int {
	best := c.parts[0]
	for _, i := range c.parts[1:] {
		p, q := &a.parts[i], &a.parts[best]
		x, y := a.load[p.target], a.load[q.target]
		if x > y || x == y && (p.holder != p.target || q.holder == q.target) {
			best = i
		}
	}
	return best
}
