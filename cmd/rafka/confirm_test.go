package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestConfirm(t *testing.T) {
	f := func(d destructive, tty bool, answer string, wantOK bool, wantSaid string) error {
		t.Helper()
		var said bytes.Buffer
		c := newCLI(strings.NewReader(answer), nil, &said, func(string) (string, bool) { return "", false })
		c.inTTY, c.errTTY = tty, tty
		cmd := &cobra.Command{Use: "rm"}
		cmd.SetContext(t.Context())
		ok, err := d.confirm(c, cmd, topicChange{}, "remove all")
		require.Equal(t, wantOK, ok)
		require.Equal(t, wantSaid, said.String())
		return err
	}
	require.NoError(t, f(destructive{yes: true}, false, "", true, ""))
	require.NoError(t, f(destructive{dryRun: dryRun{true}, yes: true}, true, "", false, "would remove all\n"))
	require.NoError(t, f(destructive{}, true, "y\n", true, "remove all? [y/N] "))
	require.NoError(t, f(destructive{}, true, "Yes", true, "remove all? [y/N] "))
	require.NoError(t, f(destructive{}, true, "\n", false, "remove all? [y/N] nothing was done\n"))
	require.NoError(t, f(destructive{}, true, "", false, "remove all? [y/N] nothing was done\n"))

	err := f(destructive{}, false, "y\n", false, "")
	require.Equal(t, exitUsage, explain(err).exit)
	require.Contains(t, explain(err).hint, "--yes")
}
