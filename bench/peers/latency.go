package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest latency that is told apart.
const longest = time.Minute

// newHistogram counts latencies in units of 100 ns, with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest/latencyUnit), 3)
}

const latencyUnit = 100 * time.Nanosecond

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, latencyUnit), longest) / latencyUnit)) // within the range by then
}

// percentiles are what is printed of latencies, in microseconds.
var percentiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}}

// addPercentiles adds what a histogram holds to figures, under names with a prefix.
func addPercentiles(f figures, prefix string, h *hdrhistogram.Histogram) {
	for _, p := range percentiles {
		f[prefix+p.name] = float64(h.ValueAtPercentile(p.at)) * float64(latencyUnit) / float64(time.Microsecond)
	}
}
