package log

import "golang.org/x/sys/unix"

// preferHuge asks for huge pages. The error is ignored: the kernel may not have any.
func preferHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }

func populate(mem []byte) {
	if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) != nil {
		touch(mem)
	}
}

// ContainerMemory returns the memory limit of the process's control groups in bytes, for example that of a container,
// and false when there is none below the machine's memory.
func ContainerMemory() (limit int64, limited bool) {
	limit = groupLimit("/")
	return limit, limit < machineMemory()
}

// machineMemory returns the memory of the machine in bytes.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 4 << 30
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) //nolint:unconvert // 32 bits on some machines
}

// AvailableMemory returns the memory of the machine in bytes, or the container's limit when that is lower.
func AvailableMemory() int64 { return min(groupLimit("/"), machineMemory()) }
