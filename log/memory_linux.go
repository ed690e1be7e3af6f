package log

import "golang.org/x/sys/unix"

// preferHuge asks for huge pages. The only error is that the kernel has none.
func preferHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }

func populate(mem []byte) {
	if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) != nil {
		touch(mem)
	}
}

// ContainerMemory returns how much memory the process's control groups, as a container has one, let it have, in
// bytes, and false when they let it have all of the machine's.
func ContainerMemory() (limit int64, limited bool) {
	limit = groupLimit("/")
	return limit, limit < machineMemory()
}

// machineMemory is what the machine has.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 4 << 30
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) //nolint:unconvert // 32 bits on some machines
}

// availableMemory is what the machine has, or what the container may use of it.
func availableMemory() int64 { return min(groupLimit("/"), machineMemory()) }
