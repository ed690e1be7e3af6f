package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The console blocks of the consumer page are run, in order, against one broker: every command must
// succeed, and print the lines below it, among others.
func TestTheConsumerPageRuns(t *testing.T) {
	page, err := os.ReadFile("../../docs/consuming.md")
	require.NoError(t, err)
	script := []string{"broker"}
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			command, ok := strings.CutPrefix(line, "$ ")
			if ok {
				commands++
				script = append(script, fmt.Sprintf("exec sh -c '%s 2>&1'", strings.ReplaceAll(command, "'", "''")))
				continue
			}
			words := strings.Fields(line)
			for i := range words {
				words[i] = regexp.QuoteMeta(words[i])
			}
			script = append(script, "stdout '"+strings.Join(words, " +")+"'")
		}
	}
	require.Greater(t, commands, 10)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page.txtar"), []byte(strings.Join(script, "\n")+"\n"), 0o644))
	runScripts(t, dir)
}

// The Go blocks of the consumer page are parts of the client's examples, which are compiled and run.
func TestTheConsumerPageQuotesExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/consuming.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../../client/*example*_test.go")
	require.NoError(t, err)
	var code strings.Builder
	for _, name := range files {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		code.Write(b)
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.Contains(t, squeeze(code.String()), squeeze(block[1]))
	}
}
