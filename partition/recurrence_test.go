package partition

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestRecurringMessagesShareTheirTimeZone(t *testing.T) {
	var z zones
	now := time.UnixMilli(1_763_800_000_000)
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const many = 10_000
	list := make([]*recurrence, many)
	before := held()
	for i := range list {
		var err error
		list[i], err = z.newRecurrence(fmt.Sprintf("%d %d * * *", i%60, i%24), "Europe/Berlin", now)
		require.NoError(t, err)
	}
	require.Less(t, (held()-before)/many, int64(400), "bytes of each")
	runtime.KeepAlive(list)
	for _, name := range []string{"Local", "Europe//Berlin", "./Europe/Berlin", "Europe/Berlin/", "Europe", "nowhere"} {
		_, err := z.newRecurrence("@daily", name, now)
		code(t, wire.CodeInvalid, err)
	}
	require.Len(t, z.byName, 1)
}

// Whatever the clocks of a time zone do, what is due comes later than now and at the time that the expression says.
func TestRecurringMessagesAreDueAtTheTimesTheySay(t *testing.T) {
	var z zones
	for _, zone := range []string{
		"Africa/Cairo", "Asia/Beirut", "America/Santiago", "America/Havana", "Atlantic/Azores", "Antarctica/Troll",
		"Asia/Kathmandu", "Pacific/Apia", "Europe/Berlin", "Australia/Lord_Howe",
	} {
		location, err := z.location(zone)
		require.NoError(t, err)
		for _, at := range [][2]int{{0, 0}, {30, 0}, {30, 1}, {15, 2}, {0, 3}, {45, 23}} {
			now := time.Date(2011, 9, 1, 0, 0, 0, 0, time.UTC)
			r, err := z.newRecurrence(fmt.Sprintf("%d %d * * *", at[0], at[1]), zone, now)
			require.NoError(t, err)
			before := 0
			for now.Year() < 2013 {
				next := time.UnixMilli(r.after(now)).In(location)
				require.True(t, next.After(now))
				require.Equal(t, at, [2]int{next.Minute(), next.Hour()}, "%s %s", zone, next)
				require.NotEqual(t, before, next.YearDay(), "%s: twice on %s", zone, next)
				before = next.YearDay()
				require.Less(t, next.Sub(now), 74*time.Hour, "%s: none before %s", zone, next)
				now = next
			}
		}
	}
}
