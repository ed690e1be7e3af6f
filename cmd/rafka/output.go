package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
)

// lines reports whether each result is printed as one line of JSON.
func (c *cli) lines() bool { return c.output == "jsonl" }

// asJSON reports whether results are printed as JSON, in either form.
func (c *cli) asJSON() bool { return c.output == "json" || c.output == "jsonl" }

// printJSON prints v: indented for json, on one line for jsonl.
func (c *cli) printJSON(v any) error {
	b, err := encodeJSON(v, !c.lines())
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(b)
	return err
}

// encodeJSON returns v and a newline. Unlike json.Marshal it leaves <, > and & as they are.
func encodeJSON(v any, indent bool) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if indent {
		e.SetIndent("", "  ")
	}
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return escapeC1(b.Bytes()), nil
}

// report says on stderr what was done. With JSON output it prints v on stdout instead, on one line: a command can do
// something for each of several names.
func (c *cli) report(v any, format string, args ...any) error {
	if !c.asJSON() {
		c.sayf(format, args...)
		return nil
	}
	b, err := encodeJSON(v, false)
	if err != nil {
		return err
	}
	_, err = c.stdout.Write(b)
	return err
}

// printList writes rows: a table with a header, a JSON array, or one JSON object per line.
func printList[T any](c *cli, rows []T, header []string, cells func(T) []any) error {
	switch {
	case c.lines():
		for _, r := range rows {
			if err := c.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	case c.asJSON():
		if rows == nil {
			rows = []T{}
		}
		return c.printJSON(rows)
	}
	t := c.table(header)
	for _, r := range rows {
		row := cells(r)
		for i, cell := range row {
			if s, ok := cell.(string); ok {
				row[i] = oneLine(s)
			}
		}
		t.AppendRow(row)
	}
	_, err := fmt.Fprintln(c.stdout, t.Render())
	return err
}

// printOne prints a single result: as a table of names and values, or as JSON.
func (c *cli) printOne(v any, pairs [][2]string) error {
	if c.asJSON() {
		return c.printJSON(v)
	}
	width := 0
	for _, p := range pairs {
		width = max(width, len(p[0]))
	}
	for _, p := range pairs {
		if _, err := fmt.Fprintf(c.stdout, "%-*s  %s\n", width, p[0], oneLine(p[1])); err != nil {
			return err
		}
	}
	return nil
}

// table returns an empty table that renders to stdout. Its columns are two spaces apart without any
// lines, so that other programs can split them.
func (c *cli) table(header []string) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	row := make(table.Row, len(header))
	for i, h := range header {
		row[i] = c.bold(h)
	}
	t.AppendHeader(row)
	return t
}

func (c *cli) bold(s string) string { return c.escape(c.outTTY, "\x1b[1m", s) }
func (c *cli) red(s string) string  { return c.escape(c.errTTY, "\x1b[31m", s) }
func (c *cli) dim(s string) string  { return c.escape(c.outTTY, "\x1b[2m", s) }

// escape colours s if the output is a terminal and NO_COLOR is not set.
func (c *cli) escape(tty bool, code, s string) string {
	if no, _ := c.env("NO_COLOR"); !tty || no != "" {
		return s
	}
	return code + s + "\x1b[0m"
}

// sayf prints a line for the person on stderr.
func (c *cli) sayf(format string, args ...any) {
	fmt.Fprintln(c.stderr, harmless(fmt.Sprintf(format, args...)))
}

// textOrBase64 returns b as text if it is UTF-8, and else as base64. The other result is nil; both
// are nil for a nil b.
func textOrBase64(b []byte) (text, encoded *string) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}
