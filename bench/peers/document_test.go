package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPartsAreWrittenBetweenTheirMarks(t *testing.T) {
	targets, tables := fmt.Sprintf(beginMark, "targets"), fmt.Sprintf(beginMark, "tables")
	document := "before\n" + targets + "old\n" + endMark + "between\n" + tables + endMark + "after\n"
	parts := map[string]string{"targets": "new\n", "tables": "all\n", "summary": "not here\n"}
	once, err := replaceParts(document, parts)
	require.NoError(t, err)
	require.Equal(t, "before\n"+targets+"new\n"+endMark+"between\n"+tables+"all\n"+endMark+"after\n", once)
	twice, err := replaceParts(once, parts)
	require.NoError(t, err)
	require.Equal(t, once, twice)
	for _, broken := range []string{"", targets, endMark, endMark + targets, fmt.Sprintf(beginMark, "other") + endMark} {
		_, err := replaceParts(broken, parts)
		require.Error(t, err, "%q", broken)
	}
}

func TestSummaryHasOneFigureOfEachSystem(t *testing.T) {
	best, single := "publish acked, best window, 128 B", "publish acked, one in flight, 128 B"
	r := results{Samples: []sample{
		rate(best, "rafka", 4_000_000), rate(best, "js-memory", 200_000),
		{Scenario: single, System: "rafka-disk", Figures: figures{"p50": 120}},
	}}
	require.Contains(t, r.summary(), "| measured | Rafka | NATS core | JetStream | Redis 7 streams | NSQ |\n| --- |")
	require.Contains(t, r.summary(), "| each acknowledged, in memory | 4.00 M | - | 200 k | - | - |\n")
	require.Contains(t, r.summary(), "| one acknowledged at a time, on disk, p50 | 120 us | - | - | - | - |\n")
}

func TestSummaryNamesScenariosAndSystemsThatExist(t *testing.T) {
	has := map[string][]string{}
	for _, sc := range scenarios() {
		has[sc.name] = sc.systems
	}
	for _, row := range summaryRows {
		require.LessOrEqual(t, len(row.systems), len(summaryColumns)-1)
		for _, id := range row.systems {
			if id != "" {
				require.Contains(t, has[row.scenario], id, row.what)
			}
		}
	}
}
