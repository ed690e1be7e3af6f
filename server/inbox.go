package server

import (
	"sync"
	"time"
)

// job is work that is posted to a loop and runs on the loop's goroutine.
type job interface{ run(now time.Time) }

// jobFunc is a job made of a function.
type jobFunc func(now time.Time)

func (f jobFunc) run(now time.Time) { f(now) }

// inbox has the jobs that were posted to a loop. Of a loop, other goroutines use only this and brake.mail. It wakes the
// loop's driver when that sleeps, and only then.
type inbox struct {
	ring func() // wakes the driver, which then calls drain; safe for concurrent use

	mu   sync.Mutex // guards jobs, rung and over
	jobs []job
	rung bool // the driver need not be woken: it was, or a turn runs, which looks at the jobs at its end
	over bool // the driver has ended: jobs are refused

	spare []job // memory of the jobs that were taken last
}

// post posts a job to the loop. It may be called from any goroutine and never blocks. It returns false when the loop has
// ended, so that the job will not run.
func (b *inbox) post(j job) bool {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return false
	}
	b.jobs = append(b.jobs, j)
	ring := !b.rung
	b.rung = true
	b.mu.Unlock()
	if ring {
		b.ring()
	}
	return true
}

// take returns the jobs, and keeps posts from waking the driver until leave. They are valid until the next call.
func (b *inbox) take() []job {
	b.mu.Lock()
	b.jobs, b.spare = b.spare[:0], b.jobs
	b.rung = true
	b.mu.Unlock()
	return b.spare
}

// leave adds jobs for the next turn. It lets posts wake the driver again, and wakes it for what is there already.
func (b *inbox) leave(more []job) {
	b.mu.Lock()
	b.jobs = append(b.jobs, more...)
	ring := len(b.jobs) > 0
	b.rung = ring
	b.mu.Unlock()
	if ring {
		b.ring()
	}
}

// ended reports whether jobs are refused.
func (b *inbox) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}

// end refuses further jobs.
func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}
