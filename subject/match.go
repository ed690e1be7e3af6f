package subject

import "bytes"

// Matches collects what matches a subject. Its memory is reused from match to match.
type Matches[V any] struct {
	// Subs are the subscriptions of no queue group.
	Subs []*Sub[V]
	// Groups are the queue groups; one member of each gets the message.
	Groups []Group[V]
}

// Group is the members of one queue group whose patterns match.
type Group[V any] struct {
	Queue string
	first []*Sub[V]
	more  [][]*Sub[V] // members that came by another pattern
	size  int
}

// Len returns the number of members, some of which may be Gone.
func (g *Group[V]) Len() int { return g.size }

// At returns member i of Len.
func (g *Group[V]) At(i int) *Sub[V] {
	if i < len(g.first) {
		return g.first[i]
	}
	i -= len(g.first)
	for _, subs := range g.more {
		if i < len(subs) {
			return subs[i]
		}
		i -= len(subs)
	}
	panic("subject: member out of range")
}

// Reset empties m and keeps its memory.
func (m *Matches[V]) Reset() {
	clear(m.Subs)
	clear(m.Groups)
	m.Subs, m.Groups = m.Subs[:0], m.Groups[:0]
}

// Empty reports whether nothing matched.
func (m *Matches[V]) Empty() bool { return len(m.Subs) == 0 && len(m.Groups) == 0 }

// Match adds to m every subscription whose pattern matches the subject, which is taken literally: a
// token "*" in it matches only wildcards. It takes no lock and, with m reused, allocates nothing.
func (x *Index[V]) Match(m *Matches[V], subject []byte) {
	if x.count.Load() == 0 || !whole(subject) {
		return
	}
	x.walk(m, x.root, subject)
}

// walk adds what matches rest below n.
func (x *Index[V]) walk(m *Matches[V], n *node[V], rest []byte) {
	for {
		b := n.branch.Load()
		if b == nil {
			return
		}
		if all := b.rest.Load(); all != nil {
			m.add(all)
		}
		token, after, more := bytes.Cut(rest, dot)
		next := b.any.Load()
		if t := b.children.Load(); t != nil {
			if child := t.find(x.seed, token); child != nil {
				next = x.fork(m, next, child, after, more)
			}
		}
		switch {
		case next == nil:
			return
		case !more:
			m.add(next)
			return
		}
		n, rest = next, after
	}
}

// fork follows the wildcard when there is one besides the literal child, which it returns.
func (x *Index[V]) fork(m *Matches[V], wild, child *node[V], after []byte, more bool) *node[V] {
	switch {
	case wild == nil:
	case more:
		x.walk(m, wild, after)
	default:
		m.add(wild)
	}
	return child
}

// add adds the subscriptions of a node.
func (m *Matches[V]) add(n *node[V]) {
	for _, b := range n.all() {
		subs := *b.subs.Load()
		if b.queue != "" {
			m.addGroup(b.queue, subs)
			continue
		}
		for _, s := range subs {
			if !s.gone.Load() {
				m.Subs = append(m.Subs, s)
			}
		}
	}
}

func (m *Matches[V]) addGroup(queue string, subs []*Sub[V]) {
	for i := range m.Groups {
		if g := &m.Groups[i]; g.Queue == queue {
			g.more = append(g.more, subs)
			g.size += len(subs)
			return
		}
	}
	m.Groups = append(m.Groups, Group[V]{Queue: queue, first: subs, size: len(subs)})
}
