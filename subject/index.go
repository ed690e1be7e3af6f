package subject

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Index holds subscriptions. It is safe for concurrent use.
type Index[V any] struct {
	hash  hasher
	root  *node[V]
	grave *node[V]     // tombstone of a table
	count atomic.Int64 // subscriptions

	// versions counts changes of patterns by the hash of their first token, and wildFirst those of patterns
	// that begin with a wildcard.
	versions  [versionShards]atomic.Uint64
	wildFirst atomic.Uint64

	mu sync.Mutex // held during every change
}

const versionShards = 256

// node is the end of a pattern, or of a prefix that several patterns share. Consecutive literal tokens share a
// node as long as no pattern ends or branches between them. So a million different patterns need about a
// million nodes, whatever their length.
//
//	orders.eu.paid, orders.eu.late.*   "orders.eu" -> "paid"
//	                                               -> "late" -> "*"
//
// A node takes 32 bytes. What only few nodes need is in more.
type node[V any] struct {
	label string                  // a wildcard, or literal tokens
	one   atomic.Pointer[Sub[V]]  // a subscription whose pattern ends here
	more  atomic.Pointer[more[V]] // further subscriptions and children; nil when there are none
}

// more has the children of a node, and its subscriptions besides node.one.
type more[V any] struct {
	children atomic.Pointer[table[V]] // by the first token of their label
	any      atomic.Pointer[node[V]]  // "*"
	rest     atomic.Pointer[node[V]]  // ">"
	buckets  atomic.Pointer[buckets[V]]
}

// buckets are those of one pattern. There can be very many queue groups.
type buckets[V any] struct {
	// list is appended to in place, like bucket.subs, until dropIdle replaces it.
	list    atomic.Pointer[[]*bucket[V]]
	byQueue map[string]*bucket[V] // those in list, once there are many; guarded by Index.mu
	idle    int                   // empty, but still in list; guarded by Index.mu
}

// manyBuckets is how many buckets are looked through rather than looked up.
const manyBuckets = 16

// bucket has the subscriptions of one pattern in one queue group, or in none.
type bucket[V any] struct {
	queue string
	// subs is appended to in place, because readers do not look behind its end, until compact replaces it by
	// a copy without the removed subscriptions.
	subs atomic.Pointer[[]*Sub[V]]
	gone int // removed, but still in subs; guarded by Index.mu
}

// Sub is one subscription. The package does not look at its Value.
type Sub[V any] struct {
	Value   V
	names   string // pattern, queue group and note, concatenated
	pattern uint32 // size of the pattern
	queue   uint32 // size of the queue group
	gone    atomic.Bool
}

// Gone reports whether the subscription was removed. Matches may still hold it.
func (s *Sub[V]) Gone() bool { return s.gone.Load() }

// Queue returns the subscription's queue group, or "" when it has none.
func (s *Sub[V]) Queue() string { return s.names[s.pattern : s.pattern+s.queue] }

// Pattern returns the subscription's pattern.
func (s *Sub[V]) Pattern() string { return s.names[:s.pattern] }

// Size returns the size of the pattern, queue group and note together in bytes.
func (s *Sub[V]) Size() int { return len(s.names) }

// Note returns the note that was given to Insert.
func (s *Sub[V]) Note() string { return s.names[s.pattern+s.queue:] }

// NewIndex returns an empty index.
func NewIndex[V any]() *Index[V] {
	return &Index[V]{hash: newHasher(), root: &node[V]{}, grave: &node[V]{label: graveLabel}}
}

// Len returns the number of subscriptions.
func (x *Index[V]) Len() int { return int(x.count.Load()) }

// Version returns a number that changes whenever a subscription that could match the subject is inserted or
// removed. Other subscriptions may change it, too.
func (x *Index[V]) Version(subject []byte) uint64 {
	token, _, _ := bytes.Cut(subject, dot)
	return x.versions[x.hash.bytes(token)%versionShards].Load() + x.wildFirst.Load()
}

// changed raises the version of a pattern and adds by to the number of subscriptions. The caller holds mu, and
// calls it when the change is visible to readers.
func (x *Index[V]) changed(pattern string, by int64) {
	x.count.Add(by)
	switch token := firstToken(pattern); token {
	case anyToken, allRest:
		x.wildFirst.Add(1)
	default:
		x.versions[x.hash.string(token)%versionShards].Add(1)
	}
}

