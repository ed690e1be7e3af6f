package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAServerThatEndsIsNotWaitedFor(t *testing.T) {
	addrs := map[string]bool{}
	sys := system{
		name: "nothing", program: "sh",
		args: func(s *server) ([]string, error) {
			addrs[s.addr] = true
			return []string{"-c", "echo out of order >&2; exit 1"}, nil
		},
	}
	parent := t.TempDir()
	_, err := boot(&sys, map[string]string{"sh": "/bin/sh"}, parent)
	require.ErrorContains(t, err, "out of order")
	require.Greater(t, len(addrs), 1, "its address may have been taken")
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestProgramsAreFoundInTheDirectoriesFirst(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nsqd"), nil, 0o755))
	t.Setenv("PATH", t.TempDir())
	var missing []string
	found := findPrograms([]string{dir}, func(name string) { missing = append(missing, name) })
	require.Equal(t, map[string]string{"nsqd": filepath.Join(dir, "nsqd")}, found)
	require.Equal(t, []string{"rafka", "nats-server", "redis-server", "nats"}, missing)
}

func TestMemoryIsNoDisk(t *testing.T) {
	require.Error(t, requireDisk(filepath.Join(t.TempDir(), "missing")))
	if _, err := os.Stat("/dev/shm"); err == nil {
		require.ErrorContains(t, requireDisk("/dev/shm"), "in memory")
	}
}
