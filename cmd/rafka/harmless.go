package main

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// harmless returns s with escapes such as \x1b in the place of what a terminal would act on, or would not show. Line ends
// and tabs stay. Names and errors that others chose go through it before they are printed.
func harmless(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, isHarmful) {
		return s
	}
	var b []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\x`...)
			b = append(b, "0123456789abcdef"[s[0]>>4], "0123456789abcdef"[s[0]&15])
		case isHarmful(r):
			quoted := strconv.QuoteRune(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		default:
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return string(b)
}

func isHarmful(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }

// oneLine is harmless for what must not end a line.
func oneLine(s string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(harmless(s))
}

// onTerminal returns value as it is, or harmless if stdout is a terminal.
func (c *cli) onTerminal(value []byte) []byte {
	if !c.outTTY {
		return value
	}
	return []byte(harmless(string(value)))
}

// escapeC1 writes the control characters from U+0080 to U+009F in JSON as escapes: encoding/json leaves them as they are,
// and terminals act on them.
func escapeC1(b []byte) []byte {
	if !bytes.Contains(b, []byte{0xc2}) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for i := 0; i < len(b); i++ {
		if b[i] == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0 {
			i++
			out = append(out, `\u00`...)
			out = append(out, "0123456789abcdef"[b[i]>>4], "0123456789abcdef"[b[i]&15])
			continue
		}
		out = append(out, b[i])
	}
	return out
}
