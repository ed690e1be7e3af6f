package plot

import (
	"fmt"
	"strings"
)

// Lines is a line chart over places that have names, such as sizes or percentiles.
type Lines struct {
	Title  string
	Unit   string // of the values
	X      string // what the places are
	Log    bool   // the axis of the values
	Places []string
	Series []Line
}

// Line is a series: a value for each place, in the order of the places; 0 leaves a gap.
type Line struct {
	Name   string
	Values []float64
}

const plotHeight = 240.0

// SVG returns the chart.
func (l *Lines) SVG() []byte {
	c := &canvas{}
	var all []float64
	var names []string
	for _, s := range l.Series {
		all = append(all, s.Values...)
		names = append(names, s.Name)
	}
	c.text(margin, margin+10, "start", "title", l.Title)
	top := margin + 30
	if len(names) > 1 {
		top = c.legend(margin+34, names) + 16
	}
	left, right, bottom := margin+52, width-margin-24, top+plotHeight
	y := newScale(all, l.Log, bottom, top)
	for _, v := range y.ticks() {
		c.line(left, y.place(v), right, y.place(v), "grid")
		c.text(left-8, y.place(v)+4, "end", "quiet", Short(v))
	}
	for i, name := range l.Places {
		c.text(l.x(i, left, right), bottom+18, "middle", "quiet", name)
	}
	c.text(margin, bottom+36, "start", "quiet", l.Unit)
	c.text(right, bottom+36, "end", "quiet", l.X)
	c.line(left, bottom, right, bottom, "axis")
	for i, s := range l.Series {
		l.draw(c, y, i, s.Values, left, right)
	}
	c.height = bottom + 46
	return c.svg(l.Title)
}

// x returns the position of a place. The first and the last place are half a place from the edges.
func (l *Lines) x(i int, left, right float64) float64 {
	return left + (float64(i)+0.5)*(right-left)/float64(len(l.Places))
}

// draw draws a series: a line between neighbours that have values, and a dot for each.
func (l *Lines) draw(c *canvas, y scale, series int, values []float64, left, right float64) {
	var path strings.Builder
	move := "M"
	for i, v := range values[:min(len(values), len(l.Places))] {
		if !drawable(v) {
			move = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", move, l.x(i, left, right), y.place(v))
		move = "L"
		fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s</title></circle>`+"\n",
			l.x(i, left, right), y.place(v), color(series), Short(v))
	}
	fmt.Fprintf(&c.b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), color(series))
}
