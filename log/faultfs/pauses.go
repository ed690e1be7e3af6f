package faultfs

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// pauses lets other goroutines run before and after calls, so that calls come in orders that an even
// machine never shows.
type pauses struct {
	mu  sync.Mutex // guards:
	rng *rand.Rand // nil: none
}

// Jitter makes calls other than reads yield or wait up to 2 ms, before and after they do something, as seed says. The
// disks that Clone and PowerCut return do so, too.
func (d *Disk) Jitter(seed uint64) {
	d.pauses.mu.Lock()
	defer d.pauses.mu.Unlock()
	d.pauses.rng = rand.New(rand.NewPCG(seed, 2))
}

// inherit goes on with the randomness of another disk.
func (p *pauses) inherit(from *pauses) {
	from.mu.Lock()
	defer from.mu.Unlock()
	if from.rng != nil {
		p.rng = rand.New(rand.NewPCG(from.rng.Uint64(), 3))
	}
}

// around pauses, and returns what pauses again.
func (p *pauses) around() func() {
	p.pause()
	return p.pause
}

func (p *pauses) pause() {
	p.mu.Lock()
	if p.rng == nil {
		p.mu.Unlock()
		return
	}
	kind, n := p.rng.IntN(100), p.rng.IntN(200)
	p.mu.Unlock()
	switch {
	case kind < 40:
	case kind < 90:
		for range 1 + n/20 {
			runtime.Gosched()
		}
	case kind < 99:
		time.Sleep(time.Duration(n) * time.Microsecond)
	default:
		time.Sleep(time.Duration(10*n) * time.Microsecond)
	}
}
