package partition

import (
	"sync"
	"time"
)

const (
	// maxStep is the largest correction of the wall clock that the scheduler follows at once.
	maxStep = time.Second
	// slewDivisor is how fast it follows a larger one: by half of the time that passes.
	slewDivisor = 2
)

// slewClock is the time by which scheduled messages are due. It goes on as time passes, and follows the
// wall clock: at once when that was corrected by at most maxStep, else so slowly that a jump neither
// publishes everything early nor nothing for long. It never goes back.
type slewClock struct {
	read   func() (wall time.Time, passed time.Duration)
	jumped func(by time.Duration) // tells about a step over maxStep

	mu      sync.Mutex // guards the fields below
	now     time.Time
	passed  time.Duration
	behind  time.Duration // of the wall clock; negative when it is ahead
	steps   uint64
	started bool
}

// newSlewClock makes a clock that reads now, whose times may have a monotonic part.
func newSlewClock(now func() time.Time, jumped func(by time.Duration)) *slewClock {
	start := now()
	return &slewClock{
		jumped: jumped,
		read: func() (time.Time, time.Duration) {
			t := now()
			return t.Round(0), t.Sub(start)
		},
	}
}

// Now returns the time.
func (c *slewClock) Now() time.Time {
	c.mu.Lock()
	wall, passed := c.read()
	by := c.adjust(wall, passed)
	now := c.now
	c.mu.Unlock()
	if by != 0 {
		c.jumped(by)
	}
	return now
}

// adjust follows the wall clock, and returns by how much it jumped.
func (c *slewClock) adjust(wall time.Time, passed time.Duration) (jump time.Duration) {
	if !c.started {
		c.started, c.now, c.passed = true, wall, passed
		return 0
	}
	elapsed := max(0, passed-c.passed)
	c.now, c.passed = c.now.Add(elapsed), max(passed, c.passed)
	off := wall.Sub(c.now)
	if step := off - c.behind; step > maxStep || step < -maxStep {
		c.steps++
		jump = step
	}
	c.behind = off
	switch most := elapsed / slewDivisor; {
	case off >= 0 && off <= maxStep:
		most = off
		fallthrough
	case off > 0:
		c.now = c.now.Add(min(off, most))
	case off < 0:
		c.now = c.now.Add(-min(-off, most)) // elapsed is more than that: never back
	}
	c.behind = wall.Sub(c.now)
	return jump
}

// Steps returns how often the wall clock jumped.
func (c *slewClock) Steps() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps
}
