//go:build !linux

package log

func preferHuge([]byte) {}

func populate(mem []byte) { touch(mem) }

// ContainerMemory returns false: only Linux has containers that limit it.
func ContainerMemory() (limit int64, limited bool) { return 0, false }

// availableMemory assumes the smallest machine that makes the largest default.
func availableMemory() int64 { return 4 << 30 }
