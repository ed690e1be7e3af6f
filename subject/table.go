package subject

import (
	"hash/maphash"
	"sync/atomic"
)

// table holds the children of a node by token: open addressing with linear probing. One writer at a
// time changes it; readers need no lock, because a slot goes from free to a node to the tombstone
// and never back, and growing builds a new table.
type table[V any] struct {
	slots []atomic.Pointer[node[V]] // a power of two; at least one is nil
	used  int                       // slots that are not nil; writers only
	live  int                       // slots with a node; writers only
}

// minSlots is the size of the smallest table: most nodes have one child.
const minSlots = 4

// graveToken is the token of a tombstone. It contains a dot, so no token equals it.
const graveToken = "."

func newTable[V any](live int) *table[V] {
	n := minSlots
	for n*2 < live*3 { // at most two thirds full
		n *= 2
	}
	return &table[V]{slots: make([]atomic.Pointer[node[V]], n)}
}

// find returns the child of a token, or nil.
func (t *table[V]) find(seed maphash.Seed, token []byte) *node[V] {
	mask := uint64(len(t.slots) - 1)
	for i := maphash.Bytes(seed, token) & mask; ; i = (i + 1) & mask {
		n := t.slots[i].Load()
		if n == nil || n.token == string(token) {
			return n
		}
	}
}

// add stores a child whose token is not in the table. The caller made sure of room.
func (t *table[V]) add(seed maphash.Seed, n *node[V]) {
	mask := uint64(len(t.slots) - 1)
	i := maphash.String(seed, n.token) & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].Store(n)
	t.used++
	t.live++
}

// full reports whether one more child needs a new table: a quarter of the slots stays free.
func (t *table[V]) full() bool { return (t.used+1)*4 > len(t.slots)*3 }

// grown returns a table with the same children and room for more, without tombstones.
func (t *table[V]) grown(seed maphash.Seed) *table[V] {
	next := newTable[V](t.live*2 + 1)
	for i := range t.slots {
		if n := t.slots[i].Load(); n != nil && n.token != graveToken {
			next.add(seed, n)
		}
	}
	return next
}

// bury replaces a child by the tombstone.
func (t *table[V]) bury(seed maphash.Seed, n, grave *node[V]) {
	mask := uint64(len(t.slots) - 1)
	i := maphash.String(seed, n.token) & mask
	for t.slots[i].Load() != n {
		i = (i + 1) & mask
	}
	t.slots[i].Store(grave)
	t.live--
}
