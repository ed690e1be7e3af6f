package log

import "golang.org/x/sys/unix"

// preferHuge asks for huge pages. The only error is that the kernel has none.
func preferHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }

func populate(mem []byte) {
	if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) != nil {
		touch(mem)
	}
}

// availableMemory is what the machine has, or what the container may use of it.
func availableMemory() int64 {
	limit := groupLimit("/")
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return min(limit, 4<<30)
	}
	return min(limit, int64(uint64(info.Totalram)*uint64(info.Unit))) //nolint:unconvert // 32 bits on some machines
}
