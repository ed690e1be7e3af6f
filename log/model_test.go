package log_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// modelLog is what a log must hold.
type modelLog struct {
	id      wire.Identity
	log     *log.Log
	first   uint64 // lowest First that is allowed
	entries []wire.Entry
}

func (m *modelLog) next() (offset, index uint64) {
	if len(m.entries) == 0 {
		return 0, 1
	}
	e := m.entries[len(m.entries)-1]
	return e.NextOffset(), e.Index + 1
}

// model drives a store with random operations on a simulated disk and compares it with slices.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	disk    *faultfs.Disk
	options log.Options
	store   *log.Store
	logs    []*modelLog
	seq     uint64
	failing bool // the disk may fail at any time
	hostile bool // goroutines run in orders that a disk without pauses never shows
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: faultfs.New()}
	for i := range 3 {
		m.logs = append(m.logs, &modelLog{id: identity(byte(i + 1))})
	}
	// One seed in four: what is found without pauses can be repeated.
	if m.hostile = seed%4 == 3; m.hostile {
		m.disk.Jitter(seed)
	}
	m.open()
	return m
}

func (m *model) open() {
	m.options = small(m.disk)
	if m.hostile {
		m.options.Hurry(time.Duration(200+m.rng.IntN(800)) * time.Microsecond)
	}
	m.store = open(m.t, m.options)
	for _, ml := range m.logs {
		ml.log = openLog(m.t, m.store, ml.id, log.Config{State: ml.snapshot})
		m.check(ml)
		m.checkReplay(ml)
	}
}

// snapshot is the owner's state hook: how many entries there are. Appends are not concurrent here.
func (m *modelLog) snapshot() ([]byte, uint64) {
	index := m.log.Positions().NextIndex - 1
	return fmt.Append(nil, index), index
}

func (m *model) checkReplay(ml *modelLog) {
	from := uint64(0)
	if b := ml.log.State(); len(b) > 0 {
		_, err := fmt.Sscan(string(b), &from)
		require.NoError(m.t, err)
	}
	p := ml.log.Positions()
	from = max(from+1, p.FirstIndex)
	require.NoError(m.t, ml.log.Replay(func(e wire.Entry) error {
		if e.Index != from {
			return fmt.Errorf("replay of %d, not %d", e.Index, from)
		}
		from++
		return nil
	}))
	require.Equal(m.t, p.NextIndex, from, "replay must reach the end")
}

// check compares everything that can be read.
func (m *model) check(ml *modelLog) {
	p := ml.log.Positions()
	offset, index := ml.next()
	require.Equal(m.t, offset, p.Next)
	require.Equal(m.t, index, p.NextIndex)
	require.GreaterOrEqual(m.t, p.First, ml.first)
	var want []wire.Entry
	for _, e := range ml.entries {
		if e.Kind == wire.KindData && e.NextOffset() > p.First {
			want = append(want, e)
		}
	}
	got := readAll(m.t, ml.log)
	for i := range min(len(want), len(got)) {
		require.Equal(m.t, want[i].Stamp, got[i].Stamp)
		require.Equal(m.t, want[i].Payload, got[i].Payload)
	}
	require.Equal(m.t, len(want), len(got))
}

func (m *model) step() {
	ml := m.logs[m.rng.IntN(len(m.logs))]
	defer func() { require.NoError(m.t, ml.log.CheckPlaces()) }()
	switch n := m.rng.IntN(100); {
	case n < 60:
		m.append(ml)
	case n < 68:
		ml.log.Flush(wire.LevelOS + wire.Level(m.rng.IntN(2)))
	case n < 70:
		ml.log.FlushHere(wire.LevelDisk)
	case n < 76:
		m.tolerate(m.store.Sync())
	case n < 80:
		m.tolerate(m.store.Checkpoint())
	case n < 82:
		offset, _ := ml.next()
		if offset = m.rng.Uint64N(offset/2 + 1); m.tolerate(ml.log.TruncatePrefix(offset)) {
			ml.first = max(ml.first, offset)
		}
	case n < 90:
		m.readSome(ml)
	case n < 92:
		m.check(ml)
	}
}

