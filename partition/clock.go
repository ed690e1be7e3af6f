package partition

import (
	"sync"
	"time"
)

const (
	// maxStep is the largest step of the wall clock that the slewClock takes at once.
	maxStep = time.Second
	// slewDivisor says how fast it follows a larger step: by 1/slewDivisor of the time that passes.
	slewDivisor = 2
)

// slewClock is the time by which scheduled messages are due. It advances with monotonic time and follows the wall
// clock: a difference of at most maxStep ahead is made up at once, any other gradually. So a jump of the wall clock
// neither publishes everything early nor stops publishing for long. A slewClock never goes back.
type slewClock struct {
	read   func() (wall time.Time, passed time.Duration) // passed is monotonic
	jumped func(by time.Duration)                        // called after a step of the wall clock over maxStep

	mu      sync.Mutex // guards the fields below
	now     time.Time
	passed  time.Duration
	behind  time.Duration // wall clock minus now; negative when now is ahead
	steps   uint64        // steps of the wall clock over maxStep
	started bool
}

// newSlewClock returns a clock that follows now. When the times of now have a monotonic part, it is used.
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

// adjust moves the clock on and returns the step of the wall clock when that was over maxStep, else 0. The caller
// holds mu.
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
		c.now = c.now.Add(-min(-off, most)) // most is below elapsed, which was just added: never back
	}
	c.behind = wall.Sub(c.now)
	return jump
}

// Steps returns how often the wall clock stepped by more than maxStep.
func (c *slewClock) Steps() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.steps
}
