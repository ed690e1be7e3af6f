package log

import (
	"sync"
	"time"
)

const (
	// maxJump is how far ahead the wall clock may jump to be believed at once.
	maxJump = time.Second
	// jumpDivisor says how fast a larger jump is followed: by 1/jumpDivisor of the time that passes.
	jumpDivisor = 2
)

// dueClock is the time by which retention removes records. It follows the wall clock back at once, because that only keeps
// records longer, but ahead only gradually: a clock that is wrong for a moment must not cost what is still wanted.
type dueClock struct {
	read func() (wall time.Time, passed time.Duration) // passed is monotonic

	mu     sync.Mutex // guards the fields below
	now    time.Time
	passed time.Duration
}

// newDueClock returns a clock that starts at the wall clock. When the times of now have a monotonic part, it is used.
func newDueClock(now func() time.Time) *dueClock {
	start := now()
	return &dueClock{now: start.Round(0), read: func() (time.Time, time.Duration) {
		t := now()
		return t.Round(0), t.Sub(start)
	}}
}

// nowMs returns the time in ms since 1970.
func (c *dueClock) nowMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, passed := c.read()
	elapsed := max(0, passed-c.passed)
	c.passed = passed
	if next := c.now.Add(elapsed); wall.Sub(next) > maxJump {
		wall = next.Add(elapsed / jumpDivisor)
	}
	c.now = wall
	return wall.UnixMilli()
}
