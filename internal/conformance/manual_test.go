package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/server"
)

// program returns the program of the manual's first steps in a language, with the broker's address in the
// place of the usual one.
func program(t *testing.T, language, addr string) string {
	t.Helper()
	manual, err := os.ReadFile("../../docs/text-mode.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(string(manual), -1)
	require.Len(t, found, 1, "programs in %s", language)
	require.Contains(t, found[0][1], "127.0.0.1:4222")
	return strings.ReplaceAll(found[0][1], "127.0.0.1:4222", addr)
}

// prints runs a command of the manual and checks what it says it prints.
func prints(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.ElementsMatch(t, []string{"orders.eu hello", "noon"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// The programs of the manual do what it says they do.
func TestFirstStepsOfTheManual(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	t.Run("go", func(t *testing.T) {
		b := broker(t, server.Options{})
		file := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(file, []byte(program(t, "go", b.Addr)), 0o600))
		prints(t, exec.CommandContext(ctx, "go", "run", file))
	})
	t.Run("python", func(t *testing.T) {
		packages := tool(t, "RAFKA_NATS_PY")
		if _, err := os.Stat(filepath.Join(packages, "nats")); err != nil {
			t.Skipf("nats.py could not be fetched: %s", err)
		}
		b := broker(t, server.Options{})
		cmd := exec.CommandContext(ctx, "python3", "-c", program(t, "python", b.Addr))
		cmd.Env = append(os.Environ(), "PYTHONPATH="+packages)
		prints(t, cmd)
	})
	t.Run("js", func(t *testing.T) {
		dir := tool(t, "RAFKA_NATS_JS")
		b := broker(t, server.Options{})
		cmd := exec.CommandContext(ctx, "node", "--input-type=module", "-e", program(t, "js", b.Addr))
		cmd.Dir = dir
		prints(t, cmd)
	})
}
