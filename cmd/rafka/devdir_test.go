package main

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
)

func devCLI() *cli {
	return newCLI(nil, io.Discard, io.Discard, func(string) (string, bool) { return "", false })
}

// left makes a directory as a killed rafka dev leaves it.
func left(t *testing.T) string {
	t.Helper()
	d, err := newDevDir()
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(d.data(), "commit"), 0o700))
	require.NoError(t, d.close())
	return d.path
}

// Brokers that start and end at the same time never delete the directory of one that lives.
func TestDevBrokersThatStartAtOnceKeepTheirDirectories(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				devCLI().removeDead()
				d, err := newDevDir()
				if err == nil {
					err = os.Mkdir(d.data(), 0o700)
				}
				devCLI().removeDead()
				if err == nil {
					_, err = os.Stat(d.data())
				}
				if err == nil {
					err = d.remove()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestOnlyWhatKilledDevBrokersLeftIsDeleted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	remains := func(path string) bool {
		devCLI().removeDead()
		_, err := os.Lstat(path)
		return err == nil
	}
	require.False(t, remains(left(t)))

	noData := left(t)
	require.NoError(t, os.RemoveAll(filepath.Join(noData, devData)))
	require.False(t, remains(noData))

	empty := filepath.Join(os.TempDir(), devPrefix+"1")
	require.NoError(t, os.Mkdir(empty, 0o700))
	require.True(t, remains(empty))

	elsewhere := left(t)
	moved := filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.Rename(elsewhere, moved))
	require.NoError(t, os.Symlink(moved, elsewhere))
	require.True(t, remains(elsewhere))
	require.DirExists(t, filepath.Join(moved, devData))

	inside := left(t) // with a link to what is not ours
	require.NoError(t, os.RemoveAll(filepath.Join(inside, devData)))
	require.NoError(t, os.Symlink(moved, filepath.Join(inside, devData)))
	require.False(t, remains(inside))
	require.DirExists(t, filepath.Join(moved, devData))
	require.NoFileExists(t, filepath.Join(moved, "LOCK"))

	served := left(t)
	lock, err := log.OS.Lock(filepath.Join(served, devData, "LOCK"))
	require.NoError(t, err)
	require.True(t, remains(served))
	require.NoError(t, lock.Close())
	require.False(t, remains(served))

	more := left(t) // somebody keeps something beside the data
	require.NoError(t, os.WriteFile(filepath.Join(more, "notes"), nil, 0o600))
	require.True(t, remains(filepath.Join(more, "notes")))
}

func TestDirectoriesOfOthersStay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory of somebody else")
	}
	t.Setenv("TMPDIR", t.TempDir())
	path := left(t)
	require.NoError(t, os.Chown(path, 12345, 12345))
	devCLI().removeDead()
	require.DirExists(t, filepath.Join(path, devData))
}
