package bench

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/rafka-mq/rafka/bench/plot"
)

// SoakFlow is one kind of traffic of a soak.
type SoakFlow struct {
	Name string  `json:"name"`
	What string  `json:"what"` // size, durability and readers, in words
	Most float64 `json:"most"` // acknowledged messages per second when no flow is limited
	Rate float64 `json:"rate"` // messages per second during the soak
}

// SoakReport is the result of Soak.
type SoakReport struct {
	Machine string       `json:"machine"`
	Command string       `json:"command"`
	Share   float64      `json:"share"`
	Flows   []SoakFlow   `json:"flows"`
	Samples []SoakSample `json:"samples"`
	Trends  []SoakTrend  `json:"trends"`
}

// SoakTrend compares the last quarter of a soak with the second. The first is a warm-up.
type SoakTrend struct {
	Name  string  `json:"name"`
	Early float64 `json:"early"` // median of the second quarter
	Late  float64 `json:"late"`  // median of the last quarter
	Limit float64 `json:"limit"` // the most that Late may be
	Flat  bool    `json:"flat"`  // Late <= Limit
}

// Flat reports whether all trends are flat. It is false when there are none, as after less than eight
// samples.
func (r *SoakReport) Flat() bool {
	for _, t := range r.Trends {
		if !t.Flat {
			return false
		}
	}
	return len(r.Trends) > 0
}

// judge computes the trends. A leak or a creeping latency grows from quarter to quarter. The medians and
// the slack in the limits absorb what a shared machine does to single intervals.
func (r *SoakReport) judge() {
	n := len(r.Samples)
	if n < 8 {
		return
	}
	add := func(name string, factor, slack float64, of func(*SoakSample) float64) {
		quarter := func(from, to int) float64 {
			var v []float64
			for i := range r.Samples[from:to] {
				v = append(v, of(&r.Samples[from+i]))
			}
			return plot.Median(v)
		}
		t := SoakTrend{Name: name, Early: quarter(n/4, n/2), Late: quarter(n-n/4, n)}
		t.Limit = t.Early*factor + slack
		t.Flat = t.Late <= t.Limit
		r.Trends = append(r.Trends, t)
	}
	add("memory of the broker, MB", 1.05, 8, func(s *SoakSample) float64 { return s.Resident })
	add("garbage collection, share of the processor time", 1.25, 0.005, func(s *SoakSample) float64 { return s.GCShare })
	add("processors busy", 1.25, 0.05, func(s *SoakSample) float64 { return s.CPU })
	add("publish to ack p99, us", 1.5, 500, func(s *SoakSample) float64 { return s.AckP99 })
	add("publish to deliver p99, us", 1.5, 500, func(s *SoakSample) float64 { return s.ReadP99 })
	add("publish to ack p99, level disk, us", 1.5, 1000, func(s *SoakSample) float64 { return s.DiskP99 })
}

// Text returns the report for a terminal.
func (r *SoakReport) Text() string {
	var b strings.Builder
	for _, t := range r.tables() {
		t.SetStyle(table.StyleLight)
		fmt.Fprintln(&b, t.Render())
	}
	fmt.Fprintf(&b, "%s\n%s\n", r.Machine, r.Command)
	return b.String()
}

// Markdown returns the report in the form of docs/benchmarks.md.
func (r *SoakReport) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. `%s`.\n", r.Machine, r.Command)
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n%s\n", t.RenderMarkdown())
	}
	return b.String()
}

func (r *SoakReport) tables() []table.Writer {
	flows := table.NewWriter()
	flows.AppendHeader(table.Row{"traffic", "is", "most, msg/s", "here, msg/s"})
	for _, f := range r.Flows {
		flows.AppendRow(table.Row{f.Name, f.What, number(f.Most), number(f.Rate)})
	}
	samples := table.NewWriter()
	samples.AppendHeader(table.Row{
		"s", "published/s", "delivered/s", "late", "MB", "CPU", "GC", "ack p50 us", "ack p99", "deliver p50", "deliver p99", "disk p99",
	})
	for _, s := range r.Samples {
		samples.AppendRow(table.Row{
			fmt.Sprintf("%.0f", s.At), number(s.Published), number(s.Delivered), percent(s.Behind), number(s.Resident), number(s.CPU), percent(s.GCShare),
			number(s.AckP50), number(s.AckP99), number(s.ReadP50), number(s.ReadP99), number(s.DiskP99),
		})
	}
	trends := table.NewWriter()
	trends.AppendHeader(table.Row{"second quarter against last", "early", "late", "flat up to", "flat"})
	for _, t := range r.Trends {
		flat := "no"
		if t.Flat {
			flat = "yes"
		}
		trends.AppendRow(table.Row{t.Name, fmt.Sprintf("%.4g", t.Early), fmt.Sprintf("%.4g", t.Late), fmt.Sprintf("%.4g", t.Limit), flat})
	}
	return []table.Writer{flows, samples, trends}
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
