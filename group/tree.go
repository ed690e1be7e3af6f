package group

import "slices"

const (
	// leafMax bounds the runs in a leaf. 64 of 48 bytes are 3072 bytes, a size class of Go's allocator. With
	// more, every change copies more; with fewer, nodes take more memory.
	leafMax = 64
	// innerMax bounds the children of an inner node.
	innerMax = 32
)

// tree holds runs in the order of their offsets, without overlap. It is a B+ tree whose nodes carry
// summaries. It needs no general insert: fresh messages are appended, and everything else replaces or
// removes a run.
type tree struct {
	root *node // nil, or an empty leaf, when the tree has no runs
}

// node is a leaf with runs or an inner node with kids. All leaves have the same depth. Only the root may be
// empty.
type node struct {
	low  uint64 // the lowest offset in it
	sum  summary
	runs []run
	kids []*node
}

// summary returns the summary of all runs.
func (t *tree) summary() summary {
	if t.root == nil {
		return emptySummary()
	}
	return t.root.sum
}

// find returns the first run that p looks for and that ends behind from.
func (t *tree) find(from uint64, p probe) (run, bool) {
	if t.root == nil || !p.may(&t.root.sum) {
		return run{}, false
	}
	return t.root.find(from, &p)
}

// append adds r, which must lie behind all other runs.
func (t *tree) append(r run) {
	if t.root == nil {
		t.root = &node{sum: emptySummary()}
	}
	t.grow(t.root.append(r))
}

// replace replaces the run that begins at first, which must exist, by at most three runs, which must lie
// within it, in order.
func (t *tree) replace(first uint64, with []run) {
	t.grow(t.root.replace(first, with))
	for len(t.root.kids) == 1 {
		t.root = t.root.kids[0]
	}
	if t.root.size() == 0 && !t.root.leaf() {
		t.root = nil
	}
}

// grow adds a root above the old one when that was split; right is its new right half, or nil.
func (t *tree) grow(right *node) {
	if right == nil {
		return
	}
	t.root = &node{kids: []*node{t.root, right}}
	t.root.refresh()
}

// each calls yield for every run in order until it returns false.
func (t *tree) each(yield func(run) bool) {
	if t.root != nil {
		t.root.each(yield)
	}
}

func (n *node) leaf() bool { return n.kids == nil }

func (n *node) each(yield func(run) bool) bool {
	for _, r := range n.runs {
		if !yield(r) {
			return false
		}
	}
	for _, k := range n.kids {
		if !k.each(yield) {
			return false
		}
	}
	return true
}

func (n *node) find(from uint64, p *probe) (run, bool) {
	if n.leaf() {
		for i := n.index(from); i < len(n.runs); i++ {
			if p.is(&n.runs[i]) {
				return n.runs[i], true
			}
		}
		return run{}, false
	}
	for _, k := range n.kids[n.kid(from):] {
		if !p.may(&k.sum) {
			continue
		}
		if r, ok := k.find(from, p); ok {
			return r, true
		}
	}
	return run{}, false
}

// index returns the index of the first run that ends behind offset.
func (n *node) index(offset uint64) int {
	lo, hi := 0, len(n.runs)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if n.runs[mid].end() <= offset {
			lo = mid + 1
			continue
		}
		hi = mid
	}
	return lo
}

// kid returns the index of the last child that begins at or before offset, or 0.
func (n *node) kid(offset uint64) int {
	lo, hi := 1, len(n.kids)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if n.kids[mid].low <= offset {
			lo = mid + 1
			continue
		}
		hi = mid
	}
	return lo - 1
}

// append adds r. When n is full, append returns a new node, to be put to the right of n. It does not split n,
// because appends in order would leave every node half empty.
func (n *node) append(r run) *node {
	if !n.leaf() {
		return n.appendBelow(r)
	}
	last := len(n.runs) - 1
	switch {
	case last >= 0 && n.runs[last].alike(&r):
		n.runs[last].count += r.count
	case len(n.runs) == leafMax:
		return newLeaf(r)
	default:
		n.room(1)
		n.runs = append(n.runs, r)
		n.low = n.runs[0].first
	}
	n.sum.add(&r)
	return nil
}

