package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/bench/plot"
)

func TestGroupsHaveAValueForEachScenario(t *testing.T) {
	r := results{Samples: []sample{rate("a", "nats", 1), rate("b", "nats", 2), rate("b", "rafka", 3), {Scenario: "a", System: "redis", Note: "failed"}}}
	require.Equal(t, []plot.Group{
		{Name: "NATS core", Values: []float64{1, 2}}, {Name: "Rafka, memory", Values: []float64{0, 3}},
	}, r.groups([]string{"a", "b"}, "rate"))
}

func TestPlotsAreDrawnOfWhatWasMeasured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "plots")
	r := results{Samples: []sample{
		rate("queue consume with ack, 128 B", "redis", 300_000),
		{Scenario: "open loop, 50 k msg/s, 128 B", System: "rafka", Figures: figures{"deliver p50": 90, "deliver p99": 1000}},
	}}
	require.NoError(t, r.plot(dir))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		requireXML(t, filepath.Join(dir, f.Name()))
	}
	require.Equal(t, []string{"peers-latency-50k.svg", "peers-queue.svg"}, names)
}

func requireXML(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}
