package log_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// Memory still has purged records, in front of those that were appended later.
func TestATimeIsFoundAfterAPurge(t *testing.T) {
	for _, dir := range []string{"", "/data"} {
		o := small(faultfs.New())
		o.Dir = dir
		s := open(t, o)
		l := openLog(t, s, identity(1), log.Config{})
		add := func(ms int64) {
			t.Helper()
			b := data(1, 1, 100)
			b.Time = ms
			_, _, err := l.Append(b)
			require.NoError(t, err)
		}
		add(1000)
		add(2000)
		require.NoError(t, l.TruncatePrefix(1))
		add(3000)
		require.NoError(t, l.TruncatePrefix(3))
		add(4000)
		add(5000)
		for ms, want := range map[int64]uint64{0: 3, 1500: 3, 4000: 3, 4001: 4, 5001: 5} {
			got, err := l.OffsetAt(ms)
			require.NoError(t, err, "%q %d", dir, ms)
			require.Equal(t, want, got, "%q %d", dir, ms)
		}
		require.NoError(t, s.Close())
	}
}
