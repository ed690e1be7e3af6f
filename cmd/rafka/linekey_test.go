package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestKeysFromLines(t *testing.T) {
	f := func(k lineKey, line, want string) {
		t.Helper()
		require.NoError(t, k.prepare(&cobra.Command{}))
		require.True(t, k.used())
		got, err := k.of([]byte(line))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	f(lineKey{field: 1}, "a b c", "a")
	f(lineKey{field: 3}, "  a\tb   c ", "c")
	f(lineKey{field: 2, separator: ","}, "a,b,c", "b")
	f(lineKey{field: 2, separator: ","}, "a,,c", "")
	f(lineKey{separator: ":"}, "a:b:c", "a")
	f(lineKey{pattern: `^\S+`}, "alice did it", "alice")
	f(lineKey{pattern: `user=(\w+)`}, "x user=bob y", "bob")
}

func TestLinesWithoutAKey(t *testing.T) {
	f := func(k lineKey, line, want string) {
		t.Helper()
		require.NoError(t, k.prepare(&cobra.Command{}))
		_, err := k.of([]byte(line))
		require.ErrorContains(t, err, want)
	}
	f(lineKey{field: 3}, "a b", "no field 3")
	f(lineKey{field: 2, separator: ","}, "", "no field 2")
	f(lineKey{pattern: `^\d+`}, "a", "no match")
}

func TestKeyFlagsThatMakeNoSense(t *testing.T) {
	for _, k := range []lineKey{{field: -1}, {pattern: "("}, {pattern: "a", field: 1}, {pattern: "a", separator: ","}} {
		err := k.prepare(&cobra.Command{})
		require.Error(t, err)
		require.Equal(t, exitUsage, explain(err).exit)
	}
}
