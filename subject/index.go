package subject

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Index holds subscriptions. Its methods may be called from any goroutine.
type Index[V any] struct {
	seed  maphash.Seed
	root  *node[V]
	grave *node[V]
	count atomic.Int64

	// versions count the changes of patterns by the hash of their first token; wildFirst those of
	// patterns that begin with a wildcard.
	versions  [versionShards]atomic.Uint64
	wildFirst atomic.Uint64

	mu sync.Mutex // held over every change
}

const versionShards = 256

// node is one token of a pattern below its parent's. A leaf without children has no branch.
type node[V any] struct {
	token   string
	parent  *node[V]
	branch  atomic.Pointer[branch[V]]
	buckets atomic.Pointer[[]*bucket[V]] // the subscriptions whose pattern ends here; replaced as a whole
}

// branch is what lies below a node.
type branch[V any] struct {
	children atomic.Pointer[table[V]] // by literal token
	any      atomic.Pointer[node[V]]  // "*"
	rest     atomic.Pointer[node[V]]  // ">"
}

// bucket is the subscriptions of one pattern that belong to one queue group, or to none.
type bucket[V any] struct {
	node  *node[V]
	queue string
	// subs only ever grows at its end, into memory that no reader looks at yet, until it is replaced
	// by a copy without what is gone.
	subs atomic.Pointer[[]*Sub[V]]
	gone int // removed, but still in subs; guarded by Index.mu
}

// Sub is one subscription. Its Value belongs to whoever inserted it.
type Sub[V any] struct {
	Value  V
	bucket *bucket[V]
	gone   atomic.Bool
}

// Gone reports whether the subscription was removed. Matches may hold it a moment longer.
func (s *Sub[V]) Gone() bool { return s.gone.Load() }

// Queue returns the subscription's queue group, "" for none.
func (s *Sub[V]) Queue() string { return s.bucket.queue }

// Pattern returns the subscription's pattern.
func (s *Sub[V]) Pattern() string {
	var tokens []string
	for n := s.bucket.node; n.parent != nil; n = n.parent {
		tokens = append(tokens, n.token)
	}
	slices.Reverse(tokens)
	return strings.Join(tokens, ".")
}

// NewIndex returns an empty index.
func NewIndex[V any]() *Index[V] {
	return &Index[V]{seed: maphash.MakeSeed(), root: &node[V]{}, grave: &node[V]{token: graveToken}}
}

// Len returns the number of subscriptions.
func (x *Index[V]) Len() int { return int(x.count.Load()) }

// Version returns a number that changes whenever a subscription that could match the subject comes
// or goes. Others may change it, too.
func (x *Index[V]) Version(subject []byte) uint64 {
	return x.versions[x.shard(firstToken(subject))].Load() + x.wildFirst.Load()
}

func firstToken(s []byte) []byte {
	token, _, _ := bytes.Cut(s, dot)
	return token
}

func (x *Index[V]) shard(token []byte) uint64 { return maphash.Bytes(x.seed, token) % versionShards }

// changed raises the version of the pattern that ends at n. The caller holds mu, and calls it after
// the change is visible to readers.
func (x *Index[V]) changed(n *node[V], by int64) {
	x.count.Add(by)
	for n.parent != x.root {
		n = n.parent
	}
	switch n.token {
	case anyToken, allRest:
		x.wildFirst.Add(1)
	default:
		x.versions[maphash.String(x.seed, n.token)%versionShards].Add(1)
	}
}

// Insert adds a subscription; queue "" is no queue group. It keeps the pattern's memory. The pattern
// must be Valid; Insert panics when it has an empty token.
func (x *Index[V]) Insert(pattern, queue string, v V) *Sub[V] {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.root
	for rest, more := pattern, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		if token == "" {
			panic("subject: empty token in pattern " + pattern)
		}
		n = x.child(n, token)
	}
	s := &Sub[V]{Value: v, bucket: n.bucket(queue)}
	s.bucket.add(s)
	x.changed(n, +1)
	return s
}

// child returns the child of n for a token of a pattern, making it when there is none.
func (x *Index[V]) child(n *node[V], token string) *node[V] {
	b := n.branch.Load()
	if b == nil {
		b = &branch[V]{}
		n.branch.Store(b)
	}
	switch token {
	case anyToken:
		return single(&b.any, n, token)
	case allRest:
		return single(&b.rest, n, token)
	}
	t := b.children.Load()
	if t == nil {
		t = newTable[V](1)
		b.children.Store(t)
	}
	if c := t.find(x.seed, []byte(token)); c != nil {
		return c
	}
	c := &node[V]{token: token, parent: n}
	if t.full() {
		t = t.grown(x.seed)
		t.add(x.seed, c)
		b.children.Store(t)
		return c
	}
	t.add(x.seed, c)
	return c
}

func single[V any](at *atomic.Pointer[node[V]], parent *node[V], token string) *node[V] {
	n := at.Load()
	if n == nil {
		n = &node[V]{token: token, parent: parent}
		at.Store(n)
	}
	return n
}

// bucket returns the node's bucket for a queue group, making it when there is none.
func (n *node[V]) bucket(queue string) *bucket[V] {
	have := n.all()
	for _, b := range have {
		if b.queue == queue {
			return b
		}
	}
	b := &bucket[V]{node: n, queue: queue}
	b.subs.Store(new([]*Sub[V]))
	next := append(slices.Clip(have), b)
	n.buckets.Store(&next)
	return b
}

func (n *node[V]) all() []*bucket[V] {
	if l := n.buckets.Load(); l != nil {
		return *l
	}
	return nil
}

func (b *bucket[V]) add(s *Sub[V]) {
	next := append(*b.subs.Load(), s)
	b.subs.Store(&next)
}

// Remove takes a subscription out. Removing it again does nothing.
func (x *Index[V]) Remove(s *Sub[V]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.gone.Swap(true) {
		return
	}
	b := s.bucket
	b.gone++
	switch subs := *b.subs.Load(); {
	case b.gone == len(subs):
		x.drop(b)
	case b.gone*2 > len(subs):
		b.compact(subs)
	}
	x.changed(b.node, -1)
}

// compact leaves out what is gone. Half of it is, so a removal costs constant time on average.
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

// drop takes an empty bucket out, and every node that has become empty with it.
func (x *Index[V]) drop(b *bucket[V]) {
	n := b.node
	have := n.all()
	next := make([]*bucket[V], 0, len(have)-1)
	for _, o := range have {
		if o != b {
			next = append(next, o)
		}
	}
	n.buckets.Store(&next)
	for n.parent != nil && n.empty() {
		x.unlink(n)
		n = n.parent
	}
}

func (n *node[V]) empty() bool { return len(n.all()) == 0 && n.branch.Load() == nil }

// unlink takes n from its parent, and the parent's branch away with its last child.
func (x *Index[V]) unlink(n *node[V]) {
	b := n.parent.branch.Load()
	switch n.token {
	case anyToken:
		b.any.Store(nil)
	case allRest:
		b.rest.Store(nil)
	default:
		t := b.children.Load()
		t.bury(x.seed, n, x.grave)
		if t.live == 0 {
			b.children.Store(nil)
		}
	}
	if b.any.Load() == nil && b.rest.Load() == nil && b.children.Load() == nil {
		n.parent.branch.Store(nil)
	}
}
