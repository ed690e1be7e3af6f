package log_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
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

// What is appended after the clock was ahead has the time of the last record before, until a purge leaves no record.
func TestAPurgeEndsWhatAClockDidThatWasAhead(t *testing.T) {
	const now, ahead = 1_800_000_000_000, 4_100_000_000_000
	at := func(ms int64, kind wire.Kind) log.Batch {
		b := data(1, 1, 100)
		if b.Time, b.Kind = ms, kind; kind != wire.KindData {
			b.Count = 0
		}
		return b
	}
	for _, restarted := range []bool{false, true} {
		for _, dir := range []string{"", "/data"} {
			if restarted && dir == "" {
				continue
			}
			o := small(faultfs.New())
			o.Dir, o.Now = dir, func() time.Time { return time.UnixMilli(now) }
			s := open(t, o)
			l := openLog(t, s, identity(1), log.Config{})
			add := func(ms int64, kind wire.Kind) {
				t.Helper()
				_, _, err := l.Append(at(ms, kind))
				require.NoError(t, err)
			}
			times := func() (all []int64) {
				t.Helper()
				for _, e := range readAll(t, l) {
					all = append(all, e.Time)
				}
				return all
			}
			add(ahead, wire.KindData)
			add(now, wire.KindData)
			require.Equal(t, []int64{ahead, ahead}, times())
			require.NoError(t, l.TruncatePrefix(1))
			add(now, wire.KindData)
			require.Equal(t, []int64{ahead, ahead}, times(), "not before a record that can be read")

			require.NoError(t, l.TruncatePrefix(3))
			add(ahead, wire.KindState)
			if restarted {
				require.NoError(t, s.Close())
				s = open(t, o)
				l = openLog(t, s, identity(1), log.Config{})
			}
			add(now, wire.KindState)
			base, n, err := l.AppendRun(log.Run{Payloads: [][]byte{payload(1, 100)}, Counts: []uint32{1}}, 1, now)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			add(now+1, wire.KindData)
			add(now, wire.KindData)
			require.Equal(t, []int64{now, now + 1, now + 1}, times())
			for ms, want := range map[int64]uint64{0: base, now: base, now + 1: base + 1, now + 2: base + 3, ahead: base + 3} {
				if dir != "" {
					require.NoError(t, s.Checkpoint())
				}
				got, err := l.OffsetAt(ms)
				require.NoError(t, err, "%q %v %d", dir, restarted, ms-now)
				require.Equal(t, want, got, ms-now)
			}
			require.NoError(t, s.Close())
		}
	}
}
