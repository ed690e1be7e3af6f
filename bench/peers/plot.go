package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rafka-mq/rafka/bench/plot"
)

// plot draws the charts into a directory, which it creates if necessary.
func (r *results) plot(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	charts := r.charts()
	for _, name := range slices.Sorted(maps.Keys(charts)) {
		if err := os.WriteFile(filepath.Join(dir, name), charts[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// charts returns the charts that have at least one figure, as SVG, by file name.
func (r *results) charts() map[string][]byte {
	const best = "publish acked, best window, 128 B"
	all := map[string][]byte{}
	bars := func(name, title, unit, figure string, log bool, scenarios ...series) {
		b := plot.Bars{Title: title, Unit: unit, Log: log}
		var names []string
		for _, s := range scenarios {
			b.Series = append(b.Series, s.label)
			names = append(names, s.scenario)
		}
		b.Groups = r.groups(names, figure)
		if len(b.Groups) > 0 {
			all[name] = b.SVG()
		}
	}
	bars("peers-send.svg", "Fire-and-forget publish", "messages a second", "rate", true,
		bySize("fire-and-forget publish", payloads...)...)
	bars("peers-publish.svg", "Acknowledged publish, 128 B, best window", "messages a second", "rate", true, series{"messages", best})
	bars("peers-subscribers.svg", "Publish to subscribers, 128 B", "messages delivered a second", "rate", false,
		series{"1:1", "publish to subscribers 1:1, 128 B"}, series{"1:4", "publish to subscribers 1:4, 128 B"},
		series{"4:4", "publish to subscribers 4:4, 128 B"})
	bars("peers-fetch.svg", "Fetch of a backlog of 1 GiB", "messages a second", "rate", false,
		bySize("fetch a backlog of 1 GiB", 128, 1<<10)...)
	bars("peers-queue.svg", "Queue, consumed and acknowledged, 128 B", "messages a second", "rate", false,
		series{"messages", "queue consume with ack, 128 B"})
	bars("peers-cpu.svg", "Processor time of the server for acknowledged publishes (less is better)", "seconds per million messages",
		"cpu", true, series{"best window, 128 B", best})
	bars("peers-connections.svg", "Memory of an idle connection, of 10,000 (less is better)", "KB", "KB", false,
		series{"connection", idleConnections})
	for name, scenario := range map[string]string{
		"peers-latency-10k.svg": "open loop, 10 k msg/s, 128 B", "peers-latency-50k.svg": "open loop, 50 k msg/s, 128 B",
	} {
		if l := r.latencies(scenario); len(l.Series) > 0 {
			all[name] = l.SVG()
		}
	}
	return all
}

// series is one series of a chart: the figures of one scenario.
type series struct{ label, scenario string }

// bySize returns a series for each size of the scenario called what.
func bySize(what string, sizes ...int) (all []series) {
	for _, size := range sizes {
		all = append(all, series{payload(size), sized(what, size)})
	}
	return all
}

// groups returns a group for each system with a figure in at least one of the scenarios. A group has a
// value for each scenario, 0 where there is none.
func (r *results) groups(names []string, figure string) (groups []plot.Group) {
	for _, id := range r.measured(names) {
		g := plot.Group{Name: nameOf(id)}
		for _, name := range names {
			c := r.cell(name, id)
			g.Values = append(g.Values, c.medians[figure])
		}
		if slices.Max(g.Values) > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// inLatencyCharts are the systems in the latency charts: no more than the colors can distinguish.
var inLatencyCharts = []string{"nats", "js-memory", "js-file", "nsq", "redis", "redis-always", "rafka", "rafka-disk"}

// latencies returns a chart with a line for each system: the percentiles of the time from when a message
// was due until it was delivered.
func (r *results) latencies(scenario string) plot.Lines {
	l := plot.Lines{Title: "From due to delivered, " + scenario, Unit: "microseconds", X: "percentile", Log: true}
	for _, p := range percentiles {
		l.Places = append(l.Places, p.name)
	}
	for _, id := range inLatencyCharts {
		c := r.cell(scenario, id)
		s := plot.Line{Name: nameOf(id)}
		for _, p := range percentiles {
			s.Values = append(s.Values, c.medians["deliver "+p.name])
		}
		if slices.Max(s.Values) > 0 {
			l.Series = append(l.Series, s)
		}
	}
	return l
}