func firstToken(s string) string {
	token, _, _ := strings.Cut(s, ".")
	return token
}

// Insert adds a subscription. An empty queue means no queue group. The note is kept with the subscription, at no
// more than its size. The pattern must be Valid; Insert panics when it has an empty token. Insert copies the
// slices.
func (x *Index[V]) Insert(pattern, queue, note []byte, v V) *Sub[V] {
	if !whole(pattern) {
		panic("subject: empty token in pattern " + string(pattern))
	}
	names := string(slices.Concat(pattern, queue, note))
	s := &Sub[V]{Value: v, names: names, pattern: uint32(len(pattern)), queue: uint32(len(queue))}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.place(s.Pattern()).add(s)
	x.changed(s.Pattern(), +1)
	return s
}

// place returns the node of a pattern, and makes it when it does not exist.
func (x *Index[V]) place(pattern string) *node[V] {
	n := x.root
	for rest := pattern; rest != ""; {
		m := n.grow()
		run := literals(rest)
		switch {
		case run != "":
			n, run = x.child(m, run)
		case rest[:1] == anyToken:
			n, run = single(&m.any, anyToken), anyToken
		default:
			n, run = single(&m.rest, allRest), allRest
		}
		rest = strings.TrimPrefix(rest[len(run):], ".")
	}
	return n
}

// literals returns the literal tokens at the start of a pattern.
func literals(pattern string) string {
	end := 0
	for end < len(pattern) {
		token := firstToken(pattern[end:])
		if token == anyToken || token == allRest {
			return pattern[:max(0, end-1)]
		}
		end += len(token) + 1
	}
	return pattern
}

// grow returns n.more, and makes it when it does not exist.
func (n *node[V]) grow() *more[V] {
	m := n.more.Load()
	if m == nil {
		m = &more[V]{}
		n.more.Store(m)
	}
	return m
}

// single returns the node of a wildcard, and makes it when it does not exist.
func single[V any](at *atomic.Pointer[node[V]], label string) *node[V] {
	n := at.Load()
	if n == nil {
		n = &node[V]{label: label}
		at.Store(n)
	}
	return n
}

// child returns the child that shares its first tokens with run, and those tokens. It makes or splits the child
// if necessary.
func (x *Index[V]) child(m *more[V], run string) (*node[V], string) {
	t := m.children.Load()
	if t == nil {
		t = newTable[V](1)
		m.children.Store(t)
	}
	c := t.find(&x.hash, []byte(firstToken(run)))
	if c == nil {
		c = &node[V]{label: run}
		if grown := t.insert(&x.hash, c); grown != t {
			m.children.Store(grown)
		}
		return c, run
	}
	size := shared(c.label, run)
	if size < len(c.label) {
		c = x.split(t, c, size)
	}
	return c, run[:size]
}

// shared returns the size of the longest prefix of whole tokens that a and b share.
func shared(a, b string) int {
	size := 0
	for i := 0; ; i++ {
		endA, endB := i == len(a) || a[i] == '.', i == len(b) || b[i] == '.'
		switch {
		case endA && endB:
			if size = i; i == len(a) || i == len(b) {
				return size
			}
		case endA || endB || a[i] != b[i]:
			return size
		}
	}
}

// split replaces c by a node for the first size bytes of its label, above a copy of c with the rest, and returns
// the upper node. c itself does not change, so that a reader that has reached it goes on undisturbed.
func (x *Index[V]) split(t *table[V], c *node[V], size int) *node[V] {
	lower := &node[V]{label: c.label[size+1:]}
	lower.one.Store(c.one.Load())
	lower.more.Store(c.more.Load())
	upper := &node[V]{label: c.label[:size]}
	children := newTable[V](1)
	children.insert(&x.hash, lower)
	upper.grow().children.Store(children)
	t.replace(&x.hash, c, upper)
	return upper
}

// add adds a subscription to its node.
func (n *node[V]) add(s *Sub[V]) {
	if n.one.Load() == nil {
		n.one.Store(s)
		return
	}
	b := n.grow().bucket(s.Queue())
	next := append(*b.subs.Load(), s)
	b.subs.Store(&next)
}

