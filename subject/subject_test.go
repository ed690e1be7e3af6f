package subject

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestValidAndLiteral(t *testing.T) {
	f := func(s string, valid, literal bool) {
		t.Helper()
		require.Equal(t, valid, Valid([]byte(s)), "Valid(%q)", s)
		require.Equal(t, literal, Literal([]byte(s)), "Literal(%q)", s)
	}
	f("foo", true, true)
	f("foo.bar.baz", true, true)
	f("*", true, false)
	f(">", true, false)
	f("foo.*", true, false)
	f("foo.>", true, false)
	f("*.*.>", true, false)
	f("foo.*.bar", true, false)
	f("foo*.bar", true, true) // wildcard characters in a longer token stand for themselves
	f("foo.>bar", true, true)
	f("foo.**", true, true)
	f("foo.>>", true, true)
	f("$SYS.REQ._-x", true, true)
	f("grüße.日本", true, true)
	f("", false, false)
	f(".", false, false)
	f("..", false, false)
	f("foo.", false, false)
	f(".foo", false, false)
	f("foo..bar", false, false)
	f(">.foo", false, false)
	f("foo.>.bar", false, false)
	f("foo bar", false, false)
	f("foo\tbar", false, false)
	f("foo\r\nbar", false, false)
	f("foo\x00", false, false)
	f("foo\x7f", false, false)
	f(strings.Repeat("a.", 5000)+"a", true, true)
}

func TestMatch(t *testing.T) {
	f := func(pattern, subject string, want bool) {
		t.Helper()
		require.Equal(t, want, Match([]byte(pattern), []byte(subject)), "%s against %s", pattern, subject)
		x := NewIndex[int]()
		insert(x, pattern, "", 1)
		var m Matches[int]
		x.Match(&m, []byte(subject))
		require.Equal(t, want, len(m.Subs) == 1, "index with %s against %s", pattern, subject)
	}
	f("foo", "foo", true)
	f("foo", "fo", false)
	f("foo", "foo.bar", false)
	f("foo.bar", "foo", false)
	f("*", "foo", true)
	f("*", "foo.bar", false)
	f("foo.*", "foo", false)
	f("foo.*", "foo.bar", true)
	f("foo.*", "foo.bar.baz", false)
	f("*.bar", "foo.bar", true)
	f("*.bar", "foo.baz", false)
	f("foo.*.baz", "foo.bar.baz", true)
	f(">", "foo", true)
	f(">", "foo.bar.baz", true)
	f("foo.>", "foo", false)
	f("foo.>", "foo.bar", true)
	f("foo.>", "foo.bar.baz", true)
	f("*.>", "foo", false)
	f("*.>", "foo.bar", true)
	f("foo.*", "foo.*", true) // a subject is literal: only wildcards match its wildcard tokens
	f("foo.>", "foo.>", true)
	f("foo.x", "foo.*", false)
	f("foo*", "foo*", true)
	f("foo*", "foobar", false)
	f("foo.>", "foo..bar", false) // an empty token matches nothing
	f(">", "foo.", false)
	f(">", ".foo", false)
	f(">", "", false)
}

func FuzzMatchAgreesWithIndex(f *testing.F) {
	for _, seed := range []string{"foo.*\nfoo.bar", ">\na..b", "a.>\na.b.c", "*.*\na.b", "a.*\na.*", "\n", ".\n."} {
		pattern, subject, _ := strings.Cut(seed, "\n")
		f.Add([]byte(pattern), []byte(subject))
	}
	f.Fuzz(func(t *testing.T, pattern, subject []byte) {
		if !Valid(pattern) {
			return
		}
		if Literal(subject) {
			require.True(t, Valid(subject))
		}
		x := NewIndex[int]()
		s := insert(x, string(pattern), "", 1)
		require.Equal(t, string(pattern), s.Pattern())
		var m Matches[int]
		x.Match(&m, subject)
		require.Equal(t, Match(pattern, subject), !m.Empty(), "%q against %q", pattern, subject)
		x.Remove(s)
		m.Reset()
		x.Match(&m, subject)
		require.True(t, m.Empty())
		require.True(t, empty(x))
	})
}

// TestCoversAndOverlap compares both with all subjects of up to four tokens out of a small alphabet.
func TestCoversAndOverlap(t *testing.T) {
	var subjects []string
	grow := []string{""}
	for range 4 {
		var next []string
		for _, s := range grow {
			for _, token := range []string{"a", "b", "c"} {
				next = append(next, strings.TrimPrefix(s+"."+token, "."))
			}
		}
		subjects, grow = append(subjects, next...), next
	}
	token := rapid.SampledFrom([]string{"a", "b", "*", ">"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(token, 1, 3).Draw(t, "tokens"), ".")
	}).Filter(func(s string) bool { return Valid([]byte(s)) })
	rapid.Check(t, func(t *rapid.T) {
		p, o := pattern.Draw(t, "pattern"), pattern.Draw(t, "other")
		covers, overlap := true, false
		for _, s := range subjects {
			inP, inO := Match([]byte(p), []byte(s)), Match([]byte(o), []byte(s))
			covers = covers && (inP || !inO)
			overlap = overlap || inP && inO
		}
		require.Equal(t, covers, Covers([]byte(p), []byte(o)), "%s covers %s", p, o)
		require.Equal(t, overlap, Overlap([]byte(p), []byte(o)), "%s overlaps %s", p, o)
		require.Equal(t, overlap, Overlap([]byte(o), []byte(p)), "%s overlaps %s", o, p)
	})
}

// The hash of a token is the same as bytes and as a string, and tells similar ones apart.
func TestHashesOfTokens(t *testing.T) {
	h := newHasher()
	seen := map[uint64]string{}
	for size := range 40 {
		for i := range 200 {
			token := strings.Repeat("t", size) + strconv.Itoa(i)
			sum := h.string(token)
			require.Equal(t, sum, h.bytes([]byte(token)))
			require.Empty(t, seen[sum])
			seen[sum] = token
		}
	}
	for n := range 20 {
		require.NotPanics(t, func() { h.bytes(make([]byte, n)) })
	}
}
