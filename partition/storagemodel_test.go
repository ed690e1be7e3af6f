package partition

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// The model of several topics on a disk that fails. It knows what each call has appended, and at which index. A restart
// keeps the entries of a log up to some index, which is not below what was answered as durable; so the model is what
// those entries come to. What a call that failed may have done is among the outcomes that the next start may find. Time
// is simulated, and the test moves the wall clock beside it.

// modelShape is how many partitions a topic has, and its settings.
type modelShape struct {
	parts    int
	settings string
}

func shapeOf(parts int, c *Config) modelShape { return modelShape{parts, fmt.Sprint(c.settings())} }

// modelTopic is a topic from its creation to its deletion.
type modelTopic struct {
	id      [16]byte // zero if its creation failed: nobody knows
	topic   *Topic
	shapes  []modelShape    // a start may find any of them
	limits  []log.Retention // that were ever set, or may have been
	compact bool            // it was, or may have been
	parts   []*modelPart
}

// modelName is a name that topics have had.
type modelName struct {
	name string
	here *modelTopic   // nil: there is none
	may  []*modelTopic // what a start may find; nil is no topic
}

type storageModel struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *faultfs.Disk
	store *log.Store
	r     *Registry
	names []*modelName
	seq   int
	ahead atomic.Int64 // of the wall clock, in ns
	most  time.Time    // the wall clock has shown
	hurt  atomic.Bool  // a call of the disk has failed since the start

	fails, failsReads func(op faultfs.Op, name string) error // which calls fail
}

func (m *storageModel) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

// open starts a broker.
func (m *storageModel) open() (err error) {
	m.store, err = log.Open(log.Options{
		FS: m.disk, Dir: "/data", MemoryBytes: 4 << 20, CommitFileBytes: 64 << 10, SegmentBytes: 8 << 10,
		Poison: true, Now: m.now,
	})
	if err != nil {
		return err
	}
	if m.r, err = Open(m.store, true, Options{Now: m.now}); err != nil {
		_ = m.store.Close() // a disk may be dead
	}
	return err
}

// end closes the broker, whose disk is of no interest any more.
func (m *storageModel) end() error {
	if m.r == nil {
		return nil
	}
	m.r.Close()
	m.r = nil
	return m.store.Close()
}

// failCalls makes some of the next calls fail.
func (m *storageModel) failCalls() {
	kinds := [][]faultfs.Op{
		nil,
		{faultfs.OpSync, faultfs.OpWriteOut, faultfs.OpStartOut},
		{faultfs.OpRename},
		{faultfs.OpSyncDir},
		{faultfs.OpWrite},
		{faultfs.OpOpen, faultfs.OpAllocate},
		{faultfs.OpRemove},
	}
	ops := kinds[m.rng.IntN(len(kinds))]
	why := []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}[m.rng.IntN(3)]
	first, n, seen := m.rng.IntN(60), 1+m.rng.IntN(1+m.rng.IntN(20)), 0
	fail := func(op faultfs.Op, _ string) error {
		hit := ops == nil
		for _, o := range ops {
			hit = hit || o == op
		}
		if !hit {
			return nil
		}
		if seen++; seen <= first || seen > first+n {
			return nil
		}
		m.hurt.Store(true)
		return why
	}
	m.fails = fail
	if ops == nil || ops[0] == faultfs.OpOpen {
		m.failsReads = fail
	}
	m.disk.Fail(m.fails)
	m.disk.FailReads(m.failsReads)
}

func (m *storageModel) heal() {
	m.fails, m.failsReads = nil, nil
	m.disk.Fail(nil)
	m.disk.FailReads(nil)
}

// tolerate reports whether an operation succeeded. It may fail only because the disk did.
func (m *storageModel) tolerate(err error) bool {
	if err != nil && !m.hurt.Load() && !m.disk.Dead() {
		require.NoError(m.t, err)
	}
	return err == nil
}

// after returns what a kill or a power cut leaves of the disk.
func (m *storageModel) after(power bool) *faultfs.Disk {
	if power {
		return m.disk.PowerCut(m.rng)
	}
	return m.disk.Clone()
}

// floors returns what was promised.
func (m *storageModel) floors(promised func(log.Positions) uint64) map[*modelPart]extent {
	floors := map[*modelPart]extent{}
	for _, n := range m.names {
		for _, t := range n.may {
			if t == nil {
				continue
			}
			for _, p := range t.parts {
				f := extent{main: promised(p.p.log.Positions())}
				if s := p.p.schedule.Load(); s != nil {
					f.later = promised(s.store.log.Positions())
				}
				floors[p] = f
			}
		}
	}
	return floors
}

