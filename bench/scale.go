package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/rafka-mq/rafka/bench/plot"
)

// ScaleConfig configures Scale. The user sets it; zero fields mean the defaults.
type ScaleConfig struct {
	// Rounds is how often each size of each axis is measured. Default 5.
	Rounds int
	// Duration is how long one measurement of a rate takes. Default 1 s.
	Duration time.Duration
	// RoundTrips is how many samples one latency measurement takes. Default 10,000.
	RoundTrips int
	// Only selects the axes whose names contain it. Default: all.
	Only string
	// Most is the largest size to measure, in the unit of each axis (the backlog's is GB). Default: all.
	Most int
	// Dir is where data directories are created. Default: the system's temporary directory.
	Dir string
	// Program is the path of the rafka to measure. Default: this program.
	Program string
	// Progress is called after each measurement with a line that describes it. Default: nothing is
	// called.
	Progress func(what string)

	ctx context.Context
}

func (c *ScaleConfig) setDefaults() (err error) {
	c.Rounds = cmp.Or(c.Rounds, 5)
	c.Duration = cmp.Or(c.Duration, time.Second)
	c.RoundTrips = cmp.Or(c.RoundTrips, 10_000)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Program == "" {
		c.Program, err = os.Executable()
	}
	return err
}

// Axis holds what was measured while one quantity grew.
type Axis struct {
	Name   string       `json:"name"`   // the quantity, such as "partitions"
	What   string       `json:"what"`   // a description of the measurement
	Unit   string       `json:"unit"`   // of the rates
	Points []ScalePoint `json:"points"` // in order of size
}

// ScalePoint holds what was measured at one size.
type ScalePoint struct {
	At    int       `json:"at"`      // the size
	Label string    `json:"label"`   // the size as text
	Rate  float64   `json:"rate"`    // median of Rates
	P99   float64   `json:"p99_us"`  // median of P99s
	Rates []float64 `json:"rates"`   // one per round
	P99s  []float64 `json:"p99s_us"` // one per round: 99th percentile of the latency, one in flight
}

// ScaleReport is the result of Scale.
type ScaleReport struct {
	Machine string `json:"machine"`
	Command string `json:"command"`
	Rounds  int    `json:"rounds"`
	Axes    []Axis `json:"axes"`
}

// cliffShare is the share of the best rate at a smaller size below which a rate is called a cliff.
const cliffShare = 0.8

// Cliff reports whether the rate of point i is more than a fifth below the best rate of a smaller size.
func (a *Axis) Cliff(i int) bool {
	best := 0.0
	for _, p := range a.Points[:i] {
		best = max(best, p.Rate)
	}
	return a.Points[i].Rate < cliffShare*best
}

// point is one measurement: a rate in the unit of its axis, and a latency in microseconds.
type point struct{ rate, p99 float64 }

// axis says how an Axis is measured.
type axis struct {
	name, what, unit string
	sizes            []int
	label            func(int) string // returns a size as text
	// run measures one size once, with a broker of its own. Either run or grow is set.
	run func(c *ScaleConfig, size int) (point, error)
	// grow measures one broker while it grows, c.Rounds times at every size, and calls each with every
	// measurement and the index of its size.
	grow func(c *ScaleConfig, sizes []int, each func(i int, p point)) error
}

// Scale measures how a broker's rate and latency change as one quantity after the other grows. With an
// error, the report holds the axes that were completed.
func Scale(ctx context.Context, c ScaleConfig) (ScaleReport, error) {
	if err := c.setDefaults(); err != nil {
		return ScaleReport{}, err
	}
	c.ctx = ctx
	r := ScaleReport{Machine: plot.Machine(), Command: strings.Join(os.Args, " "), Rounds: c.Rounds}
	for _, a := range axes() {
		if !strings.Contains(a.name, c.Only) {
			continue
		}
		measured, err := a.measure(&c)
		if err != nil {
			return r, fmt.Errorf("%s: %w", a.name, err)
		}
		r.Axes = append(r.Axes, measured)
	}
	if len(r.Axes) == 0 {
		return r, fmt.Errorf("%w: no table has %q in its name", ErrInvalid, c.Only)
	}
	return r, nil
}

