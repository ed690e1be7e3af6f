package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func rate(scenario, system string, v float64) sample {
	return sample{Scenario: scenario, System: system, Figures: figures{"rate": v}}
}

func TestNewerSamplesReplaceThoseOfTheSameRow(t *testing.T) {
	r := results{Machine: "old", Samples: []sample{rate("a", "x", 1), rate("a", "x", 2), rate("a", "y", 3), rate("b", "x", 4)}}
	r.merge(results{Machine: "new", Samples: []sample{rate("a", "x", 5)}})
	require.Equal(t, results{Machine: "new", Samples: []sample{rate("a", "y", 3), rate("b", "x", 4), rate("a", "x", 5)}}, r)
}

func TestACellHasMediansAndWhatWasWrong(t *testing.T) {
	lost := rate("a", "x", 30)
	lost.Note = "lost: 1"
	r := results{Samples: []sample{rate("a", "x", 10), lost, rate("a", "x", 20), lost, rate("a", "y", 99)}}
	c := r.cell("a", "x")
	require.Equal(t, cell{rounds: 4, medians: figures{"rate": 25}, notes: []string{"lost: 1"}}, c)
	require.Equal(t, "25 (lost: 1)", c.text("rate"))
	require.Equal(t, "- (lost: 1)", c.text("p50"))
	missing := r.cell("b", "x")
	require.Equal(t, "-", missing.text("rate"))
}

func TestResultsOutliveTheirFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "samples.json")
	r, err := load(name)
	require.NoError(t, err)
	require.Empty(t, r.Samples)
	r.merge(results{Machine: "m", Samples: []sample{rate("a", "x", 1.5), {Scenario: "a", System: "y", Note: "failed"}, rate("b", "y", 123456.789)}})
	require.NoError(t, r.save(name))
	again, err := load(name)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.NoError(t, (&results{}).save(name), "no samples")
	_, err = load(name)
	require.NoError(t, err)
}