// bucket returns the bucket of a queue group, and makes it when it does not exist.
func (m *more[V]) bucket(queue string) *bucket[V] {
	all := m.buckets.Load()
	if all == nil {
		all = &buckets[V]{}
		all.list.Store(new([]*bucket[V]))
		m.buckets.Store(all)
	}
	if b := all.find(queue); b != nil {
		if len(*b.subs.Load()) == 0 {
			all.idle--
		}
		return b
	}
	b := &bucket[V]{queue: queue}
	b.subs.Store(new([]*Sub[V]))
	next := append(*all.list.Load(), b)
	all.list.Store(&next)
	if all.byQueue != nil {
		all.byQueue[queue] = b
	} else if len(next) > manyBuckets {
		all.lookUp(next)
	}
	return b
}

// lookUp makes find look up the buckets in list.
func (all *buckets[V]) lookUp(list []*bucket[V]) {
	all.byQueue = make(map[string]*bucket[V], len(list))
	for _, b := range list {
		all.byQueue[b.queue] = b
	}
}

// find returns the bucket of a queue group, or nil.
func (all *buckets[V]) find(queue string) *bucket[V] {
	if all.byQueue != nil {
		return all.byQueue[queue]
	}
	for _, b := range *all.list.Load() {
		if b.queue == queue {
			return b
		}
	}
	return nil
}

// all returns the buckets. Some may be empty.
func (m *more[V]) all() []*bucket[V] {
	if all := m.buckets.Load(); all != nil {
		return *all.list.Load()
	}
	return nil
}

// Remove removes a subscription. Removing it again does nothing.
func (x *Index[V]) Remove(s *Sub[V]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.gone.Swap(true) {
		return
	}
	x.remove(x.root, s, s.Pattern())
	x.changed(s.Pattern(), -1)
}

// remove removes s from the node that rest, the rest of its pattern, leads to from n, and removes the nodes below
// n that become empty. It reports whether n is empty now.
func (x *Index[V]) remove(n *node[V], s *Sub[V], rest string) (empty bool) {
	m := n.more.Load()
	switch token := firstToken(rest); {
	case rest == "":
		n.take(s)
	case token == anyToken:
		if x.remove(m.any.Load(), s, below(rest, anyToken)) {
			m.any.Store(nil)
		}
	case token == allRest:
		if x.remove(m.rest.Load(), s, "") {
			m.rest.Store(nil)
		}
	default:
		t := m.children.Load()
		c := t.find(&x.hash, []byte(token))
		if x.remove(c, s, below(rest, c.label)) {
			t.replace(&x.hash, c, x.grave)
			if t.live() == 0 {
				m.children.Store(nil)
			}
		}
	}
	if m != nil && m.empty() {
		n.more.Store(nil)
		m = nil
	}
	return m == nil && n.one.Load() == nil
}

// below returns the rest of a pattern behind its prefix label.
func below(pattern, label string) string { return strings.TrimPrefix(pattern[len(label):], ".") }

func (m *more[V]) empty() bool {
	return m.buckets.Load() == nil && m.children.Load() == nil && m.any.Load() == nil && m.rest.Load() == nil
}

// take removes a subscription from its node.
func (n *node[V]) take(s *Sub[V]) {
	if n.one.Load() == s {
		n.one.Store(nil)
		return
	}
	m := n.more.Load()
	all := m.buckets.Load()
	b := all.find(s.Queue())
	b.gone++
	switch subs := *b.subs.Load(); {
	case b.gone == len(subs):
		b.compact(subs)
		all.idle++
		m.dropIdle(all)
	case b.gone*2 > len(subs):
		b.compact(subs)
	}
}

// compact replaces subs by a copy without the removed subscriptions. It is called when more than half are removed,
// so that a removal takes constant time on average.
func (b *bucket[V]) compact(subs []*Sub[V]) {
	next := make([]*Sub[V], 0, len(subs)-b.gone)
	for _, s := range subs {
		if !s.gone.Load() {
			next = append(next, s)
		}
	}
	b.subs.Store(&next)
	b.gone = 0
}

// dropIdle removes the empty buckets when they are more than half, for the same reason.
func (m *more[V]) dropIdle(all *buckets[V]) {
	have := *all.list.Load()
	switch {
	case all.idle == len(have):
		m.buckets.Store(nil)
		return
	case all.idle*2 <= len(have):
		return
	}
	next := make([]*bucket[V], 0, len(have)-all.idle)
	for _, b := range have {
		if len(*b.subs.Load()) > 0 {
			next = append(next, b)
		}
	}
	all.list.Store(&next)
	all.idle = 0
	all.byQueue = nil
	if len(next) > manyBuckets {
		all.lookUp(next)
	}
}
