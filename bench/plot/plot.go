// Package plot draws the charts of the documentation as SVG: bars that compare, and lines over an axis.
//
// A chart is a value with exported fields; SVG returns the file. It has no script and no font of its own,
// and follows the reader's choice of a light or a dark page. Values that are not positive numbers are left
// out, so that what could not be measured is a gap, not a zero. Median and Machine are for the figures before
// they are drawn.
package plot

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// colors are distinguishable with color blindness, too (Okabe and Ito, 2008).
var colors = []string{"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c7a00", "#7f7f7f"}

func color(series int) string { return colors[series%len(colors)] }

const (
	width    = 760.0
	margin   = 16.0
	textSize = 12.0
	rowSize  = 18.0 // of a line of the legend
	// letter is about how wide a letter of the text is.
	letter = 6.6
)

// canvas collects the elements of a chart.
type canvas struct {
	b      strings.Builder
	height float64
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&c.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

func (c *canvas) rect(x, y, w, h float64, fill string) {
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5" fill="%s"/>`+"\n", x, y, w, h, fill)
}

// text writes s at a baseline. anchor is start, middle or end.
func (c *canvas) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, html.EscapeString(s))
}

// legend writes the names of the series in rows from y on, and returns where the last row ends.
func (c *canvas) legend(y float64, names []string) float64 {
	x := margin
	for i, name := range names {
		w := 20 + letter*float64(len(name)) + 14
		if x+w > width-margin && x > margin {
			x, y = margin, y+rowSize
		}
		c.rect(x, y-9, 12, 10, color(i))
		c.text(x+18, y, "start", "label", name)
		x += w
	}
	return y
}

const style = `<style>
.page{fill:#ffffff}.title{font-weight:600;font-size:14px;fill:#1f2328}.label{fill:#1f2328}.quiet{fill:#59636e}
.grid{stroke:#d1d9e0;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}
@media (prefers-color-scheme: dark){
.page{fill:#0d1117}.title{fill:#f0f6fc}.label{fill:#f0f6fc}.quiet{fill:#9198a1}.grid{stroke:#3d444d}.axis{stroke:#9198a1}}
</style>
`

// svg returns the file. The title is also what a screen reader says.
func (c *canvas) svg(title string) []byte {
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="-apple-system,Segoe UI,Helvetica,Arial,sans-serif" font-size="%.0f">`+"\n",
		width, c.height, width, c.height, textSize)
	fmt.Fprintf(&out, "<title>%s</title>\n", html.EscapeString(title))
	out.WriteString(style)
	fmt.Fprintf(&out, `<rect class="page" width="%.0f" height="%.0f"/>`+"\n", width, c.height)
	out.WriteString(c.b.String())
	out.WriteString("</svg>\n")
	return []byte(out.String())
}

// drawable reports whether a value can be shown.
func drawable(v float64) bool { return v > 0 && !math.IsInf(v, 0) }

// scale maps values to positions in the chart.
type scale struct {
	low, high float64 // values
	from, to  float64 // positions
	log       bool
}

// newScale returns a scale that covers the values. A linear scale starts at 0, a logarithmic one at a
// power of ten.
func newScale(values []float64, log bool, from, to float64) scale {
	s := scale{low: math.Inf(1), high: math.Inf(-1), from: from, to: to, log: log}
	for _, v := range values {
		if drawable(v) {
			s.low, s.high = min(s.low, v), max(s.high, v)
		}
	}
	if s.high < s.low { // nothing to show
		s.low, s.high = 1, 10
	}
	if log {
		s.low = math.Pow(10, math.Floor(math.Log10(s.low)))
		s.high = math.Pow(10, math.Ceil(math.Log10(s.high)))
		if s.high <= s.low {
			s.high = 10 * s.low
		}
		return s
	}
	step := niceStep(s.high / 5)
	s.low, s.high = 0, step*math.Ceil(s.high/step)
	return s
}

// niceStep returns the least 1, 2 or 5 times a power of ten that is at least v.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func (s scale) place(v float64) float64 {
	share := (v - s.low) / (s.high - s.low)
	if s.log {
		share = math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return s.from + share*(s.to-s.from)
}

// ticks returns the values that have a grid line.
func (s scale) ticks() (ticks []float64) {
	if s.log {
		for v := s.low; v <= s.high*1.001; v *= 10 {
			ticks = append(ticks, v)
		}
		return ticks
	}
	step := niceStep(s.high / 5)
	for v := 0.0; v <= s.high+step/2; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

// Short writes a number in few characters: 1.2 k, 35 M.
func Short(v float64) string {
	for _, u := range []struct {
		factor float64
		suffix string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if v >= u.factor*0.9995 {
			return digits(v/u.factor) + u.suffix
		}
	}
	return digits(v)
}

func digits(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 99.95:
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	case v >= 9.995:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
