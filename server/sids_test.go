package server

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rafka-mq/rafka/subject"
)

// The table against a map.
func TestModelOfSids(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, want := subject.NewIndex[live](), map[string]*liveSub{}
		var table sids
		sid := rapid.Custom(func(t *rapid.T) string { return strconv.Itoa(rapid.IntRange(0, 60).Draw(t, "sid")) })
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if s := sid.Draw(t, "new"); want[s] == nil {
					want[s] = x.Insert([]byte("a"), nil, []byte(s), live{})
					table.add(want[s])
				}
			},
			"remove": func(t *rapid.T) {
				s := sid.Draw(t, "old")
				if sub := table.find([]byte(s)); sub != nil {
					table.remove(sub)
					table.remove(sub)
				}
				delete(want, s)
			},
			"": func(t *rapid.T) {
				s := sid.Draw(t, "asked")
				require.Same(t, want[s], table.find([]byte(s)))
				require.Equal(t, len(want), table.len())
				require.Len(t, table.all(), len(want))
			},
		})
	})
}
