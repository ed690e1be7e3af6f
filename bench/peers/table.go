package main

import (
	"fmt"
	"slices"
	"strings"
)

// number formats a number with few digits, and with a suffix from 10,000 on.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1 || v == 0:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return fmt.Sprintf("%.2f", v)
}

// table is a Markdown table. The first row is its header.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String returns the table in Markdown.
func (t *table) String() string {
	var b strings.Builder
	for i, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("| --- ", len(row)) + "|\n")
		}
	}
	return b.String()
}

// text returns the median of a figure, or "-" if there is none, followed by the notes in parentheses.
func (c *cell) text(name string) string {
	v, ok := c.medians[name]
	out := "-"
	if ok {
		out = number(v)
	}
	if len(c.notes) > 0 {
		out += " (" + strings.Join(c.notes, "; ") + ")"
	}
	return out
}

// targetTable returns a table of the targets for which both systems have figures; "" if there are none.
func (r *results) targetTable(all []target) string {
	t := table{}
	t.add("figure", "unit", "Rafka", "peer", "ratio", "target", "met")
	for _, want := range all {
		ours, theirs := r.cell(want.ours.scenario, want.ours.system), r.cell(want.peer.scenario, want.peer.system)
		v, measured := ours.medians[want.ours.name]
		w := theirs.medians[want.peer.name]
		if !measured || w == 0 {
			continue
		}
		met := "no"
		if want.met(v / w) {
			met = "yes"
		}
		t.add(want.what, want.unit, nameOf(want.ours.system)+": "+ours.text(want.ours.name),
			want.peerName()+": "+theirs.text(want.peer.name), fmt.Sprintf("%.2f", v/w), want.String(), met)
	}
	if len(t.rows) == 1 {
		return ""
	}
	return t.String()
}

// peerName returns the name of the other system, or that of the figure if Rafka is compared with itself.
func (t *target) peerName() string {
	if t.peer.system == t.ours.system {
		return t.peer.name
	}
	return nameOf(t.peer.system)
}

// nameOf returns the name of the system with an id, or the id if there is none.
func nameOf(id string) string {
	sys, err := systemNamed(id)
	if err != nil {
		return id
	}
	return sys.name
}

// measured returns the ids of the systems with samples in at least one of the scenarios, in the order of
// systems.
func (r *results) measured(names []string) (ids []string) {
	for _, sys := range systems() {
		if slices.ContainsFunc(r.Samples, func(s sample) bool { return s.System == sys.id && slices.Contains(names, s.Scenario) }) {
			ids = append(ids, sys.id)
		}
	}
	return ids
}

// bySystem returns a table of one figure, with a row for each scenario and a column for each system.
func (r *results) bySystem(names []string, figure string) string {
	ids := r.measured(names)
	header := []string{""}
	for _, id := range ids {
		header = append(header, nameOf(id))
	}
	t := table{}
	t.add(header...)
	for _, name := range names {
		row := []string{name}
		for _, id := range ids {
			c := r.cell(name, id)
			row = append(row, c.text(figure))
		}
		t.add(row...)
	}
	return t.String()
}

// byFigure returns a table of one scenario, with a row for each system and a column for each figure.
func (r *results) byFigure(name string, figures []string) string {
	t := table{}
	t.add(append(append([]string{name}, figures...), "")...)
	for _, id := range r.measured([]string{name}) {
		c := r.cell(name, id)
		row := []string{nameOf(id)}
		for _, f := range figures {
			if v, ok := c.medians[f]; ok {
				row = append(row, number(v))
			} else {
				row = append(row, "-")
			}
		}
		t.add(append(row, strings.Join(c.notes, "; "))...)
	}
	return t.String()
}
