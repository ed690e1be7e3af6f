package log_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// failRead makes the nth operation fail that opens or reads a file whose path holds part, and reports in reached whether
// there were as many.
func failRead(disk *faultfs.Disk, part string, nth int, cause error, reached *bool) {
	disk.FailReads(func(_ faultfs.Op, name string) error {
		if !strings.Contains(name, part) {
			return nil
		}
		if nth--; nth == 0 {
			*reached = true
			return cause
		}
		return nil
	})
}

// rot returns a copy of the disk with a flipped bit in a file.
func rot(disk *faultfs.Disk, name string, pos int) *faultfs.Disk {
	c := disk.Clone()
	b := bytes.Clone(c.Bytes(name))
	b[pos] ^= 1
	c.SetBytes(name, b)
	return c
}

// everyRead calls f with the number of a read that fails, one after the other, until f makes no such read any more.
func everyRead(t *testing.T, f func(t *testing.T, nth int, cause error) (reached bool)) {
	for _, cause := range []error{syscall.EIO, syscall.EMFILE} {
		nth, reached := 1, true
		for reached {
			t.Run(fmt.Sprintf("%v at %d", cause, nth), func(t *testing.T) { reached = f(t, nth, cause) })
			nth++
		}
		require.Greater(t, nth, 3)
	}
}

// view is what a log gives its readers.
type view struct {
	positions log.Positions
	entries   []wire.Entry
	lost      []log.CorruptError
	damage    uint64
}

func look(t *testing.T, disk *faultfs.Disk) view {
	t.Helper()
	s, l, got, lost := survivors(t, disk.Clone(), identity(1))
	defer s.Drop()
	v := view{positions: l.Positions(), lost: lost, damage: s.Stats().Damage}
	for _, index := range slices.Sorted(maps.Keys(got)) {
		v.entries = append(v.entries, got[index])
	}
	return v
}

// One read of a file fails: it is an error for who reads, names the file, and costs nothing else. The next try finds what
// was there, and says no more of damage than without the failure.
func TestOneReadThatFailsCostsNothing(t *testing.T) {
	intact, segments, _ := filedDisk(t)
	for name, disk := range map[string]*faultfs.Disk{
		"intact":  intact,
		"footer":  rot(intact, segments[0], len(intact.Bytes(segments[0]))-50),
		"header":  rot(intact, segments[0], 20),
		"payload": rot(intact, segments[0], 5000),
		"stamp":   rot(intact, segments[0], 96),
	} {
		want := look(t, disk)
		t.Run(name, func(t *testing.T) {
			everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
				disk := disk.Clone()
				s := openStill(t, disk)
				defer s.Drop()
				l := openLog(t, s, identity(1), log.Config{})
				failRead(disk, ".seg", nth, cause, &reached)
				got := view{positions: l.Positions()}
				var c log.Chunk
				for at := uint64(0); at < got.positions.Next; at = c.Next {
					c.Release()
					err := l.ReadCold(&c, at, got.positions.Next, 4<<10)
					if errors.Is(err, cause) {
						require.ErrorContains(t, err, ".seg")
						err = l.ReadCold(&c, at, got.positions.Next, 4<<10)
					}
					if bad, ok := errors.AsType[*log.CorruptError](err); ok {
						got.lost = append(got.lost, *bad)
					} else {
						require.NoError(t, err)
					}
					for _, e := range entries(t, identity(1), &c) {
						e.Payload = bytes.Clone(e.Payload)
						got.entries = append(got.entries, e)
					}
				}
				got.damage = s.Stats().Damage
				require.Equal(t, want.lost, got.lost)
				require.Equal(t, want.damage, got.damage)
				require.Equal(t, want.positions, got.positions)
				require.True(t, reflect.DeepEqual(want.entries, got.entries))
				return reached
			})
		})
	}
}

// withReads runs f with the nth read of a segment failing, and then without.
func withReads(t *testing.T, disk *faultfs.Disk, nth int, cause error, f func() error) (reached bool) {
	t.Helper()
	failRead(disk, "/partitions/", nth, cause, &reached)
	err := f()
	disk.FailReads(nil)
	if err != nil {
		require.True(t, reached)
		require.ErrorIs(t, err, cause)
		require.ErrorContains(t, err, "/partitions/")
		require.NoError(t, f())
	}
	return reached
}

