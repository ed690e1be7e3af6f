package main

import (
	"fmt"
	"slices"
	"strings"
)

// section is a part of the report. Either figure or figures is set.
type section struct {
	title     string   // "" to continue the section before
	scenarios string   // prefix of the names of the scenarios
	figure    string   // makes one table of this figure: a row for each scenario, a column for each system
	figures   []string // makes a table for each scenario: a row for each system, a column for each figure
	plots     []string // file names of the charts above the tables
}

// sections are the parts of the report after the targets, in order.
var sections = []section{
	{title: "Fire-and-forget publish, messages a second", scenarios: "fire-and-forget", figure: "rate", plots: []string{"peers-send.svg"}},
	{title: "Acknowledged publish, messages a second", scenarios: "publish acked", figure: "rate", plots: []string{"peers-publish.svg"}},
	{title: "Publish to subscribers, delivered messages a second", scenarios: "publish to subscribers", figure: "rate", plots: []string{"peers-subscribers.svg"}},
	{title: "Fetch of a backlog, messages a second", scenarios: "fetch", figure: "rate", plots: []string{"peers-fetch.svg"}},
	{title: "Queue, consumed and acknowledged messages a second", scenarios: "queue", figure: "rate", plots: []string{"peers-queue.svg"}},
	{title: "One in flight, microseconds", scenarios: "publish acked, one in flight", figures: []string{"p50", "p99", "p99.9", "max", "rate"}},
	{scenarios: "publish to deliver, one in flight", figures: []string{"p50", "p99", "p99.9", "max", "rate"}},
	{scenarios: "request/reply, one in flight", figures: []string{"p50", "p99", "p99.9", "max", "rate"}},
	{
		title: "Open loop, microseconds from when a message was due", scenarios: "open loop",
		figures: []string{"ack p50", "ack p99", "ack p99.9", "ack max", "deliver p50", "deliver p99", "deliver p99.9", "deliver max"},
		plots:   []string{"peers-latency-10k.svg", "peers-latency-50k.svg"},
	},
	{title: "Server processor time, seconds per million messages", scenarios: "publish acked", figure: "cpu", plots: []string{"peers-cpu.svg"}},
	{scenarios: "publish to subscribers", figure: "cpu"},
	{scenarios: "fire-and-forget", figure: "cpu"},
	{scenarios: "fetch", figure: "cpu"},
	{scenarios: "queue", figure: "cpu"},
	{title: "Server allocations per million messages", scenarios: "publish acked", figure: "allocs"},
	{scenarios: "publish to subscribers", figure: "allocs"},
	{title: "Memory (RSS), MB", scenarios: "memory", figure: "MB"},
	{title: "Memory per connection, KB", scenarios: "memory, 10,000 idle", figure: "KB", plots: []string{"peers-connections.svg"}},
	{title: "Memory per subscription, bytes", scenarios: "memory, a million", figure: "B"},
	{title: "Start and recovery, milliseconds", scenarios: "start-up", figure: "ms"},
	{scenarios: "recovery", figures: []string{"ms", "greeting ms"}},
	{title: "Many subjects over the NATS protocol, messages a second", scenarios: "publish to 10,000 subjects", figure: "rate"},
	{scenarios: "publish beside", figure: "rate"},
	{title: "The nats bench tool, messages a second", scenarios: "nats bench", figure: "rate"},
	{title: "A quiet connection alone, p99 in microseconds", scenarios: quietBeside, figure: "alone p99"},
	{title: "The same beside a neighbour, p50 in microseconds", scenarios: quietBeside, figure: "beside p50"},
	{title: "The same, p99 in microseconds", scenarios: quietBeside, figure: "beside p99"},
	{title: "The same on an idle server beside, p99 in microseconds", scenarios: quietBeside, figure: "idle p99"},
}

// report returns everything that was measured as Markdown.
func (r *results) report() string {
	return r.targets() + "\n" + r.tables()
}

// origin says in a line where the figures of some of the samples are from.
func (r *results) origin(of func(sample) bool) string {
	return fmt.Sprintf("%s. Medians of %s.\n", r.Machine, r.rounds(of))
}

// targets returns the tables of targets, with charts of throughput and of latency.
func (r *results) targets() string {
	var b strings.Builder
	b.WriteString(r.origin(func(s sample) bool { return neededByTarget(s.Scenario, s.System) }))
	for _, part := range []struct{ title, table string }{
		{"Targets", r.targetTable(nativeTargets())},
		{"Targets with NATS clients", r.targetTable(natsTargets())},
		{"Targets beside a bad neighbour", r.targetTable(neighbourTargets())},
	} {
		if part.table != "" {
			fmt.Fprintf(&b, "\n### %s\n\n%s", part.title, part.table)
		}
	}
	charts := r.charts()
	for _, c := range []struct{ title, file string }{
		{"Acknowledged publish, messages a second", "peers-publish.svg"},
		{"Open loop at 50,000 messages a second, latency", "peers-latency-50k.svg"},
	} {
		if charts[c.file] != nil {
			fmt.Fprintf(&b, "\n![%s](plots/%s)\n", c.title, c.file)
		}
	}
	return b.String()
}

// tables returns the tables of all scenarios.
func (r *results) tables() string {
	var b strings.Builder
	b.WriteString(r.origin(func(sample) bool { return true }) + "\n")
	charts, title := r.charts(), ""
	for _, s := range sections {
		names := r.names(s.scenarios)
		if s.title != "" {
			title = s.title
		}
		if len(names) == 0 {
			continue
		}
		if title != "" {
			fmt.Fprintf(&b, "### %s\n\n", title)
			title = ""
		}
		for _, name := range s.plots {
			if charts[name] != nil {
				fmt.Fprintf(&b, "![%s](plots/%s)\n\n", s.title, name)
			}
		}
		if s.figure != "" {
			fmt.Fprintf(&b, "%s\n", r.bySystem(names, s.figure))
			continue
		}
		for _, name := range names {
			fmt.Fprintf(&b, "%s\n", r.byFigure(name, s.figures))
		}
	}
	return b.String()
}

// names returns the names with a prefix of the scenarios that have samples, in order.
func (r *results) names(prefix string) (names []string) {
	for _, sc := range scenarios() {
		if strings.HasPrefix(sc.name, prefix) && slices.ContainsFunc(r.Samples, func(s sample) bool { return s.Scenario == sc.name }) {
			names = append(names, sc.name)
		}
	}
	return names
}

// rounds returns the number of rounds of some of the samples as text, such as "2 to 5 alternating rounds".
func (r *results) rounds(of func(sample) bool) string {
	counts := map[[2]string]int{}
	for _, s := range r.Samples {
		if of(s) {
			counts[[2]string{s.Scenario, s.System}]++
		}
	}
	low, high := 0, 0
	for _, n := range counts {
		if low == 0 || n < low {
			low = n
		}
		high = max(high, n)
	}
	if low == high {
		return alternating(high)
	}
	return fmt.Sprintf("%d to %s", low, alternating(high))
}

func alternating(rounds int) string {
	if rounds == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d alternating rounds", rounds)
}