func (n *node) appendBelow(r run) *node {
	right := n.kids[len(n.kids)-1].append(r)
	if right != nil && len(n.kids) == innerMax {
		up := &node{kids: []*node{right}}
		up.refresh()
		return up
	}
	if right != nil {
		n.kids = append(n.kids, right)
	}
	n.sum.add(&r)
	return nil
}

func newLeaf(runs ...run) *node {
	n := &node{runs: append(make([]run, 0, leafMax), runs...)}
	n.refresh()
	return n
}

// replace is tree.replace below n. When n had to be split, it returns the node to put to the right of n.
func (n *node) replace(first uint64, with []run) *node {
	if !n.leaf() {
		return n.replaceBelow(first, with)
	}
	if len(n.runs)+len(with)-1 <= leafMax {
		n.put(first, with)
		return nil
	}
	half := len(n.runs) / 2
	right := newLeaf(n.runs[half:]...)
	n.runs = n.runs[:half]
	if first >= right.low {
		right.put(first, with)
		n.refresh()
		return right
	}
	n.put(first, with)
	return right
}

func (n *node) replaceBelow(first uint64, with []run) *node {
	i := n.kid(first)
	if right := n.kids[i].replace(first, with); right != nil {
		n.kids = slices.Insert(n.kids, i+1, right)
	}
	n.join(i)
	var right *node
	if len(n.kids) > innerMax {
		half := len(n.kids) / 2
		right = &node{kids: slices.Clone(n.kids[half:])}
		right.refresh()
		clear(n.kids[half:])
		n.kids = n.kids[:half]
	}
	n.refresh()
	return right
}

// put is replace in a leaf that has room for it. It joins runs that became alike.
func (n *node) put(first uint64, with []run) {
	i := n.index(first)
	n.room(len(with) - 1)
	n.runs = slices.Replace(n.runs, i, i+1, with...)
	for j := min(i+len(with), len(n.runs)-1); j > 0 && j >= i; j-- {
		if n.runs[j-1].alike(&n.runs[j]) {
			n.runs[j-1].count += n.runs[j].count
			n.runs = slices.Delete(n.runs, j, j+1)
		}
	}
	n.refresh()
}

// room makes room for more runs. It doubles the capacity, up to exactly leafMax.
func (n *node) room(more int) {
	if need := len(n.runs) + more; need > cap(n.runs) {
		grown := make([]run, len(n.runs), min(leafMax, max(4, need, 2*cap(n.runs))))
		copy(grown, n.runs)
		n.runs = grown
	}
}

// size returns the number of runs in a leaf, or of children of an inner node. limit returns its bound.
func (n *node) size() int { return len(n.runs) + len(n.kids) }

func (n *node) limit() int {
	if n.leaf() {
		return leafMax
	}
	return innerMax
}

// join removes child i when it is empty, and merges it with a neighbour when both are nearly empty, so that the
// last of a million leases does not keep the memory of a million.
func (n *node) join(i int) {
	size, limit := n.kids[i].size(), n.kids[i].limit()
	if size == 0 {
		n.kids = slices.Delete(n.kids, i, i+1)
		return
	}
	if size > limit/4 {
		return
	}
	for _, left := range [2]int{i - 1, i} {
		if left >= 0 && left+1 < len(n.kids) &&
			n.kids[left].size()+n.kids[left+1].size() <= limit/2 {
			n.kids[left].take(n.kids[left+1])
			n.kids = slices.Delete(n.kids, left+1, left+2)
			return
		}
	}
}

// take moves everything from right, the next node at the same depth, to n.
func (n *node) take(right *node) {
	if n.leaf() {
		runs := right.runs
		if last := len(n.runs) - 1; last >= 0 && len(runs) > 0 && n.runs[last].alike(&runs[0]) {
			n.runs[last].count += runs[0].count
			runs = runs[1:]
		}
		n.room(len(runs))
		n.runs = append(n.runs, runs...)
	}
	if !n.leaf() {
		n.kids = append(n.kids, right.kids...)
	}
	n.refresh()
}

// refresh computes low and the summary from the runs or children of n.
func (n *node) refresh() {
	n.sum = emptySummary()
	for i := range n.runs {
		n.sum.add(&n.runs[i])
	}
	for _, k := range n.kids {
		n.sum.merge(&k.sum)
	}
	switch {
	case len(n.runs) > 0:
		n.low = n.runs[0].first
	case len(n.kids) > 0:
		n.low = n.kids[0].low
	}
}
