package seeds

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func chosen(t *testing.T, first, count string) []uint64 {
	list, err := choose(3, func(name string) string { return map[string]string{firstVar: first, countVar: count}[name] })
	require.NoError(t, err)
	return list
}

func TestTheEnvironmentChoosesTheSeeds(t *testing.T) {
	require.Equal(t, []uint64{17}, chosen(t, "17", ""))
	require.Equal(t, []uint64{1, 2, 3, 4, 5}, chosen(t, "", "5"))
	require.Equal(t, []uint64{17, 18}, chosen(t, "17", "2"))
}

func TestWithoutAWordThereIsOneSeedOfTheMoment(t *testing.T) {
	a, b := chosen(t, "", ""), chosen(t, "", "")
	require.Equal(t, []uint64{1, 2, 3}, a[:3])
	require.Len(t, a, 4)
	require.NotEqual(t, a[3], b[3])
}

func TestASeedThatIsNoNumberIsRefused(t *testing.T) {
	for _, name := range []string{firstVar, countVar} {
		_, err := choose(3, func(n string) string { return map[string]string{name: "many"}[n] })
		require.ErrorContains(t, err, name)
	}
}

func TestEverySeedIsASubtest(t *testing.T) {
	t.Setenv(firstVar, "4")
	t.Setenv(countVar, "2")
	var ran []uint64
	Each(t, 9, func(_ *testing.T, seed uint64) { ran = append(ran, seed) })
	require.Equal(t, []uint64{4, 5}, ran)
}