// crash ends the process, with a power cut or without, and starts again. The first starts may end like that, too.
func (m *storageModel) crash(cuts ...bool) {
	synctest.Wait()
	m.observe()
	promised := func(p log.Positions) uint64 { return p.WrittenIndex }
	for _, cut := range cuts {
		if cut {
			promised = func(p log.Positions) uint64 { return p.DurableIndex }
		}
	}
	floors := m.floors(promised)
	disk := m.after(cuts[0])
	_ = m.end() // on a disk that nobody looks at any more
	m.disk = disk
	m.start(floors, cuts[1:])
}

// stop ends the broker and starts it again. Nothing is lost, unless the disk had failed.
func (m *storageModel) stop() {
	m.disk.CrashAt(1 << 30) // never
	synctest.Wait()
	m.observe()
	hurt := m.hurt.Load()
	all := m.floors(func(p log.Positions) uint64 { return p.NextIndex })
	written := m.floors(func(p log.Positions) uint64 { return p.WrittenIndex })
	if err := m.end(); err != nil {
		require.True(m.t, hurt, "%v", err)
		all = written
	}
	if hurt {
		all = written
	}
	m.disk = m.disk.Clone()
	m.start(all, nil)
}

// start starts the broker. The first len(cuts) starts are interrupted, by a power cut where cuts says so. If one of
// them is over before its interruption, the broker is interrupted later.
func (m *storageModel) start(floors map[*modelPart]extent, cuts []bool) {
	for i := 0; ; i++ {
		m.survey()
		m.hurt.Store(false)
		if i < len(cuts) {
			m.disk.CrashAt(1 + m.rng.IntN(60))
		} else if len(cuts) > 0 && m.rng.IntN(4) == 0 {
			m.failCalls()
		}
		err := m.open()
		m.heal()
		if err == nil {
			break
		}
		if !m.hurt.Load() {
			require.True(m.t, i < len(cuts), "%v", err)
			require.True(m.t, m.disk.Dead(), "%v", err)
			m.disk = m.after(cuts[i])
		} else {
			cuts = nil
			m.disk = m.disk.Clone()
		}
		m.r = nil
	}
	if m.hurt.Load() {
		time.Sleep(2*loadRetry + time.Second) // what could not be read is read then
	}
	m.recall(floors)
	synctest.Wait()
	m.observe()
	m.check()
}

// survey notes what a start finds of each log. A later start may find less.
func (m *storageModel) survey() {
	s, err := log.Open(log.Options{FS: m.disk.Clone(), Dir: "/data", MemoryBytes: 4 << 20})
	require.NoError(m.t, err)
	require.Zero(m.t, s.Stats().Damage)
	require.Zero(m.t, s.Stats().LostEntries)
	found := map[wire.Identity]uint64{}
	for _, id := range s.Logs() {
		l, err := s.OpenLog(id, log.Config{})
		require.NoError(m.t, err)
		found[id] = l.Positions().NextIndex
	}
	require.NoError(m.t, s.Close())
	for _, n := range m.names {
		for _, t := range n.may {
			if t == nil {
				continue
			}
			for _, p := range t.parts {
				p.kept.main = min(p.kept.main, max(1, found[p.p.id]))
				p.kept.later = min(p.kept.later, max(1, found[companionID(p.p.id)]))
			}
		}
	}
}

func newStorageModel(t *testing.T, seed uint64) *storageModel {
	m := &storageModel{t: t, rng: rand.New(rand.NewPCG(seed, 12)), disk: faultfs.New()}
	for _, name := range []string{"a", "b", "c"} {
		m.names = append(m.names, &modelName{name: name, may: []*modelTopic{nil}})
	}
	require.NoError(t, m.open())
	return m
}

func runStorageModel(t *testing.T, seed uint64) {
	m := newStorageModel(t, seed)
	defer func() { _ = m.end() }()
	for range 6 {
		switch m.rng.IntN(4) {
		case 0:
			m.disk.CrashAt(1 + m.rng.IntN(300))
		case 1, 2:
			m.failCalls()
		}
		for range 1 + m.rng.IntN(80) {
			m.step()
			synctest.Wait()
			m.observe()
			if m.disk.Dead() {
				break
			}
		}
		m.heal()
		if !m.disk.Dead() && m.rng.IntN(4) == 0 {
			m.stop()
			continue
		}
		cuts := []bool{m.rng.IntN(2) == 0, m.rng.IntN(2) == 0, m.rng.IntN(2) == 0}
		m.crash(cuts[:1+m.rng.IntN(3)]...)
	}
	m.drain()
}

func TestModelOfTopicsOnAFailingDisk(t *testing.T) {
	seeds.Each(t, 4, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { runStorageModel(t, seed) })
	})
}
