package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/rafka-mq/rafka/bench/plot"
)

// ErrInvalid is returned by Compare, Scale and Soak when their options make no sense.
var ErrInvalid = errors.New("bench: these options measure nothing")

// Config configures Compare. The user sets it; zero fields mean the defaults.
type Config struct {
	// Rounds is how often each figure and its floor are measured. Default 5.
	Rounds int
	// Duration is how long one measurement of a rate takes. Default 1 s.
	Duration time.Duration
	// RoundTrips and Syncs are how many samples one latency measurement takes: of round trips in memory,
	// and of writes to disk. Default 10,000 and 5,000.
	RoundTrips, Syncs int
	// Only selects the scenarios whose names contain it. Default: all.
	Only string
	// Full adds the scenarios that take long.
	Full bool
	// Dir is where data directories are created. Default: the system's temporary directory.
	Dir string
	// Program is the path of the rafka to measure, which also runs the floors. Default: this program.
	Program string
	// Progress is called before each measurement with how many are done, how many there are, and the name
	// of the scenario. Default: nothing is called.
	Progress func(done, total int, what string)

	ctx context.Context
}

func (c *Config) setDefaults() (err error) {
	c.Rounds = cmp.Or(c.Rounds, 5)
	c.Duration = cmp.Or(c.Duration, time.Second)
	c.RoundTrips = cmp.Or(c.RoundTrips, 10_000)
	c.Syncs = cmp.Or(c.Syncs, 5000)
	c.Dir = cmp.Or(c.Dir, os.TempDir())
	if c.Progress == nil {
		c.Progress = func(int, int, string) {}
	}
	if c.Program == "" {
		c.Program, err = os.Executable()
	}
	return err
}

// Figure is one line of a report.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Ours   float64   `json:"ours"`   // median of Rounds
	Floor  float64   `json:"floor"`  // median of Floors; 0 without a floor
	Ratio  float64   `json:"ratio"`  // Ours / Floor; 0 without a floor
	Target string    `json:"target"` // as text
	OK     bool      `json:"ok"`     // the target is met
	Rounds []float64 `json:"rounds"` // our values, one per round
	Floors []float64 `json:"floors"` // the floor's values, one per round
}

// Report is the result of Compare.
type Report struct {
	Machine string   `json:"machine"`
	Command string   `json:"command"`
	Rounds  int      `json:"rounds"`
	Figures []Figure `json:"figures"`
}

// Compare measures every selected scenario and its floor, in alternating rounds. It stops at the first
// failure, because a figure of a broker that lost messages means nothing; the report then has no medians.
func Compare(ctx context.Context, c Config) (r Report, err error) {
	if err := c.setDefaults(); err != nil {
		return Report{}, err
	}
	c.ctx = ctx
	r = Report{Machine: plot.Machine(), Command: strings.Join(os.Args, " "), Rounds: c.Rounds}
	var chosen []scenario
	for _, s := range scenarios() {
		if strings.Contains(s.Name, c.Only) && (!s.Full || c.Full) {
			chosen = append(chosen, s)
			r.Figures = append(r.Figures, Figure{Name: s.Name, Unit: s.Unit, Target: s.Target})
		}
	}
	if len(chosen) == 0 {
		return Report{}, fmt.Errorf("%w: no figure has %q in its name", ErrInvalid, c.Only)
	}
	defer func() {
		for _, s := range chosen {
			if s.finish != nil {
				err = errors.Join(err, s.finish())
			}
		}
	}()
	for round := range c.Rounds {
		for i, s := range chosen {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			c.Progress(round*len(chosen)+i, c.Rounds*len(chosen), s.Name)
			if err := r.Figures[i].measure(&c, &s); err != nil {
				return r, fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	for i := range r.Figures {
		r.Figures[i].judge(&chosen[i])
	}
	return r, nil
}

// measure adds the values of one round.
func (f *Figure) measure(c *Config, s *scenario) error {
	if s.floor != nil {
		v, err := s.floor(c)
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		f.Floors = append(f.Floors, v)
	}
	v, err := s.ours(c)
	f.Rounds = append(f.Rounds, v)
	return err
}

// judge computes the medians and the ratio, and compares them with the scenario's goal.
func (f *Figure) judge(s *scenario) {
	f.Ours, f.Floor = plot.Median(f.Rounds), plot.Median(f.Floors)
	v := f.Ours
	if f.Floor > 0 {
		f.Ratio = f.Ours / f.Floor
		v = f.Ratio
	}
	f.OK = v >= s.Goal
	if s.Less {
		f.OK = v <= s.Goal
	}
}

// Text returns the report for a terminal.
func (r Report) Text() string {
	t := r.table()
	t.SetStyle(table.StyleLight)
	return fmt.Sprintf("%s\nmedian of %d alternating rounds: %s\n%s\n", r.Machine, r.Rounds, r.Command, t.Render())
}

// Markdown returns the report in the form of docs/benchmarks.md.
func (r Report) Markdown() string {
	return fmt.Sprintf("%s. Medians of %d alternating rounds, `%s`.\n\n%s\n", r.Machine, r.Rounds, r.Command, r.table().RenderMarkdown())
}

func (r Report) table() table.Writer {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"figure", "ours", "floor", "unit", "ratio", "target", "met"})
	for _, f := range r.Figures {
		floor, ratio, met := "-", "-", "no"
		if f.Floor > 0 {
			floor, ratio = number(f.Floor), fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.OK {
			met = "yes"
		}
		t.AppendRow(table.Row{f.Name, number(f.Ours), floor, f.Unit, ratio, f.Target, met})
	}
	return t
}

// number formats v with the fewer decimals, the larger it is.
func number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