// A payload of which a window has only a part is read by itself when the walk looks for what is behind damage.
func TestALookBehindDamageThatFailsLosesNothing(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{SegmentBytes: 1 << 20})
	for i, n := range []int{200_000, 100_000, 100} {
		_, _, err := l.Append(data(uint64(i), 1, n))
		require.NoError(t, err)
	}
	require.NoError(t, s.Checkpoint())
	s.Drop()
	name := segmentFiles(disk)[0]
	disk = rot(disk, name, 100) // in the first stamp
	want := look(t, disk)
	require.Len(t, want.entries, 2)
	everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
		s := openStill(t, disk)
		defer s.Drop()
		l := openLog(t, s, identity(1), log.Config{})
		reached = withReads(t, disk, nth, cause, func() error {
			var c log.Chunk
			defer c.Release()
			err := l.ReadCold(&c, 0, 3, 1<<20)
			if bad, ok := errors.AsType[*log.CorruptError](err); ok {
				require.Equal(t, want.lost, []log.CorruptError{*bad})
				return nil
			}
			require.Error(t, err)
			return err
		})
		require.Equal(t, uint64(1), l.Stats().Lost)
		return reached
	})
}

func segmentFiles(disk *faultfs.Disk) (names []string) {
	for _, name := range disk.Names() {
		if strings.HasSuffix(name, ".seg") {
			names = append(names, name)
		}
	}
	return names
}

// A check says that it could not read, and not that something is damaged.
func TestACheckWhoseReadFailsFindsNoDamage(t *testing.T) {
	intact, segments, _ := filedDisk(t)
	for name, disk := range map[string]*faultfs.Disk{
		"intact": intact,
		"header": rot(intact, segments[0], 20),
		"footer": rot(intact, segments[0], len(intact.Bytes(segments[0]))-50),
	} {
		want, err := log.VerifyFS(disk, "/data")
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
				failRead(disk, "/data/", nth, cause, &reached)
				got, err := log.VerifyFS(disk, "/data")
				disk.FailReads(nil)
				if !reached {
					require.NoError(t, err)
					require.Equal(t, want, got)
					return false
				}
				require.ErrorIs(t, err, cause)
				require.ErrorContains(t, err, "/data/")
				require.Subset(t, want.Damage, got.Damage)
				return true
			})
		})
	}
}

// A start without a checkpoint reads segments. If it cannot, it fails, and the next one finds everything.
func TestAStartWithoutACheckpointWhoseReadFails(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	var l *log.Log
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) {
		return fmt.Append(nil, "state ", l.Positions().Next), l.Positions().NextIndex - 1
	}})
	for i := range uint64(3) {
		appendN(t, l, i*60, 60)
		require.NoError(t, s.Checkpoint())
	}
	require.NoError(t, l.TruncatePrefix(l.Positions().Next/2))
	s.Drop()
	disk.Delete("/data/checkpoint")
	for _, name := range commitFiles(disk) {
		disk.Delete(name)
	}
	type start struct {
		positions   log.Positions
		state       string
		index, term uint64
	}
	find := func(t *testing.T, disk *faultfs.Disk) (found start, err error) {
		s, err := log.OpenStill(small(disk))
		if err != nil {
			return found, err
		}
		defer s.Drop()
		l := openLog(t, s, identity(1), log.Config{})
		found = start{positions: l.Positions(), state: string(l.State())}
		found.index, found.term = l.Prev()
		return found, nil
	}
	want, err := find(t, disk.Clone())
	require.NoError(t, err)
	require.Equal(t, uint64(1), want.term)
	require.NotEmpty(t, want.state)
	everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
		disk := disk.Clone()
		var got start
		starts := 0
		reached = withReads(t, disk, nth, cause, func() (err error) {
			starts++
			got, err = find(t, disk)
			return err
		})
		require.Equal(t, reached, starts == 2, "no start goes on with what it could read")
		require.Equal(t, want, got)
		return reached
	})
}

