package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/rafka-mq/rafka/bench/plot"
)

// figures are the figures of one measurement by name, such as "rate", "p99" or "cpu". Their units are
// those that the titles of the sections name.
type figures map[string]float64

// sample is one measurement of one system in one scenario.
type sample struct {
	Scenario string  `json:"scenario"`
	System   string  `json:"system"` // id
	Figures  figures `json:"figures,omitempty"`
	Note     string  `json:"note,omitempty"` // what was wrong, as in "lost: 3" or "falls behind"
}

// results are samples in the order in which they were taken.
type results struct {
	Machine string   `json:"machine"` // the machine and the date of the newest samples
	Samples []sample `json:"samples"`
}

// load reads results from a file. It returns none if the file does not exist.
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

// save writes results as JSON with one sample per line. It creates the directory if necessary.
func (r *results) save(name string) error {
	machine, err := json.Marshal(r.Machine)
	if err != nil {
		return err
	}
	b := fmt.Appendf(nil, "{\"machine\":%s,\"samples\":[", machine)
	for i, s := range r.Samples {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), line...)
	}
	b = append(b, "\n]}\n"...)
	return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644))
}

// round leaves five significant digits of each figure.
func (f figures) round() {
	for name, v := range f {
		f[name], _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 5, 64), 64) // cannot fail: FormatFloat wrote it
	}
}

// merge adds newer samples, which replace all older ones of the same scenario and system. It rounds them, so that the
// report of a run and one of its file are the same.
func (r *results) merge(newer results) {
	r.Samples = slices.DeleteFunc(r.Samples, func(old sample) bool {
		return slices.ContainsFunc(newer.Samples, func(s sample) bool { return s.Scenario == old.Scenario && s.System == old.System })
	})
	for _, s := range newer.Samples {
		s.Figures.round()
	}
	r.Samples = append(r.Samples, newer.Samples...)
	r.Machine = newer.Machine
}

// cell summarizes the samples of one system in one scenario.
type cell struct {
	rounds  int // how many samples there are
	medians figures
	notes   []string // the different notes, in order
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
		c.medians[name] = plot.Median(v)
	}
	return c
}
