package log

import (
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// groupLimit returns how much memory the control groups of this process let it have, in bytes, as a container's
// limit does; math.MaxInt64 when they let it have all. Root is where /proc and /sys are, "/" but in tests. See
// cgroups(7) for /proc/self/cgroup, and the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory for the files.
func groupLimit(root string) int64 {
	limit := int64(math.MaxInt64)
	groups, err := os.ReadFile(path.Join(root, "proc/self/cgroup"))
	if err != nil {
		return limit // a kernel without control groups
	}
	for line := range strings.Lines(string(groups)) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), ":")
		controllers, dir, _ := strings.Cut(line, ":")
		switch {
		case controllers == "":
			limit = min(limit, leastAbove(path.Join(root, "sys/fs/cgroup"), dir, "memory.max"))
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			limit = min(limit, leastAbove(path.Join(root, "sys/fs/cgroup/memory"), dir, "memory.limit_in_bytes"))
		}
	}
	return limit
}

// leastAbove returns the least limit of a group and of those it is in. A container may see its own group as the
// mount itself and be told a path that does not exist there: missing files limit nothing.
func leastAbove(mount, dir, file string) int64 {
	limit := int64(math.MaxInt64)
	for dir = path.Join("/", dir); ; dir = path.Dir(dir) {
		if text, err := os.ReadFile(path.Join(mount, dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // "max" is none
				limit = min(limit, n)
			}
		}
		if dir == "/" {
			return limit
		}
	}
}
