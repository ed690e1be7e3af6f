package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the highest latency that is recorded; longer ones count as this.
const maxLatency = time.Minute

// newHistogram returns a histogram of latencies in units of latencyUnit, with three significant digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(maxLatency/latencyUnit), 3)
}

const latencyUnit = 100 * time.Nanosecond

// record adds a latency to a histogram.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, latencyUnit), maxLatency) / latencyUnit)) // cannot fail: the value is within the range
}

// percentiles are the figures of latencies, in microseconds.
var percentiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}}

// addPercentiles adds the percentiles of a histogram to figures. prefix is put before their names.
func addPercentiles(f figures, prefix string, h *hdrhistogram.Histogram) {
	for _, p := range percentiles {
		f[prefix+p.name] = float64(h.ValueAtPercentile(p.at)) * float64(latencyUnit) / float64(time.Microsecond)
	}
}
