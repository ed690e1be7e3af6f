package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumbersHaveTheDigitsThatMeanSomething(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.034: "0.03", 1: "1", 42.25: "42.2", 99.96: "100", 999.6: "1000", 9999: "9999", 12_345: "12 k", 2_345_678: "2.35 M",
	} {
		require.Equal(t, want, number(v))
	}
}

func TestTargetsAreJudgedByTheRatio(t *testing.T) {
	best := "publish acked, best window, 128 B"
	r := results{Machine: "a machine", Samples: []sample{
		rate(best, "rafka", 4_000_000), rate(best, "js-memory", 200_000), rate(best, "redis", 2_000_000),
	}}
	require.Equal(t, `| figure | unit | Rafka | peer | ratio | target | met |
| --- | --- | --- | --- | --- | --- | --- |
| acked publish | msg/s | Rafka, memory: 4.00 M | JetStream, memory: 200 k | 20.00 | >= 15 x | yes |
| acked publish | msg/s | Rafka, memory: 4.00 M | Redis, no AOF: 2.00 M | 2.00 | >= 4 x | no |
`, r.targetTable(nativeTargets()))
	less := target{bound: 0.5, less: true}
	require.True(t, less.met(0.5))
	require.False(t, less.met(0.51))
	require.Equal(t, "<= 0.5 x", less.String())
}

func TestTheReportHasATableForWhatWasMeasured(t *testing.T) {
	r := results{Machine: "a machine", Samples: []sample{
		rate("queue consume with ack, 128 B", "redis", 300_000),
		{Scenario: "open loop, 10 k msg/s, 128 B", System: "nsq", Figures: figures{"deliver p50": 10}, Note: "falls behind"},
	}}
	report := r.report()
	require.Contains(t, report, "a machine. Medians of 1 round.\n")
	require.Contains(t, report, "### Queue, consumed and acknowledged messages a second\n\n![Queue, consumed and acknowledged messages a second](plots/peers-queue.svg)\n\n|  | Redis, no AOF |\n| --- | --- |\n| queue consume with ack, 128 B | 300 k |\n")
	require.Contains(t, report, "| NSQ, memory | - | - | - | - | 10 | - | - | - | falls behind |\n")
	require.NotContains(t, report, "Fire-and-forget")
}

func TestScenariosSystemsTargetsAndSectionsFitTogether(t *testing.T) {
	has := map[string][]string{}
	for _, sc := range scenarios() {
		require.NotContains(t, has, sc.name, "two scenarios of one name")
		has[sc.name] = sc.systems
		for _, id := range sc.systems {
			_, err := systemNamed(id)
			require.NoError(t, err)
		}
	}
	for _, want := range allTargets() {
		for _, f := range []figure{want.ours, want.peer} {
			require.Contains(t, has[f.scenario], f.system, f.scenario)
		}
	}
	for _, s := range sections {
		matches := func() bool {
			for name := range has {
				if strings.HasPrefix(name, s.scenarios) {
					return true
				}
			}
			return false
		}
		require.True(t, matches(), "no scenario begins with %q", s.scenarios)
	}
	for _, id := range inLatencyCharts {
		_, err := systemNamed(id)
		require.NoError(t, err)
	}
}
