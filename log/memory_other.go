//go:build !linux

package log

func preferHuge([]byte) {}

func populate(mem []byte) { touch(mem) }

// physicalMemory assumes the smallest machine that makes the largest default.
func physicalMemory() int64 { return 4 << 30 }
