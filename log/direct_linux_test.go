package log

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDirectWritesGoOnWithThePageCache writes what no file system takes past the page cache.
func TestDirectWritesGoOnWithThePageCache(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := OS.Open(name, true, true)
	require.NoError(t, err)
	direct, err := OS.OpenDirect(name)
	require.NoError(t, err)
	page := bytes.Repeat([]byte{1}, 4096)
	mem, err := mapMemory(4096)
	require.NoError(t, err)
	defer unmapMemory(mem)
	copy(mem, page)
	require.NoError(t, writeFull(direct, mem, 0))
	require.NoError(t, writeFull(direct, []byte("odd"), 4096+1))
	require.NoError(t, writeFull(direct, mem, 8192))
	require.NoError(t, f.Sync())
	got := make([]byte, 3*4096)
	require.NoError(t, readFull(f, got, 0))
	want := append(append(bytes.Clone(page), make([]byte, 4096)...), page...)
	copy(want[4097:], "odd")
	require.Equal(t, want, got)
	require.NoError(t, f.Close())
	require.NoError(t, direct.Close())

	_, err = OS.OpenDirect(filepath.Join(t.TempDir(), "missing"))
	require.True(t, missing(err))
}
