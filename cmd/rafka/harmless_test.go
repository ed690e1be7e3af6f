package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

// evil would colour what follows, set the title of the window, and begin a command in one more way; it also turns the
// direction of the text around.
const evil = "\x1b[31m\x1b]0;t\a\u009b2J\u202e"

const evilShown = `\x1b[31m\x1b]0;t\a\u009b2J\u202e`

func TestHarmlessText(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		require.Equal(t, want, harmless(s))
	}
	f("", "")
	f("plain", "plain")
	f("two\nlines\tand ä 世界 🙂", "two\nlines\tand ä 世界 🙂")
	f(evil, evilShown)
	f("a\r\x00\x7f", `a\r\x00\x7f`)
	f("\x9b1m\xff", `\x9b1m\xff`)
	f("\ufffd", "\ufffd")
	require.Equal(t, `a\nb\t\x1b`, oneLine("a\nb\t\x1b"))
}

// Whatever others chose reaches a terminal as text.
func TestNothingActsOnATerminal(t *testing.T) {
	var out, errs bytes.Buffer
	c := newCLI(nil, &out, &errs, func(name string) (string, bool) { return "", false })
	c.outTTY = true
	shows := func(what string) {
		t.Helper()
		both := out.String() + errs.String()
		out.Reset()
		errs.Reset()
		require.Contains(t, both, evilShown, what)
		require.NotRegexp(t, "[\x07\u009b\u202e\r]|\x1b[^\\[]|\x1b\\[31m", both, what)
	}
	c.sayf("listening on %s", evil)
	shows("sayf")
	require.NoError(t, printList(c, []string{evil}, []string{"A"}, func(s string) []any { return []any{s, 1} }))
	shows("printList")
	require.NoError(t, c.printOne(nil, [][2]string{{"a", evil}}))
	shows("printOne")
	c.reportFailure(&failure{name: "X", err: errors.New(evil)})
	shows("error")
	c.reportFailure(&failure{name: "X", err: errors.New("x"), detail: evil})
	shows("detail")
	c.reportFailure(&failure{name: "X", err: errors.New("x"), hint: evil})
	shows("hint")
	require.NoError(t, c.printValue(&client.Message{Value: []byte(evil)}))
	shows("value")
	w := c.newMessageWriter()
	require.NoError(t, w.write(&client.Message{Subject: evil}, true))
	shows("subject")
	c.output = "raw"
	require.NoError(t, w.write(&client.Message{Value: []byte(evil)}, true))
	shows("raw value")
	c.outTTY = false
	require.NoError(t, c.printValue(&client.Message{Value: []byte(evil)}))
	require.Equal(t, evil+"\n", out.String())
}

func TestJSONHasNoControlCharacters(t *testing.T) {
	in := map[string]string{"a\u009b": evil + "äÂ\u0080\u009f\u00a0"}
	b, err := encodeJSON(in, false)
	require.NoError(t, err)
	require.NotRegexp(t, "[\x00-\x09\x0b-\x1f\u0080-\u009f]", string(b))
	var back map[string]string
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, in, back)
}
