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

// A segment that is missing, or holds nothing intact, does not hide what others have.
func TestATimeIsFoundBesideLostSegments(t *testing.T) {
	base := faultfs.New()
	s := openStill(t, base)
	l := openLog(t, s, identity(1), log.Config{})
	for i := range int64(90) {
		b := data(uint64(i), 1, 900)
		b.Time = 1000 + 10*i
		_, _, err := l.Append(b)
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	s.Drop()
	segments := segmentFiles(base)
	require.Greater(t, len(segments), 4)
	lose := map[string]func(disk *faultfs.Disk, name string){
		"missing": func(disk *faultfs.Disk, name string) { disk.Delete(name) },
		"zeros":   func(disk *faultfs.Disk, name string) { disk.SetBytes(name, make([]byte, len(disk.Bytes(name)))) },
	}
	for how, lose := range lose {
		for from := range segments {
			for to := from + 1; to <= len(segments); to++ {
				disk := base.Clone()
				for _, name := range segments[from:to] {
					lose(disk, name)
				}
				s, l, got, _ := survivors(t, disk, identity(1))
				for ms := int64(995); ms < 1910; ms += 5 {
					want := l.Positions().Next
					for _, e := range got {
						if e.Time >= ms {
							want = min(want, e.BaseOffset)
						}
					}
					at, err := l.OffsetAt(ms)
					require.NoError(t, err)
					require.Equal(t, want, at, "%s: segments %d to %d, %d ms", how, from, to, ms)
				}
				s.Drop()
			}
		}
	}
}

// Retention by age keeps a lost segment for as long as its neighbours: what is left of it may be of use.
func TestALostSegmentIsNotOld(t *testing.T) {
	o := small(faultfs.New())
	disk := o.FS.(*faultfs.Disk)
	o.Now = func() time.Time { return time.UnixMilli(3000) }
	s, err := log.OpenStill(o)
	require.NoError(t, err)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 60) // at 1000 ms
	require.NoError(t, s.Checkpoint())
	s.Drop()
	name := segmentFiles(disk)[0]
	disk.SetBytes(name, make([]byte, len(disk.Bytes(name))))
	s, err = log.OpenStill(o)
	require.NoError(t, err)
	l = openLog(t, s, identity(1), log.Config{Retention: log.Retention{Age: 2500 * time.Millisecond}})
	require.NoError(t, s.Retain())
	require.Zero(t, l.Positions().First)
	l.SetConfig(log.Config{Retention: log.Retention{Age: 1500 * time.Millisecond}})
	require.NoError(t, s.Retain())
	require.Equal(t, l.Positions().Next, l.Positions().First)
	require.NoError(t, s.Close())
}