// What is filed goes to a new segment when the last one cannot be read for now. That one is as it was.
func TestASegmentThatCannotBeReadIsNotWrittenTo(t *testing.T) {
	base := faultfs.New()
	s := openStill(t, base)
	appendN(t, openLog(t, s, identity(1), log.Config{}), 0, 5)
	require.NoError(t, s.Checkpoint())
	s.Drop()
	require.Len(t, segmentFiles(base), 1)
	everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
		disk := base.Clone()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{})
		appendN(t, l, 5, 5)
		reached = withReads(t, disk, nth, cause, s.Checkpoint)
		require.False(t, l.Stats().ReadOnly)
		fresh := reached && cause == syscall.EIO // too few open files pass, and the segment stays the last one
		require.Equal(t, fresh, len(segmentFiles(disk)) == 2)
		appendN(t, l, 10, 5)
		require.NoError(t, s.Checkpoint())
		want := readAll(t, l)
		require.Len(t, want, 15)
		require.Zero(t, l.Stats().Unfiled)
		require.Zero(t, s.Stats().Damage)
		s.Drop()
		r, err := log.VerifyFS(disk, "/data")
		require.NoError(t, err)
		require.Empty(t, r.Damage)
		s = openStill(t, disk)
		l = openLog(t, s, identity(1), log.Config{})
		require.Equal(t, want, readAll(t, l))
		require.Zero(t, s.Stats().Damage)
		require.NoError(t, s.Close())
		return reached
	})
}

// Retention that cannot read drops nothing, or what it would have dropped anyway.
func TestRetentionWhoseReadFails(t *testing.T) {
	base := faultfs.New()
	s := openStill(t, base)
	l := openLog(t, s, identity(1), log.Config{})
	appendN(t, l, 0, 200)
	require.NoError(t, s.Checkpoint())
	all := readAll(t, l)
	s.Drop()
	require.Greater(t, len(segmentFiles(base)), 4)
	everyRead(t, func(t *testing.T, nth int, cause error) (reached bool) {
		disk := base.Clone()
		s := openStill(t, disk)
		l := openLog(t, s, identity(1), log.Config{Retention: log.Retention{Bytes: 20 << 10}})
		failRead(disk, "/partitions/", nth, cause, &reached)
		require.NoError(t, s.Retain())
		disk.FailReads(nil)
		if reached {
			require.Zero(t, l.Positions().First)
			require.Equal(t, all, readAll(t, l))
			require.NoError(t, s.Retain())
		}
		require.Positive(t, l.Positions().First)
		index, term := l.Prev()
		require.Equal(t, []uint64{l.Positions().FirstIndex - 1, 1}, []uint64{index, term})
		require.Zero(t, s.Stats().Damage)
		require.NoError(t, s.Close())
		return reached
	})
}

// A pass of compaction that cannot read ends, and the next one does all of it.
func TestACompactionWhoseReadFails(t *testing.T) {
	base := newCompacted(t)
	for i := range 300 {
		base.append(wire.CodecNone, 0, fmt.Sprint("key-", i%7), fmt.Sprint("value ", i, string(make([]byte, 60))))
	}
	require.NoError(t, base.s.Close())
	compacted := func(t *testing.T, nth int, cause error) (c *compacted, reached bool) {
		c = &compacted{t: t, disk: base.disk.Clone(), now: base.now, all: base.all}
		var said bytes.Buffer
		c.logger = slog.New(slog.NewTextHandler(&said, nil))
		c.open()
		t.Cleanup(c.s.Drop)
		reached = withReads(t, c.disk, nth, cause, c.s.Compact)
		require.NotContains(t, said.String(), "damage")
		require.Zero(t, c.s.Stats().Damage)
		return c, reached
	}
	want, _ := compacted(t, 0, nil)
	everyRead(t, func(t *testing.T, nth int, cause error) bool {
		c, reached := compacted(t, nth, cause)
		require.Equal(t, len(want.check()), len(c.check()))
		require.Equal(t, want.l.Stats().Segments, c.l.Stats().Segments)
		return reached
	})
}

