package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/rafka-mq/rafka/bench/plot"
)

// ScaleConfig configures Scale. The user sets it; zero fields mean the defaults.
type ScaleConfig struct {
	// Rounds is how often each point is measured. Default 5.
	Rounds int
	// Duration of one measurement of a rate. Default 1 s.
	Duration time.Duration
	// RoundTrips are the samples of one latency measurement. Default 10,000.
	RoundTrips int
	// Only measures the axes whose name contains it. Default: all.
	Only string
	// Most leaves out points above it; of the backlog it is GB. Default: all.
	Most int
	// Dir is where data directories are made. Default: the system's temporary directory.
	Dir string
	// Program is the rafka to measure. Default: this program.
	Program string
	// Progress is told what is measured. Default: nobody.
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

// Axis is how one thing grows and what that costs.
type Axis struct {
	Name   string       `json:"name"` // "partitions"
	What   string       `json:"what"` // is measured
	Unit   string       `json:"unit"` // of rates
	Points []ScalePoint `json:"points"`
}

// ScalePoint is what it costs at one size.
type ScalePoint struct {
	At    int       `json:"at"`
	Label string    `json:"label"`
	Rate  float64   `json:"rate"`   // median
	P99   float64   `json:"p99_us"` // median; publish to ack, one in flight
	Rates []float64 `json:"rates"`
	P99s  []float64 `json:"p99s_us"`
}

// ScaleReport is what Scale found.
type ScaleReport struct {
	Machine string `json:"machine"`
	Command string `json:"command"`
	Rounds  int    `json:"rounds"`
	Axes    []Axis `json:"axes"`
}

// cliffShare is a rate below this share of the one before that is called a cliff.
const cliffShare = 0.8

// Cliff reports whether the rate of point i is a fifth or more below the best of a smaller size.
func (a *Axis) Cliff(i int) bool {
	best := 0.0
	for _, p := range a.Points[:i] {
		best = max(best, p.Rate)
	}
	return a.Points[i].Rate < cliffShare*best
}

// point is one measurement.
type point struct{ rate, p99 float64 }

// axis says how an Axis is measured.
type axis struct {
	name, what, unit string
	sizes            []int
	label            func(int) string
	// run measures one size once, with a broker of its own; or
	run func(c *ScaleConfig, size int) (point, error)
	// grow measures one broker while it grows, rounds times at every size.
	grow func(c *ScaleConfig, sizes []int, each func(i int, p point)) error
}

// Scale measures what a broker's work costs as one thing after the other grows.
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

func count(n int) string { return humanize.Comma(int64(n)) }

// Write prints the report as tables, or as JSON when format is "json" or "jsonl".
func (r *ScaleReport) Write(w io.Writer, format string) error {
	if strings.HasPrefix(format, "json") {
		e := json.NewEncoder(w)
		if format == "json" {
			e.SetIndent("", "  ")
		}
		return e.Encode(r)
	}
	for i := range r.Axes {
		t := r.Axes[i].table()
		t.SetStyle(table.StyleLight)
		if _, err := fmt.Fprintf(w, "%s\n%s\n", r.Axes[i].What, t.Render()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s\nmedians of %d rounds: %s\n", r.Machine, r.Rounds, r.Command)
	return err
}

// plotDir is where the charts are, from the document.
const plotDir = "plots"

// Markdown returns the report for docs/benchmarks.md, with Charts in a directory "plots" beside it.
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

// Charts returns an SVG of each axis by the name of its file: the rate, and the latency beside it.
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
