//go:build !linux

package log

func preferHuge([]byte) {}

func populate(mem []byte) { touch(mem) }

// availableMemory assumes the smallest machine that makes the largest default.
func availableMemory() int64 { return 4 << 30 }
