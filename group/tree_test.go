package group

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkTree checks order, depth, fill and summaries of all nodes.
func checkTree(t *testing.T, tr *tree) {
	t.Helper()
	if tr.root == nil {
		return
	}
	depth := -1
	prev := uint64(0)
	var walk func(n *node, level int)
	walk = func(n *node, level int) {
		want := emptySummary()
		if n.leaf() {
			if depth < 0 {
				depth = level
			}
			require.Equal(t, depth, level)
			require.LessOrEqual(t, cap(n.runs), leafMax)
			for i := range n.runs {
				r := &n.runs[i]
				require.Positive(t, r.count)
				require.GreaterOrEqual(t, r.first, prev)
				require.False(t, i > 0 && n.runs[i-1].alike(r), "neighbours are alike")
				prev = r.end()
				want.add(r)
			}
		}
		for _, k := range n.kids {
			walk(k, level+1)
			want.merge(&k.sum)
		}
		require.LessOrEqual(t, n.size(), n.limit())
		if n != tr.root {
			require.Positive(t, n.size())
		}
		if n.size() > 0 {
			first := n
			for !first.leaf() {
				first = first.kids[0]
			}
			require.Equal(t, first.runs[0].first, n.low)
		}
		require.Equal(t, want.messages(), n.sum.messages())
		require.Equal(t, want.deadline, n.sum.deadline)
		require.Equal(t, want.due, n.sum.due)
		require.Equal(t, want.leased, n.sum.leased)
		require.Equal(t, want.owners&^n.sum.owners, uint64(0))
	}
	walk(tr.root, 0)
}

// TestTreeBehavesLikeASlice grows a tree to several levels, changes it at random and empties it.
func TestTreeBehavesLikeASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	const n = 20_000
	var tr tree
	want := make([]uint64, n) // the tag of each offset; 0 is done
	for i := range uint64(n) {
		tag := 1 + uint64(rng.IntN(3))
		tr.append(run{first: i, count: 1, tag: tag, deadline: int64(1 + rng.IntN(50))})
		want[i] = tag
	}
	checkTree(t, &tr)
	change := func(offset uint64, remove bool) {
		r, ok := tr.find(offset, probe{})
		if !ok || r.first > offset {
			require.Zero(t, want[offset])
			return
		}
		require.Equal(t, want[offset], r.tag)
		q := Queue{runs: tr, total: new(totals)}
		part := r.clip(offset, offset+1)
		part.tag = 1 + uint64(rng.IntN(3))
		want[offset] = part.tag
		if remove {
			want[offset] = 0
			q.remove(r, offset, offset+1)
		} else {
			q.set(r, part)
		}
		tr = q.runs
	}
	compare := func() {
		checkTree(t, &tr)
		got := make([]uint64, n)
		for r := range tr.each {
			for i := range r.count {
				got[r.first+i] = r.tag
			}
		}
		require.Equal(t, want, got)
	}
	for i := range 40_000 {
		change(uint64(rng.IntN(n)), i%3 == 0)
		if i%4000 == 0 {
			compare()
		}
	}
	for i, offset := range rng.Perm(n) {
		change(uint64(offset), true)
		if i%4000 == 0 {
			compare()
		}
	}
	compare()
	require.Equal(t, emptySummary(), tr.summary())
	require.LessOrEqual(t, tr.root.size(), 0)
}
