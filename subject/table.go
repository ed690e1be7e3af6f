package subject

import "sync/atomic"

// table holds the children of a node by the first token of their label. It is a hash table with open addressing and
// linear probing. There is one writer at a time. Readers need no lock: a slot goes from free to a node, then to other
// nodes of the same token or to the tombstone, but never back to free, and growing makes a new table. A large table
// consists of shards, each a table of its own, so that growing never takes longer than a millisecond.
type table[V any] struct {
	slots  []atomic.Pointer[node[V]]  // their number is a power of two; at least one is nil
	tags   []uint8                    // a part of the hash for each slot that is not nil, written before the slot
	shards []atomic.Pointer[table[V]] // of a large table, instead of slots
	used   int32                      // slots that are not nil; writers only
	nodes  int32                      // slots with a node; writers only
}

const (
	// minSlots is the size of the smallest table. Most nodes with children have few of them.
	minSlots = 4
	// maxSlots is the size beyond which a table is split into shards.
	maxSlots = 8192
	// shardBits is the logarithm of the number of shards. The upper bits of the hash choose the shard, the
	// lower ones the slot.
	shardBits = 8
)

// graveLabel is the label of the tombstone. Its first token is empty, which no token of a pattern is.
const graveLabel = "."

func newTable[V any](nodes int) *table[V] {
	n := minSlots
	for n*2 < nodes*3 { // at most two thirds full
		n *= 2
	}
	return &table[V]{slots: make([]atomic.Pointer[node[V]], n), tags: make([]uint8, n)}
}

// tagOf returns bits of a hash that choose neither a shard nor a slot. A slot only ever has nodes of one token, so
// its tag never changes.
func tagOf(hash uint64) uint8 { return uint8(hash >> 48) }

// shard returns the table whose slots a hash belongs to: t itself, or one of its shards.
func (t *table[V]) shard(hash uint64) *table[V] {
	if t.shards != nil {
		return t.shards[hash>>(64-shardBits)].Load()
	}
	return t
}

// find returns the child whose label begins with a token, or nil.
func (t *table[V]) find(h *hasher, token []byte) *node[V] {
	hash := h.bytes(token)
	s := t.shard(hash)
	mask := uint64(len(s.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		n := s.slots[i].Load()
		if n == nil || s.tags[i] == tagOf(hash) && begins(n.label, token) { // the tag saves a cache miss on most other nodes
			return n
		}
	}
}

// begins reports whether token is the first token of label.
func begins(label string, token []byte) bool {
	size := len(token)
	return len(label) >= size && label[:size] == string(token) && (len(label) == size || label[size] == '.')
}

// insert adds a child whose token is not in the table. It returns the table to use from now on, which may be a new
// one.
func (t *table[V]) insert(h *hasher, n *node[V]) *table[V] {
	hash := h.string(firstToken(n.label))
	if t.shards == nil {
		s := t.room(h)
		if s.shards == nil {
			s.put(hash, n)
			return s
		}
		t = s
	}
	at := &t.shards[hash>>(64-shardBits)]
	s := at.Load().room(h)
	s.put(hash, n)
	at.Store(s)
	t.nodes++
	return t
}

// put adds a child to a table that has room for it.
func (t *table[V]) put(hash uint64, n *node[V]) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.tags[i] = tagOf(hash)
	t.slots[i].Store(n)
	t.used++
	t.nodes++
}

// room returns t when it has room for another child: at most two thirds of its slots are then in use. Otherwise it
// returns a new table with the same children and without tombstones.
func (t *table[V]) room(h *hasher) *table[V] {
	if (t.used+1)*3 <= int32(len(t.slots))*2 {
		return t
	}
	next := newTable[V](int(t.nodes)*2 + 1)
	if len(next.slots) > maxSlots && len(t.slots) == maxSlots {
		next = &table[V]{shards: make([]atomic.Pointer[table[V]], 1<<shardBits)}
		for i := range next.shards {
			next.shards[i].Store(newTable[V](int(t.nodes) >> (shardBits - 1)))
		}
	}
	for i := range t.slots {
		if n := t.slots[i].Load(); n != nil && n.label != graveLabel {
			next = next.insert(h, n)
		}
	}
	return next
}

// replace replaces a child by another node with the same first token, or by the tombstone.
func (t *table[V]) replace(h *hasher, n, by *node[V]) {
	hash := h.string(firstToken(n.label))
	s := t.shard(hash)
	mask := uint64(len(s.slots) - 1)
	i := hash & mask
	for s.slots[i].Load() != n {
		i = (i + 1) & mask
	}
	s.slots[i].Store(by)
	if by.label != graveLabel {
		return
	}
	s.nodes--
	if s != t {
		t.nodes--
	}
}

// live returns the number of children.
func (t *table[V]) live() int { return int(t.nodes) }
