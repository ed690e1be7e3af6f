package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// elements parses a chart and counts its elements by name.
func elements(t *testing.T, svg []byte) map[string]int {
	t.Helper()
	seen := map[string]int{}
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return seen
		}
		require.NoError(t, err, "%s", svg)
		if e, ok := token.(xml.StartElement); ok {
			seen[e.Name.Local]++
			for _, a := range e.Attr {
				require.NotContains(t, a.Value, "NaN", "%v", e)
				require.NotContains(t, a.Value, "Inf", "%v", e)
			}
		}
	}
}

func TestBarsLeaveOutWhatIsMissing(t *testing.T) {
	b := Bars{Title: "a < b & c", Unit: "msg/s", Series: []string{"one", "two", "three"}, Groups: []Group{
		{"small", []float64{10, 0, 2.5e6}},
		{"large", []float64{3, 4, math.NaN()}},
	}}
	for _, b.Log = range []bool{false, true} {
		got := elements(t, b.SVG())
		require.Equal(t, 1+3+4, got["rect"], "the page, the legend and four bars")
		require.Contains(t, string(b.SVG()), "a &lt; b &amp; c")
		require.Contains(t, string(b.SVG()), "2.5 M")
	}
}

func TestLinesHaveGaps(t *testing.T) {
	l := Lines{Title: "x", Places: []string{"1", "10", "100", "1,000"}, Series: []Line{
		{"one", []float64{1, 0, 3, 4}},
		{"two", []float64{100, 1000, 1e6}},
	}}
	for _, l.Log = range []bool{false, true} {
		got := elements(t, l.SVG())
		require.Equal(t, 6, got["circle"])
		require.Equal(t, 2, got["path"])
		require.Equal(t, 2, strings.Count(pathOf(string(l.SVG())), "M"), "a gap starts anew")
	}
}

func pathOf(svg string) string {
	_, d, _ := strings.Cut(svg, `<path d="`)
	d, _, _ = strings.Cut(d, `"`)
	return d
}

func TestChartsOfNothing(t *testing.T) {
	elements(t, (&Bars{}).SVG())
	elements(t, (&Lines{Places: []string{"1"}, Series: []Line{{"none", nil}, {"more than places", []float64{1, 2, 3}}}}).SVG())
}

func TestScales(t *testing.T) {
	s := newScale([]float64{3, 47}, false, 0, 100)
	require.Equal(t, []float64{0, 10, 20, 30, 40, 50}, s.ticks())
	require.InDelta(t, 50, s.place(25), 1e-9)
	s = newScale([]float64{3, 4700}, true, 0, 100)
	require.Equal(t, []float64{1, 10, 100, 1000, 10_000}, s.ticks())
	require.InDelta(t, 25, s.place(10), 1e-9)
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 7: "7", 12.34: "12.3", 640: "640", 999.9: "1 k", 1234: "1.23 k", 56_000: "56 k", 3.4e6: "3.4 M", 2e9: "2 G"} {
		require.Equal(t, want, Short(v))
	}
}

func TestMedian(t *testing.T) {
	require.Zero(t, Median(nil))
	require.Equal(t, 7.0, Median([]float64{7}))
	require.Equal(t, 2.0, Median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, Median([]float64{4, 1, 3, 2}))
}
