package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// logLines returns a real log of this machine, its package manager's, or one of the same shape where
// there is none.
func logLines(t *testing.T) []string {
	t.Helper()
	if b, err := os.ReadFile("/var/log/dpkg.log"); err == nil && bytes.Count(b, []byte("\n")) > 1000 {
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		return lines[:min(len(lines), 20_000)]
	}
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("2026-11-22 10:%02d:%02d status installed lib%d:amd64 1.%d-%d",
			i/60%60, i%60, i%97, i%13, i))
	}
	return lines
}

// checksum is of a set of lines, whatever their order.
func checksum(lines []string) string {
	sorted := append([]string(nil), lines...)
	sort.Strings(sorted)
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\n")))
	return hex.EncodeToString(sum[:])
}

// tool is the command line under test.
type tool struct {
	t    *testing.T
	path string
	addr string
}

func (r *tool) run(stdin string, args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), waitLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.path, args...)
	cmd.Env = append(os.Environ(), "RAFKA_SERVER="+r.addr)
	cmd.Stdin = strings.NewReader(stdin)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	require.NoError(r.t, cmd.Run(), "rafka %s\n%s", strings.Join(args, " "), talk.String())
	return out.String()
}

// TestALogFileGoesThroughAGroupAndAQueueAcrossAKill takes the way a new user takes: a log file goes
// in line by line, keyed by package; half is consumed; the broker is killed; the rest is consumed.
func TestALogFileGoesThroughAGroupAndAQueueAcrossAKill(t *testing.T) {
	lines := logLines(t)
	path := filepath.Join(t.TempDir(), "rafka")
	build := exec.Command("go", "build", "-o", path, "github.com/rafka-mq/rafka/cmd/rafka")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	b := &broker{t: t, dir: t.TempDir()}
	r := &tool{t: t, path: path, addr: b.start()}
	r.run("", "topic", "create", "packages", "--partitions", "4")
	half := len(lines) / 2
	input := func(lines []string) string { return strings.Join(lines, "\n") + "\n" }
	r.run(input(lines[:half]), "pub", "packages", "--lines", "--key-field", "4")
	group := r.consume("--group", "audit", "-n", fmt.Sprint(half/2))
	queue := r.consume("--queue", "workers", "-n", fmt.Sprint(half/3))

	b.kill()
	r.addr = b.start()
	defer b.kill()
	r.run(input(lines[half:]), "pub", "packages", "--lines", "--key-field", "4")
	group = append(group, r.consume("--group", "audit", "--exit-on-end")...)
	queue = append(queue, r.consume("--queue", "workers", "--exit-on-end")...)

	require.Len(t, group, len(lines))
	require.Equal(t, checksum(lines), checksum(group), "the group read every line once")
	require.Len(t, queue, len(lines))
	require.Equal(t, checksum(lines), checksum(queue), "the queue delivered every line once")
	perKey := func(lines []string) map[string][]string {
		m := map[string][]string{}
		for _, l := range lines {
			if f := strings.Fields(l); len(f) > 3 {
				m[f[3]] = append(m[f[3]], l)
			}
		}
		return m
	}
	require.Equal(t, perKey(lines), perKey(group), "the group kept the order of every key")
	again := r.run("", "sub", "packages", "--from", "start", "--exit-on-end", "-o", "raw")
	require.Equal(t, checksum(lines), checksum(strings.Split(strings.TrimSuffix(again, "\n"), "\n")))
}

// consume returns the values that a consumer was given and settled.
func (r *tool) consume(args ...string) []string {
	r.t.Helper()
	out := r.run("", append([]string{"consume", "packages", "-o", "raw"}, args...)...)
	if out == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}