func (a *axis) measure(c *ScaleConfig) (Axis, error) {
	out := Axis{Name: a.name, What: a.what, Unit: a.unit}
	var sizes []int
	for _, n := range a.sizes {
		if c.Most == 0 || n <= c.Most {
			sizes = append(sizes, n)
			out.Points = append(out.Points, ScalePoint{At: n, Label: a.label(n)})
		}
	}
	add := func(i int, p point) {
		at := &out.Points[i]
		at.Rates, at.P99s = append(at.Rates, p.rate), append(at.P99s, p.p99)
		at.Rate, at.P99 = plot.Median(at.Rates), plot.Median(at.P99s)
		c.Progress(fmt.Sprintf("%s %s: %.0f %s, p99 %.0f us", a.name, at.Label, p.rate, a.unit, p.p99))
	}
	if a.grow != nil {
		return out, a.grow(c, sizes, add)
	}
	for range c.Rounds {
		for i, n := range sizes {
			if err := c.ctx.Err(); err != nil {
				return out, err
			}
			p, err := a.run(c, n)
			if err != nil {
				return out, fmt.Errorf("%s: %w", a.label(n), err)
			}
			add(i, p)
		}
	}
	return out, nil
}

// countLabel returns n with commas.
func countLabel(n int) string { return humanize.Comma(int64(n)) }

// Text returns the report for a terminal.
func (r *ScaleReport) Text() string {
	var b strings.Builder
	for i := range r.Axes {
		t := r.Axes[i].table()
		t.SetStyle(table.StyleLight)
		fmt.Fprintf(&b, "%s\n%s\n", r.Axes[i].What, t.Render())
	}
	fmt.Fprintf(&b, "%s\nmedians of %d rounds: %s\n", r.Machine, r.Rounds, r.Command)
	return b.String()
}

// plotDir is the directory of the charts, relative to the document.
const plotDir = "plots"

// Markdown returns the report in the form of docs/benchmarks.md. It refers to the files of Charts in the
// directory "plots" beside the document.
func (r *ScaleReport) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. Medians of %d rounds, `%s`.\n", r.Machine, r.Rounds, r.Command)
	for i := range r.Axes {
		a := &r.Axes[i]
		fmt.Fprintf(&b, "\n%s:\n\n%s\n\n", a.What, a.table().RenderMarkdown())
		for _, kind := range []string{"rate", "p99"} {
			fmt.Fprintf(&b, "![%s: %s](%s/scale-%s-%s.svg)\n", a.What, kind, plotDir, a.Name, kind)
		}
	}
	return b.String()
}

// Charts returns two SVG files for each axis, of the rates and of the latencies, by file name.
func (r *ScaleReport) Charts() map[string][]byte {
	charts := map[string][]byte{}
	for i := range r.Axes {
		a := &r.Axes[i]
		rate := plot.Lines{Title: a.What, Unit: a.Unit, X: a.Name, Series: []plot.Line{{Name: "rate"}}}
		p99 := plot.Lines{Title: a.What + ": latency", Unit: "p99, microseconds", X: a.Name, Log: true, Series: []plot.Line{{Name: "p99"}}}
		for _, p := range a.Points {
			rate.Places = append(rate.Places, p.Label)
			rate.Series[0].Values = append(rate.Series[0].Values, p.Rate)
			p99.Series[0].Values = append(p99.Series[0].Values, p.P99)
		}
		p99.Places = rate.Places
		charts["scale-"+a.Name+"-rate.svg"] = rate.SVG()
		charts["scale-"+a.Name+"-p99.svg"] = p99.SVG()
	}
	return charts
}

func (a *Axis) table() table.Writer {
	t := table.NewWriter()
	t.AppendHeader(table.Row{a.Name, a.Unit, "of the best before", "p99, us"})
	best := 0.0
	for i, p := range a.Points {
		share := "-"
		if i > 0 {
			share = fmt.Sprintf("%.2f", p.Rate/best)
		}
		if a.Cliff(i) {
			share += " !"
		}
		best = max(best, p.Rate)
		t.AppendRow(table.Row{p.Label, number(p.Rate), share, number(p.P99)})
	}
	return t
}
