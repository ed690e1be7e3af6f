package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestScaleMeasuresEveryAxis(t *testing.T) {
	var told int
	r, err := Scale(t.Context(), ScaleConfig{
		Program: program(t), Dir: t.TempDir(), Rounds: 1, Duration: 20 * time.Millisecond, RoundTrips: 20, Most: 20,
		Progress: func(string) { told++ }, Only: "s", // "backlog" fills gigabytes
	})
	require.NoError(t, err)
	var names []string
	for _, a := range r.Axes {
		names = append(names, a.Name)
		for _, p := range a.Points {
			require.Positive(t, p.Rate, "%s %s", a.Name, p.Label)
			require.Positive(t, p.P99, "%s %s", a.Name, p.Label)
		}
	}
	require.Equal(t, []string{"partitions", "connections", "subscribers", "size"}, names)
	require.Equal(t, 2+2+2+1, told)
	require.Contains(t, r.Markdown(), "plots/scale-partitions-rate.svg")
	require.Contains(t, r.Charts(), "scale-partitions-rate.svg")
	require.Contains(t, r.Text(), "Delivered to subscribers")
}

func TestABacklogGrowsInOneBroker(t *testing.T) {
	c := ScaleConfig{Program: program(t), Dir: t.TempDir(), Rounds: 2, Duration: 10 * time.Millisecond, RoundTrips: 5}
	require.NoError(t, c.setDefaults())
	c.ctx = t.Context()
	var places []int
	require.NoError(t, overBacklog(&c, []int{0}, func(i int, p point) {
		require.Positive(t, p.rate)
		places = append(places, i)
	}))
	require.Equal(t, []int{0, 0}, places)
}

func TestACliffIsMarked(t *testing.T) {
	a := Axis{Name: "things", Points: []ScalePoint{{Rate: 100}, {Rate: 120}, {Rate: 97}, {Rate: 95}}}
	require.False(t, a.Cliff(0))
	require.False(t, a.Cliff(2))
	require.True(t, a.Cliff(3))
	require.Contains(t, a.table().RenderMarkdown(), "0.79 !")
}

func TestLimitsAndLabels(t *testing.T) {
	require.ErrorContains(t, allowFiles(1<<40), "open files")
	require.Equal(t, "16 KiB", bytesLabel(16<<10))
	require.Equal(t, "1 MiB", bytesLabel(1<<20))
	require.Equal(t, "16 B", bytesLabel(16))
}
