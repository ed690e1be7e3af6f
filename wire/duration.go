package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration parses a duration as people write it in settings and positions: one of time.ParseDuration, a whole number
// of days, or both, as in "90s", "1h30m", "7d" and "1d12h". It must not be negative; 0 needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	switch {
	case !found:
		days, rest = "0", s
	case rest == "":
		rest = "0"
	}
	const day, maxDays = 24 * time.Hour, 106_751 // what a time.Duration can hold, about 292 years
	n, errDays := strconv.ParseUint(strings.TrimPrefix(days, "+"), 10, 32)
	d, err := time.ParseDuration(rest)
	total := time.Duration(n)*day + d
	if errDays != nil || err != nil || n > maxDays || d < 0 || total < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 12h or 7d", s)
	}
	return total, nil
}
