package log

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimitOfControlGroups(t *testing.T) {
	const none = math.MaxInt64
	for _, c := range []struct {
		name   string
		groups string
		files  map[string]string
		limit  int64
	}{
		{"no control groups", "", nil, none},
		{"a container", "0::/\n", map[string]string{"memory.max": "268435456\n"}, 256 << 20},
		{"without a limit", "0::/\n", map[string]string{"memory.max": "max\n"}, none},
		{"a service, its slice is tighter", "0::/system.slice/rafka.service\n", map[string]string{
			"system.slice/rafka.service/memory.max": "536870912\n", "system.slice/memory.max": "134217728\n",
		}, 128 << 20},
		{"a path of the host that the container does not see", "0::/kubepods/burstable/pod1\n", map[string]string{
			"memory.max": "1048576\n",
		}, 1 << 20},
		{"a path outside of its namespace", "0::/../../x\n", map[string]string{"memory.max": "1048576\n"}, 1 << 20},
		{"version 1", "5:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n", map[string]string{
			"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/a/memory.limit_in_bytes": "67108864\n",
			"a/memory.max": "1\n", "memory/a/b/memory.limit_in_bytes": "134217728",
		}, 64 << 20},
		{"nonsense", "0::/\nx\n::\n", map[string]string{"memory.max": "many"}, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				name = filepath.Join(root, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
				require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
			}
			if c.groups != "" {
				write("proc/self/cgroup", c.groups)
			}
			for name, text := range c.files {
				write(filepath.Join("sys/fs/cgroup", name), text)
			}
			require.Equal(t, c.limit, groupLimit(root))
		})
	}
}
