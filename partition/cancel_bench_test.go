package partition

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkCancel finds and drops one of a million messages that wait.
func BenchmarkCancel(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x scheduleIndex
	const messages = 1_000_000
	for id := uint64(1); id <= messages; id++ {
		x.push(newScheduled(rng.Int64N(1<<40), id, id-1, 1))
	}
	for b.Loop() {
		id := 1 + rng.Uint64N(messages)
		known := x.known([]uint64{id})
		if len(known) == 1 {
			x.drop(known)
			x.push(newScheduled(rng.Int64N(1<<40), id, id-1, 1))
		}
	}
}

// BenchmarkFire takes the first of a million messages that wait and adds another.
func BenchmarkFire(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var x scheduleIndex
	const messages = 1_000_000
	id := uint64(1)
	for ; id <= messages; id++ {
		x.push(newScheduled(rng.Int64N(1<<40), id, id-1, 1))
	}
	for b.Loop() {
		s := x.pop()
		x.push(newScheduled(s.due+rng.Int64N(1<<40), id, id-1, 1))
		id++
	}
}
