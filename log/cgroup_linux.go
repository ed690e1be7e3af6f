package log

import (
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// groupLimit returns the memory limit of this process's control groups in bytes, for example that of a container,
// or math.MaxInt64 when there is none. root is the directory of /proc and /sys: "/", except in tests. For the files
// see cgroups(7), and cgroup-v2 and cgroup-v1/memory in the kernel's admin-guide.
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

// leastAbove returns the lowest limit of a group and its ancestors. A missing file is no limit: in a container the
// mount may be the container's own group, and dir a path that does not exist there.
func leastAbove(mount, dir, file string) int64 {
	limit := int64(math.MaxInt64)
	for dir = path.Join("/", dir); ; dir = path.Dir(dir) {
		if text, err := os.ReadFile(path.Join(mount, dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // "max" is no limit
				limit = min(limit, n)
			}
		}
		if dir == "/" {
			return limit
		}
	}
}
