package server

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the latency buckets, from the time of a turn of an event loop to that of a stuck
// disk.
var latencyBounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond,
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// histogram counts latencies. It is safe for concurrent use.
type histogram struct {
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Uint64 // in nanoseconds; may wrap around, as counters may
}

// observe counts n events with a latency of d each.
func (h *histogram) observe(d time.Duration, n uint64) {
	if n == 0 {
		return
	}
	d = max(0, d) // the clock may be set back
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	h.counts[i].Add(n)
	h.sum.Add(uint64(d) * n)
}

// read returns the cumulative counts by upper bound in seconds, in the form that Prometheus expects.
func (h *histogram) read() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(latencyBounds))
	for i := range h.counts {
		count += h.counts[i].Load()
		if i < len(latencyBounds) {
			buckets[latencyBounds[i].Seconds()] = count
		}
	}
	return count, float64(h.sum.Load()) / 1e9, buckets
}
