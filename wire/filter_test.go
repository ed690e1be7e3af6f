package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiltersLookAtHeaders(t *testing.T) {
	h := Headers{}.Append("type", []byte("invoice")).Append("type", []byte("copy")).Append("empty", nil)
	f := func(want bool, terms ...string) {
		t.Helper()
		var filter Filter
		for _, s := range terms {
			term, err := ParseFilterTerm(s)
			require.NoError(t, err)
			require.Equal(t, s, term.String())
			filter = append(filter, term)
		}
		require.True(t, filter.Valid())
		require.Equal(t, want, filter.Match(h), strings.Join(terms, " and "))
		r := body{b: filter.append(nil)}
		require.Equal(t, filter, r.filter())
		require.NoError(t, r.done())
	}
	f(true)
	f(true, "type")
	f(false, "other")
	f(true, "!other")
	f(false, "!type")
	f(true, "type=invoice")
	f(true, "type=copy")
	f(false, "type=inv")
	f(true, "type^=inv")
	f(true, "type^=")
	f(false, "other^=")
	f(false, "type!=copy")
	f(true, "type!=order")
	f(true, "other!=x")
	f(true, "empty=")
	f(false, "empty=x")
	f(true, "type=invoice", "type=copy", "!test")
	f(false, "type=invoice", "test")
	f(false, "Type") // names are compared as they are
	f(true, "type!=a=b")

	for _, bad := range []string{"", "!", "=x", "!=x", "^=x", strings.Repeat("n", MaxFilterBytes+1), "n=" + strings.Repeat("v", MaxFilterBytes+1)} {
		_, err := ParseFilterTerm(bad)
		require.Error(t, err, bad)
	}
	require.False(t, make(Filter, MaxFilterTerms+1).Valid())
	for name, b := range map[string][]byte{
		"too many": append([]byte{MaxFilterTerms + 1}, []byte(strings.Repeat("\x00\x01\x00n\x00\x00", MaxFilterTerms+1))...),
		"no name":  {1, 0, 0, 0, 0, 0}, "unknown": {1, 9, 1, 0, 'n', 0, 0}, "value of nothing": {1, 0, 1, 0, 'n', 1, 0, 'v'},
		"cut": {1, 2, 1, 0, 'n', 1, 0}, "no count": {},
	} {
		r := body{b: b}
		require.Empty(t, r.filter(), name)
		require.ErrorIs(t, r.done(), ErrMalformed, name)
	}
}

func TestAFilterOverItsLimitsIsTooLarge(t *testing.T) {
	for _, term := range []FilterTerm{
		{Op: FilterExists, Name: strings.Repeat("n", MaxFilterBytes+1)},
		{Op: FilterEqual, Name: "n", Value: strings.Repeat("v", MaxFilterBytes+1)},
	} {
		r := body{b: Filter{term}.append(nil)}
		require.Len(t, r.filter(), 1)
		require.ErrorIs(t, r.done(), CodeTooLarge)
	}
}
