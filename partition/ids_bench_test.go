package partition

import (
	"encoding/binary"
	"testing"
	"time"
)

// BenchmarkForget is how long publishers wait at most for each other while a million ids are stored and forgotten.
func BenchmarkForget(b *testing.B) {
	var longest [2]time.Duration
	for b.Loop() {
		var s ids
		for i := range uint64(maxIDs) {
			var id digest
			binary.LittleEndian.PutUint64(id[:], i*0x9e3779b97f4a7c15)
			begin := time.Now()
			s.add(id, place{i, i}, 1_763_800_000_000)
			longest[0] = max(longest[0], time.Since(begin))
		}
		for more := true; more; {
			begin := time.Now()
			more = s.forget(1_763_800_000_001)
			longest[1] = max(longest[1], time.Since(begin))
		}
	}
	b.ReportMetric(float64(longest[0].Microseconds()), "add-max-us")
	b.ReportMetric(float64(longest[1].Microseconds()), "forget-max-us")
}
