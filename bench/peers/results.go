package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
)

// figures are what one measurement found, by what they are: "rate", "p99", "cpu" and so on. In a
// sample's JSON they are in the units that the tables name.
type figures map[string]float64

// sample is one measurement of one system.
type sample struct {
	Scenario string  `json:"scenario"`
	System   string  `json:"system"`
	Figures  figures `json:"figures,omitempty"`
	Note     string  `json:"note,omitempty"` // what was wrong, as in "lost: 3" or "falls behind"
}

// results are samples in the order in which they were taken, and where they come from.
type results struct {
	Machine string   `json:"machine"`
	Samples []sample `json:"samples"`
}

// load reads results; there are none when there is no file.
func load(name string) (r results, err error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func (r *results) save(name string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// merge replaces what r has of the scenarios and systems that are in newer, and keeps the rest.
func (r *results) merge(newer results) {
	r.Samples = slices.DeleteFunc(r.Samples, func(old sample) bool {
		return slices.ContainsFunc(newer.Samples, func(s sample) bool { return s.Scenario == old.Scenario && s.System == old.System })
	})
	r.Samples = append(r.Samples, newer.Samples...)
	r.Machine = newer.Machine
}

// cell is what is known of one system in one scenario.
type cell struct {
	rounds  int
	medians figures
	notes   []string // each once
}

func (r *results) cell(scenario, system string) cell {
	c := cell{medians: figures{}}
	values := map[string][]float64{}
	for _, s := range r.Samples {
		if s.Scenario != scenario || s.System != system {
			continue
		}
		c.rounds++
		for name, v := range s.Figures {
			values[name] = append(values[name], v)
		}
		if s.Note != "" && !slices.Contains(c.notes, s.Note) {
			c.notes = append(c.notes, s.Note)
		}
	}
	for name, v := range values {
		c.medians[name] = median(v)
	}
	return c
}

// median returns the middle value, or between the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
