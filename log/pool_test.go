package log

import (
	"testing"

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