// tolerate accepts the failures that a dying disk causes.
func (m *model) tolerate(err error) bool {
	if err != nil && !errors.Is(err, faultfs.ErrInjected) && !errors.Is(err, log.ErrReadOnly) &&
		!errors.Is(err, syscall.ENOSPC) && !errors.Is(err, log.ErrFull) {
		require.NoError(m.t, err)
	}
	return err == nil
}

func (m *model) append(ml *modelLog) {
	if m.rng.IntN(4) == 0 {
		m.appendRun(ml)
		return
	}
	for range 1 + m.rng.IntN(20) {
		size := 20 + m.rng.IntN(300)
		if m.rng.IntN(40) == 0 {
			size = m.rng.IntN(40 << 10)
		}
		b := data(m.seq, 1+m.rng.Uint32N(5), size)
		if m.rng.IntN(6) == 0 {
			b.Kind, b.Count = wire.KindState, 0
		}
		m.seq++
		base, index, err := ml.log.Append(b)
		if errors.Is(err, log.ErrReadOnly) || errors.Is(err, log.ErrFull) || errors.Is(err, log.ErrBusy) {
			return
		}
		require.NoError(m.t, err)
		offset, next := ml.next()
		require.Equal(m.t, offset, base)
		require.Equal(m.t, next, index)
		ml.note(b)
	}
}

// note adds what was appended.
func (m *modelLog) note(b log.Batch) {
	offset, index := m.next()
	m.entries = append(m.entries, wire.Entry{Stamp: wire.Stamp{
		Length: uint32(len(b.Payload)), Kind: b.Kind, Count: b.Count, Term: 1, Index: index,
		BaseOffset: offset, Time: b.Time,
	}, Payload: b.Payload})
}

func (m *model) appendRun(ml *modelLog) {
	batches := make([]log.Batch, 1+m.rng.IntN(40))
	var run log.Run
	now := data(m.seq, 1, 8).Time
	for i := range batches {
		size := 20 + m.rng.IntN(2000)
		if m.rng.IntN(8) == 0 {
			size *= 8 // large ones are copied in another way
		}
		batches[i] = data(m.seq, 1+m.rng.Uint32N(5), size)
		batches[i].Time = now
		run.Payloads, run.Counts = append(run.Payloads, batches[i].Payload), append(run.Counts, batches[i].Count)
		m.seq++
	}
	base, n, err := ml.log.AppendRun(run, 1, now)
	if err == nil {
		require.Len(m.t, run.Payloads, n)
	} else if !errors.Is(err, log.ErrReadOnly) && !errors.Is(err, log.ErrFull) && !errors.Is(err, log.ErrBusy) {
		require.NoError(m.t, err)
	}
	offset, _ := ml.next()
	require.Equal(m.t, offset, base)
	for _, b := range batches[:n] {
		ml.note(b)
	}
}

func (m *model) readSome(ml *modelLog) {
	p := ml.log.Positions()
	if p.First >= p.Next {
		return
	}
	from := p.First + m.rng.Uint64N(p.Next-p.First)
	got := readFrom(m.t, ml.log, from, min(p.Next, from+20))
	for _, e := range got {
		i, ok := slices.BinarySearchFunc(ml.entries, e.Index, func(a wire.Entry, x uint64) int { return int(a.Index) - int(x) })
		require.True(m.t, ok)
		require.Equal(m.t, ml.entries[i], e)
	}
}

