package log_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
)

// A wall clock that jumps ahead, for a moment or for good, does not make retention remove what is not a day old.
func TestRetentionDoesNotBelieveAJumpOfTheClock(t *testing.T) {
	const day = 24 * time.Hour
	var mu sync.Mutex
	wall, passed := time.UnixMilli(1_000_000), time.Duration(0)
	move := func(jump, pass time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		wall, passed = wall.Add(jump+pass), passed+pass
	}
	o := small(faultfs.New())
	o.SetClock(func() (time.Time, time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		return wall, passed
	})
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{Retention: log.Retention{Age: day}})
	b := data(0, 1, 100)
	b.Time = 1_000_000
	_, _, err = l.Append(b)
	require.NoError(t, err)
	require.NoError(t, s.Checkpoint())
	kept := func(want uint64) {
		t.Helper()
		require.NoError(t, s.Retain())
		require.NoError(t, s.Checkpoint())
		require.NoError(t, s.Retain())
		require.Equal(t, want, l.Stats().Records)
	}
	kept(1)
	move(30*day, time.Second)
	kept(1)
	move(-30*day, time.Second)
	kept(1)
	move(30*day, time.Hour)
	kept(1)
	for range 14 { // an hour and a half in an hour
		move(0, time.Hour)
	}
	kept(1)
	move(0, day)
	kept(0)
	require.NoError(t, s.Close())
}

// Small corrections are followed at once.
func TestRetentionFollowsTheClock(t *testing.T) {
	wall, passed := time.UnixMilli(1_000_000), time.Duration(0)
	o := small(faultfs.New())
	o.SetClock(func() (time.Time, time.Duration) { return wall, passed })
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	f := func(jump, pass, want time.Duration) {
		t.Helper()
		wall, passed = wall.Add(jump+pass), passed+pass
		require.Equal(t, int64(1_000_000)+want.Milliseconds(), s.NowMs())
	}
	f(0, time.Minute, time.Minute)
	f(time.Second, 0, time.Minute+time.Second)
	f(-time.Hour, 0, time.Second-59*time.Minute)
	f(0, time.Minute, time.Second-58*time.Minute)
	require.NoError(t, s.Close())
}
