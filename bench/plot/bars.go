package plot

// Bars is a bar chart. Every group has a bar for each series, with its value beside it.
type Bars struct {
	Title  string
	Unit   string // of the values
	Log    bool   // for values of different magnitude
	Series []string
	Groups []Group
}

// Group is a group of bars: a value for each series, in the order of the series; 0 draws no bar.
type Group struct {
	Name   string
	Values []float64
}

const (
	barSize  = 13.0
	barGap   = 2.0
	groupGap = 14.0
)

// SVG returns the chart.
func (b *Bars) SVG() []byte {
	c := &canvas{}
	left := margin
	var all []float64
	for _, g := range b.Groups {
		left = max(left, margin+letter*float64(len(g.Name))+8)
		all = append(all, g.Values...)
	}
	left = min(left, width/3)
	c.text(margin, margin+10, "start", "title", b.Title)
	top := c.legend(margin+34, b.Series) + 16
	bottom := top
	for _, g := range b.Groups {
		bottom += groupGap + float64(shown(g.Values))*(barSize+barGap)
	}
	s := newScale(all, b.Log, left, width-margin-60)
	for _, v := range s.ticks() {
		c.line(s.place(v), top, s.place(v), bottom+4, "grid")
		c.text(s.place(v), bottom+18, "middle", "quiet", Short(v))
	}
	c.text(width-margin, bottom+34, "end", "quiet", b.Unit)
	y := top
	for _, g := range b.Groups {
		y = b.group(c, s, &g, y+groupGap/2) + groupGap/2
	}
	c.line(left, top, left, bottom+4, "axis")
	c.height = bottom + 44
	return c.svg(b.Title)
}

// group draws a group from y on and returns where it ends.
func (b *Bars) group(c *canvas, s scale, g *Group, y float64) float64 {
	middle := y + float64(shown(g.Values))*(barSize+barGap)/2 + 4
	c.text(s.from-8, middle, "end", "label", g.Name)
	for i, v := range g.Values {
		if !drawable(v) {
			continue
		}
		c.rect(s.from, y, max(1, s.place(v)-s.from), barSize, color(i))
		c.text(s.place(v)+5, y+barSize-2.5, "start", "label", Short(v))
		y += barSize + barGap
	}
	return y
}

func shown(values []float64) (n int) {
	for _, v := range values {
		if drawable(v) {
			n++
		}
	}
	return n
}