// restart kills the process, and with power cuts the power. Entries that were promised must be there, and what is there
// must be a prefix of what was appended.
func (m *model) restart(power bool) {
	floors := make([]uint64, len(m.logs))
	for i, ml := range m.logs {
		p := ml.log.Positions()
		floors[i] = p.WrittenIndex
		if power {
			floors[i] = p.DurableIndex
		}
	}
	old, disk := m.store, m.after(m.disk, power)
	_ = old.Close() // on a disk that nobody looks at any more
	m.disk = m.interrupted(disk, power)
	o := small(m.disk)
	o.Logger = slog.New(slog.NewTextHandler(m.t.Output(), nil))
	s := open(m.t, o)
	for i, ml := range m.logs {
		l := openLog(m.t, s, ml.id, log.Config{})
		next := l.Positions().NextIndex
		require.GreaterOrEqual(m.t, next, floors[i], "acknowledged entries are lost")
		keep := len(ml.entries)
		for keep > 0 && ml.entries[keep-1].Index >= next {
			keep--
		}
		ml.entries = ml.entries[:keep]
		offset, _ := ml.next()
		require.Equal(m.t, offset, l.Positions().Next, "another entry stands where one was appended")
		require.Zero(m.t, l.Stats().Corrupt)
	}
	require.Zero(m.t, s.Stats().Damage)
	require.Zero(m.t, s.Stats().LostEntries)
	// Recovery is idempotent: a kill right after it changes nothing.
	m.disk = m.disk.Clone()
	require.NoError(m.t, s.Close())
	m.open()
}

// after returns what a kill or a power cut leaves of a disk.
func (m *model) after(disk *faultfs.Disk, power bool) *faultfs.Disk {
	if power {
		return disk.PowerCut(m.rng)
	}
	return disk.Clone()
}

// interrupted begins a few starts, each of which ends as the process before did.
func (m *model) interrupted(disk *faultfs.Disk, power bool) *faultfs.Disk {
	for range m.rng.IntN(3) {
		disk.CrashAt(1 + m.rng.IntN(40))
		if s, err := log.OpenStill(small(disk)); err == nil {
			m.tolerate(s.Checkpoint())
			s.Drop()
		}
		disk = m.after(disk, power && m.rng.IntN(2) == 0)
	}
	return disk
}

// eachSeed runs a model with n seeds.
func eachSeed(t *testing.T, n uint64, run func(m *model)) {
	seeds.Each(t, n, func(t *testing.T, seed uint64) {
		t.Parallel()
		m := newModel(t, seed)
		run(m)
		require.NoError(t, m.store.Close())
	})
}

func TestModelWithCleanRestarts(t *testing.T) {
	eachSeed(t, 5, func(m *model) {
		for range 4 {
			for range 150 {
				m.step()
			}
			require.NoError(t, m.store.Close())
			m.disk = m.disk.Clone()
			m.open()
		}
	})
}

func TestModelWithKills(t *testing.T) {
	eachSeed(t, 12, func(m *model) {
		for range 8 {
			for range 1 + m.rng.IntN(80) {
				m.step()
			}
			m.restart(false)
		}
	})
}

func TestModelWithPowerCuts(t *testing.T) {
	eachSeed(t, 25, func(m *model) {
		for range 8 {
			for range 1 + m.rng.IntN(80) {
				m.step()
			}
			m.restart(true)
		}
	})
}

// TestModelWithFailingCalls makes single operations of the disk fail, then kills the process or cuts the power.
func TestModelWithFailingCalls(t *testing.T) {
	eachSeed(t, 40, func(m *model) {
		m.failing = true
		for range 4 {
			nth, n := 1+m.rng.IntN(200), 0
			kind := m.rng.IntN(4)
			full, thin := kind == 0, kind == 1
			m.disk.Fail(func(op faultfs.Op, _ string) error {
				n++
				switch {
				case full && n > nth && n < nth+20 && (op == faultfs.OpAllocate || op == faultfs.OpOpen):
					return syscall.ENOSPC
				case thin && n > nth && n < nth+20 && (op == faultfs.OpSync || op == faultfs.OpStartOut):
					return syscall.ENOSPC
				case !full && !thin && n == nth:
					return faultfs.ErrInjected
				}
				return nil
			})
			for range 60 {
				m.step()
			}
			m.disk.Fail(nil)
			m.restart(m.rng.IntN(2) == 0)
		}
	})
}

func TestModelWithPowerCutsAtEveryCall(t *testing.T) {
	eachSeed(t, 80, func(m *model) {
		m.failing = true
		for range 4 {
			m.disk.CrashAt(1 + m.rng.IntN(150))
			for range 60 {
				m.step()
			}
			m.restart(true)
		}
	})
}