// The state of an owner that could not replay its log is not asked for, so the stored one stays.
func TestAReplayThatFailsKeepsTheState(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return []byte("state"), 1 }})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	appendN(t, l, 10, 10)
	require.NoError(t, s.Sync())
	s.Drop()

	s = openStill(t, disk)
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) {
		require.Fail(t, "asked")
		return nil, 0
	}})
	replay := func() (got int, err error) {
		err = l.Replay(func(wire.Entry) error { got++; return nil })
		return got, err
	}
	reached := false
	failRead(disk, "/partitions/", 1, syscall.EIO, &reached)
	_, err := replay()
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, s.Checkpoint())
	require.Equal(t, "state", string(l.State()))
	got, err := replay()
	require.NoError(t, err)
	require.Equal(t, 19, got)
	s.Drop()
	s = openStill(t, disk)
	require.Equal(t, "state", string(openLog(t, s, identity(1), log.Config{}).State()))
	require.NoError(t, s.Close())
}

// A file system that is unmounted makes no segment old, and none that retention drops is dropped without its successor's
// header.
func TestRetentionDropsNothingOfADirectoryThatIsGone(t *testing.T) {
	for _, limit := range []log.Retention{{Age: time.Since(time.UnixMilli(0)) - time.Hour}, {Bytes: 10 << 10}} {
		dir := filepath.Join(t.TempDir(), "data")
		o := log.Options{Dir: dir, MemoryBytes: 8 << 20, CommitFileBytes: 1 << 20, SegmentBytes: 16 << 10}
		s, err := log.OpenStill(o)
		require.NoError(t, err)
		l := openLog(t, s, identity(1), log.Config{})
		for i := range uint64(60) {
			b := data(i, 1, 900)
			b.Time = time.Now().UnixMilli()
			_, _, err := l.Append(b)
			require.NoError(t, err)
		}
		require.NoError(t, s.Checkpoint())
		s.Drop()
		s, err = log.OpenStill(o)
		require.NoError(t, err)
		l = openLog(t, s, identity(1), log.Config{Retention: limit})
		require.NoError(t, os.Rename(dir, dir+".old"))
		require.NoError(t, s.Retain())
		_, err = l.OffsetAt(1)
		require.ErrorContains(t, err, "removed or replaced")
		require.NoError(t, os.Rename(dir+".old", dir))
		require.Zero(t, l.Positions().First)
		require.Len(t, readAll(t, l), 60)
		require.NoError(t, s.Close())
	}
}

// While its owner cannot read its state, a log refuses appends and keeps the stored state, until the owner says that it has
// what the replay read.
func TestASuspendedLogWaitsForItsOwner(t *testing.T) {
	disk := faultfs.New()
	s := openStill(t, disk)
	l := openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { return []byte("old"), 1 }})
	appendN(t, l, 0, 10)
	require.NoError(t, s.Checkpoint())
	s.Drop()

	s = openStill(t, disk)
	asked := 0
	l = openLog(t, s, identity(1), log.Config{State: func() ([]byte, uint64) { asked++; return []byte("new"), 5 }})
	l.Suspend()
	require.NoError(t, l.Replay(func(wire.Entry) error { return nil }))
	require.NoError(t, l.TruncatePrefix(1)) // with a checkpoint
	require.Zero(t, asked)
	require.Equal(t, "old", string(l.State()))
	_, _, err := l.Append(data(1, 1, 10))
	require.ErrorIs(t, err, log.ErrReadOnly)
	require.True(t, l.Stats().ReadOnly)
	require.Equal(t, 1, s.Stats().ReadOnly)
	require.NoError(t, l.Resume())
	require.False(t, l.Stats().ReadOnly)
	appendN(t, l, 10, 1)
	require.NoError(t, s.Checkpoint())
	require.NotZero(t, asked)
	s.Drop()
	s = openStill(t, disk)
	require.Equal(t, "new", string(openLog(t, s, identity(1), log.Config{}).State()))
	require.NoError(t, s.Close())
}
