//go:build !linux

package log

func preferHuge([]byte) {}

func populate(mem []byte) { touch(mem) }

// ContainerMemory returns false: only Linux has containers that limit it.
func ContainerMemory() (limit int64, limited bool) { return 0, false }

// AvailableMemory assumes the smallest machine that makes the largest default.
func AvailableMemory() int64 { return 4 << 30 }
