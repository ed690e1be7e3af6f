package subject

// Matches collects the subscriptions that match a subject. Reset it between matches to reuse its memory.
type Matches[V any] struct {
	// Subs are the subscriptions without a queue group.
	Subs []*Sub[V]
	// Groups are the queue groups. One member of each is to get the message.
	Groups []Group[V]

	byQueue map[string]int // places in Groups, once there are many
	singles []*Sub[V]      // memory of the parts of groups that are a node.one
}

// Group has the members of one queue group whose patterns match.
type Group[V any] struct {
	Queue string
	parts [][]*Sub[V] // one or two of each pattern
	size  int
}

// Len returns the number of members. Some may be Gone.
func (g *Group[V]) Len() int { return g.size }

// At returns member i, which must be below Len.
func (g *Group[V]) At(i int) *Sub[V] {
	for _, subs := range g.parts {
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
	clear(m.singles)
	for i := range m.Groups {
		g := &m.Groups[i]
		clear(g.parts)
		*g = Group[V]{parts: g.parts[:0]}
	}
	clear(m.byQueue)
	m.Subs, m.Groups, m.singles = m.Subs[:0], m.Groups[:0], m.singles[:0]
}

// Empty reports whether nothing matched.
func (m *Matches[V]) Empty() bool { return len(m.Subs) == 0 && len(m.Groups) == 0 }

// Match adds to m every subscription whose pattern matches the subject. The subject is taken literally: a token "*"
// in it is matched by wildcards only. Match takes no lock, and does not allocate when m is reused.
func (x *Index[V]) Match(m *Matches[V], subject []byte) {
	if x.count.Load() == 0 || !whole(subject) {
		return
	}
	x.walk(m, x.root, subject)
}

// walk adds the subscriptions below n that match rest.
func (x *Index[V]) walk(m *Matches[V], n *node[V], rest []byte) {
	for {
		b := n.more.Load()
		if b == nil {
			return
		}
		if all := b.rest.Load(); all != nil {
			m.add(all)
		}
		token, after, goesOn := cut(rest)
		next := b.any.Load()
		if t := b.children.Load(); t != nil {
			if child := t.find(&x.hash, token); child != nil && (len(child.label) == len(token) || leads(child.label, rest)) {
				x.fork(m, next, after, goesOn)
				next = child
				goesOn = len(child.label) < len(rest)
				after = rest[min(len(rest), len(child.label)+1):]
			}
		}
		switch {
		case next == nil:
			return
		case !goesOn:
			m.add(next)
			return
		}
		n, rest = next, after
	}
}

// leads reports whether subject starts with the tokens of label.
func leads(label string, subject []byte) bool {
	size := len(label)
	return len(subject) >= size && string(subject[:size]) == label && (len(subject) == size || subject[size] == '.')
}

// fork follows the wildcard child, if there is one, where walk follows the literal child.
func (x *Index[V]) fork(m *Matches[V], wild *node[V], after []byte, goesOn bool) {
	switch {
	case wild == nil:
	case goesOn:
		x.walk(m, wild, after)
	default:
		m.add(wild)
	}
}

// add adds the subscriptions whose patterns end at a node.
func (m *Matches[V]) add(n *node[V]) {
	if s := n.one.Load(); s != nil && !s.gone.Load() {
		if s.queue == 0 {
			m.Subs = append(m.Subs, s)
		} else {
			m.singles = append(m.singles, s)
			m.addGroup(s.Queue(), m.singles[len(m.singles)-1:len(m.singles):len(m.singles)])
		}
	}
	b := n.more.Load()
	if b == nil {
		return
	}
	for _, b := range b.all() {
		subs := *b.subs.Load()
		if b.queue != "" && len(subs) > 0 {
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
	if g := m.group(queue); g != nil {
		g.parts = append(g.parts, subs)
		g.size += len(subs)
		return
	}
	n := len(m.Groups)
	if n < cap(m.Groups) {
		m.Groups = m.Groups[:n+1] // with the memory of an earlier group
	} else {
		m.Groups = append(m.Groups, Group[V]{})
	}
	g := &m.Groups[n]
	g.Queue, g.parts, g.size = queue, append(g.parts, subs), len(subs)
	if n >= manyBuckets {
		m.lookUp(n)
	}
}

// lookUp makes group look up group n, and those before it.
func (m *Matches[V]) lookUp(n int) {
	if m.byQueue == nil {
		m.byQueue = map[string]int{}
	}
	for i := len(m.byQueue); i <= n; i++ {
		m.byQueue[m.Groups[i].Queue] = i
	}
}

// group returns the group of a name, or nil.
func (m *Matches[V]) group(queue string) *Group[V] {
	if len(m.Groups) > manyBuckets {
		if i, ok := m.byQueue[queue]; ok {
			return &m.Groups[i]
		}
		return nil
	}
	for i := range m.Groups {
		if g := &m.Groups[i]; g.Queue == queue {
			return g
		}
	}
	return nil
}
