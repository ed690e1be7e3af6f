package wire

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "+5m": 5 * time.Minute,
		"7d": 7 * day, "+7d": 7 * day, "007d": 7 * day, "7d0": 7 * day, "1d12h": 36 * time.Hour, "106751d": 106_751 * day,
	} {
		d, err := ParseDuration(s)
		require.NoError(t, err, s)
		require.Equal(t, want, d, s)
	}
	for _, s := range []string{
		"", "d", "7", "s", "-1s", "-1d", "1d-1h", "++1d", "1.5d", "1d1", "1d1d", "12h1d", " 1d", "106752d", "106751d24h", "99999999999d", "never",
	} {
		_, err := ParseDuration(s)
		require.ErrorContains(t, err, "is not a duration such as 90s, 12h or 7d", s)
	}
}
