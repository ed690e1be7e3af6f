package log

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A stall of the disk makes a store take much memory. Afterwards it gives back what it does not use, also when it is never
// idle, and keeps what it uses again and again.
func TestMemoryAfterAStallIsGivenBack(t *testing.T) {
	f := func(working, stall int) {
		t.Helper()
		p := newSlabPool(512<<20, false)
		defer p.close()
		use := func(n int) {
			held := make([]*slab, 0, n)
			for range n {
				s := p.take(classNormal)
				require.NotNil(t, s)
				held = append(held, s)
			}
			for _, s := range held {
				s.release()
			}
		}
		use(stall)
		mapped := func() int { return int(p.mapped) / slabBytes[classNormal] }
		require.GreaterOrEqual(t, mapped(), stall)
		for range 60 {
			use(working)
			p.trim()
		}
		limit := working + readyFloor[classNormal] + 1
		require.GreaterOrEqual(t, mapped(), working)
		require.LessOrEqual(t, mapped(), limit)
		cold := p.cold
		use(working)
		require.Equal(t, cold, p.cold, "what is used all the time was given back")
	}
	f(0, 100)
	f(1, 10)
	f(20, 200)
	f(100, 100)
}

// Slabs after the first are made in pieces, with pauses, until an append finds none ready, and again when the burst is
// over.
func TestSlabsAreMadeGentlyUntilAnAppendFindsNone(t *testing.T) {
	p := newSlabPool(64<<20, false)
	defer p.close()
	require.True(t, p.hurried(classNormal))
	p.prepare()
	for class := range classes {
		require.Len(t, p.free[class], readyFloor[class])
	}
	require.Zero(t, p.cold)
	var held []*slab
	for range readyFloor[classNormal] {
		held = append(held, p.take(classNormal))
	}
	require.False(t, p.hurried(classNormal))
	held = append(held, p.take(classNormal))
	require.True(t, p.hurried(classNormal))
	require.False(t, p.hurried(classSmall))
	p.prepare()
	require.GreaterOrEqual(t, len(p.free[classNormal]), p.target[classNormal])
	for _, s := range held {
		s.release()
	}
	for range 20 {
		p.trim()
	}
	require.False(t, p.hurried(classNormal))
}

func TestMappingGentlyPausesAfterEachPiece(t *testing.T) {
	const n = 2*gentlePiece + 1
	looks := 0
	mem, err := mapGently(n, func() bool { looks++; return looks > 1 })
	require.NoError(t, err)
	defer unmapMemory(mem)
	require.Equal(t, 3, looks)
	require.Equal(t, make([]byte, n), mem)
	mem[n-1] = 1
}

// Slabs that are mapped together are unmapped one by one, which takes whole pages. Linux on arm64 has pages of 4, 16 or
// 64 KiB.
func TestSlabsAreWholePages(t *testing.T) {
	f := func(page int) {
		t.Helper()
		for _, size := range slabSizes(page) {
			require.Zero(t, size%page)
		}
		require.Zero(t, hugePage%slabSizes(page)[classSmall])
		require.Zero(t, hugePage%slabSizes(page)[classNormal])
	}
	f(4 << 10)
	f(16 << 10)
	f(64 << 10)
	require.Equal(t, slabSizes(4<<10), slabSizes(16<<10), "a page of up to 32 KiB changes nothing")
}

// A crowded store maps small slabs together, and gives each of them back alone.
func TestSmallSlabsAreUnmappedOneByOne(t *testing.T) {
	p := newSlabPool(64<<20, false)
	p.crowded.Store(true)
	taken := make([]*slab, 2*hugePage/slabBytes[classSmall])
	for i := range taken {
		taken[i] = p.take(classSmall)
		require.NotNil(t, taken[i])
		taken[i].mem[0] = byte(i)
	}
	p.close()
	for i, s := range taken {
		require.Equal(t, byte(i), s.mem[0], "slab %d went with one before it", i)
		s.release()
		require.Nil(t, s.mem)
	}
}

func TestBareSlabsStayWithinTheBudget(t *testing.T) {
	size := slabBytes[classSmall]
	const most = bareSlabs + 3
	p := newSlabPool(int64(most*size), false)
	t.Cleanup(p.close)
	var held []*slab
	for range most {
		s := p.takeBare(classSmall)
		require.NotNil(t, s)
		assert.Len(t, s.mem, size)
		assert.Zero(t, s.mem[size-1])
		s.mem[size-1] = 1
		held = append(held, s)
		assert.LessOrEqual(t, p.mapped, p.budget)
	}
	assert.Nil(t, p.takeBare(classSmall))
	for _, s := range held {
		assert.Equal(t, byte(1), s.mem[size-1], "shared with another slab")
		s.release()
	}
	assert.NotNil(t, p.take(classSmall))
}
