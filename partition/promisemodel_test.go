package partition

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// The model of promises on a small disk. Clients send what was not answered again after a crash, as the Go client does,
// and the disk is full at times. It knows no offsets, but messages: what was answered is there once, and what was refused
// is not. Every message has a text of its own.

// sending is what a client sends at once.
type sending struct {
	texts []string
	seq   uint64 // of the first message
	due   int64
	cron  string
	at    *Partition // with index: where it is stored
	index uint64
	first uint64 // of scheduled messages: the id of the first one
}

// lane is a client that sends to one partition.
type lane struct {
	numbers, ids, later bool // what it uses: sequence numbers, message ids, a schedule
	part                int
	next                uint64     // sequence number
	open                []*sending // not answered
	last                *sending   // that was answered
}

// mostOpen is less than a partition remembers of a producer.
const mostOpen = 6

// fact is something that counts when its entry has reached the level at which it is answered.
type fact struct {
	at    *Partition
	index uint64
	done  func()
}

type promiseModel struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *faultfs.Disk
	store *log.Store
	r     *Registry
	topic *Topic
	seq   int
	lanes []*lane
	facts []fact // that were not answered

	stored    map[string]bool      // answered: they are there
	scheduled map[string]*sending  // answered: they will be there
	crons     map[string]time.Time // when recurring messages were scheduled
	refused   map[string]bool      // never there
	settled   []map[uint64]string  // by partition: offsets that were acknowledged or rejected, and how
	acks      map[string]bool      // what somebody has acknowledged, by partition and offset
	places    [][]*modelPlace      // by partition: of group "g", oldest first; the first one is durable
}

// modelPlace is the state of a group.
type modelPlace struct {
	offset uint64
	paused bool
}

func (m *promiseModel) part(n int) *Partition { return m.topic.Partition(uint16(n)) }

func (m *promiseModel) open() error {
	var err error
	m.store, err = log.Open(log.Options{
		FS: m.disk, Dir: "/data", MemoryBytes: 4 << 20, CommitFileBytes: 64 << 10, SegmentBytes: 8 << 10, Poison: true,
	})
	if err != nil {
		return err
	}
	if m.r, err = Open(m.store, true, Options{}); err != nil {
		_ = m.store.Close() // the disk may be dead
		return err
	}
	m.topic = m.r.Topic("jobs")
	return nil
}

// end ends the broker, whose disk may be dead.
func (m *promiseModel) end() {
	if m.r != nil {
		m.r.Close()
		_ = m.store.Close()
		m.r = nil
	}
}

// answered takes over what is durable.
func (m *promiseModel) answered() {
	synctest.Wait()
	durable := func(p *Partition, index uint64) bool { return p.Reached(index, wire.LevelDisk) }
	for _, l := range m.lanes {
		for len(l.open) > 0 && l.open[0].at != nil && durable(l.open[0].at, l.open[0].index) {
			l.last = l.open[0]
			l.open = l.open[1:]
			for _, text := range l.last.texts {
				if l.later {
					m.scheduled[text] = l.last
				} else {
					m.stored[text] = true
				}
			}
		}
	}
	m.facts = slices.DeleteFunc(m.facts, func(f fact) bool {
		if !f.at.Reached(f.index, f.at.StateLevel()) {
			return false
		}
		f.done()
		return true
	})
}

// crash ends the process, with a power cut or without, and starts again. The first starts may end like that, too.
func (m *promiseModel) crash(starts int) {
	m.answered()
	for ; ; starts-- {
		disk := m.disk.Clone()
		if m.rng.IntN(2) == 0 {
			disk = m.disk.PowerCut(m.rng)
		}
		m.end()
		m.disk = disk
		m.limit()
		if starts > 0 {
			m.disk.CrashAt(1 + m.rng.IntN(60))
		}
		if err := m.open(); err != nil {
			require.True(m.t, m.disk.Dead(), "%v", err)
			m.r = nil
		} else if starts <= 0 {
			break
		}
	}
	m.recall()
}

// stop ends the broker properly, also on a full disk, and starts it again.
func (m *promiseModel) stop() {
	m.answered()
	m.r.Close()
	require.NoError(m.t, m.store.Close())
	m.disk = m.disk.Clone()
	require.NoError(m.t, m.open())
	m.recall()
}

// limit chooses how much space there is.
func (m *promiseModel) limit() {
	switch m.rng.IntN(3) {
	case 0:
		m.disk.SetCapacity(m.disk.Used() + int64(m.rng.IntN(100<<10)))
	default:
		m.disk.SetCapacity(0)
	}
}

// recall looks at what a start has found. Clients send again what was not answered.
func (m *promiseModel) recall() {
	require.NotNil(m.t, m.topic)
	require.Zero(m.t, m.store.Stats().Damage)
	m.facts = nil
	for n := range m.places {
		p := m.part(n)
		c, _ := p.Committed("g")
		got := &modelPlace{c.Offset, p.Paused("g")}
		require.Contains(m.t, m.places[n], got, "%s", p)
		m.places[n] = []*modelPlace{got}
	}
	for _, l := range m.lanes {
		for _, r := range l.open {
			r.at = nil
		}
	}
	m.check()
}

// check looks at everything that is stored.
func (m *promiseModel) check() {
	m.answered()
	there := map[string]int{}
	for n := range m.settled {
		for _, text := range m.texts(n) {
			there[text]++
		}
	}
	for text, n := range there {
		if from, ok := m.crons[text]; ok {
			minutes := time.Now().Truncate(time.Minute).Sub(from.Truncate(time.Minute)) / time.Minute
			require.LessOrEqual(m.t, n, int(minutes), "%s", text)
		} else {
			require.Equal(m.t, 1, n, "%s", text)
		}
		require.False(m.t, m.refused[text], "%s was refused or cancelled", text)
	}
	for text := range m.stored {
		require.Equal(m.t, 1, there[text], "%s", text)
	}
	m.checkDead()
}

// all returns the records of a partition, also those that are not visible. A record is valid until the next one.
func (m *promiseModel) all(p *Partition) iter.Seq[wire.Record] {
	return func(yield func(wire.Record) bool) {
		for offset, next := uint64(0), p.Next(); offset < next; {
			var c log.Chunk
			require.NoError(m.t, p.log.ReadCold(&c, offset, next, 1<<20))
			walkRecords(&c, func(r *wire.Record) { yield(*r) })
			offset = c.Next
			c.Release()
		}
	}
}

// texts returns what is in a partition.
func (m *promiseModel) texts(n int) (list []string) {
	for r := range m.all(m.part(n)) {
		list = append(list, string(r.Value))
	}
	return list
}

// checkDead looks at the dead letters.
func (m *promiseModel) checkDead() {
	dead := m.dead()
	for n, settled := range m.settled {
		for offset, how := range settled {
			if how == "ack" {
				require.Empty(m.t, dead[fmt.Sprint(n, "@", offset)], "%s@%d is acknowledged and dead", m.part(n), offset)
			}
		}
	}
}

// dead returns the dead letters by where they come from.
func (m *promiseModel) dead() map[string]string {
	found := map[string]string{}
	t := m.r.Topic("dead")
	if t == nil {
		return found
	}
	for _, p := range t.Partitions() {
		for r := range m.all(p) {
			part, _ := r.Headers.Get(wire.HeaderDeadPartition)
			offset, _ := r.Headers.Get(wire.HeaderDeadOffset)
			from := string(part) + "@" + string(offset)
			require.Empty(m.t, found[from], "%s is buried twice", from)
			found[from] = string(r.Value)
		}
	}
	return found
}

// drain has everything happen that was promised.
func (m *promiseModel) drain() {
	m.crash(0)
	m.disk.SetCapacity(0)
	time.Sleep(6 * time.Second)
	if t := m.r.Topic("dead"); t != nil {
		_, err := m.r.Alter("dead", 0, pairs("cleanup", "delete"))
		require.NoError(m.t, err)
	}
	for _, l := range m.lanes {
		require.True(m.t, m.sendOpen(l))
	}
	m.answered()
	for _, l := range m.lanes {
		require.Empty(m.t, l.open)
	}
	for _, p := range m.topic.Partitions() {
		_, err := p.OpenQueue("w", 0, modelPolicy, time.Now())
		require.NoError(m.t, err)
	}
	time.Sleep(2 * time.Minute)
	m.check()
	there := [][]string{m.texts(0), m.texts(1)}
	for range 200 {
		time.Sleep(time.Second)
		for n := range m.settled {
			m.work(n)
		}
	}
	dead := m.dead()
	for n, settled := range m.settled {
		for offset, text := range there[n] {
			from := fmt.Sprint(n, "@", offset)
			require.True(m.t, m.acks[from] || dead[from] == text, "%s is %s, dead %q", from, settled[uint64(offset)], dead[from])
			delete(m.scheduled, text)
		}
	}
	for text, r := range m.scheduled {
		require.True(m.t, m.refused[text], "%s is not published, due %d, now %d", text, r.due, time.Now().UnixMilli())
	}
}

func runPromiseModel(t *testing.T, seed uint64) {
	m := &promiseModel{
		t: t, rng: rand.New(rand.NewPCG(seed, 31)), disk: faultfs.New(), stored: map[string]bool{},
		scheduled: map[string]*sending{}, crons: map[string]time.Time{}, refused: map[string]bool{},
		acks: map[string]bool{},
	}
	require.NoError(t, m.open())
	defer m.end()
	var err error
	m.topic, err = m.r.Create("jobs", 2, pairs("dedupe_window", "24h"))
	require.NoError(t, err)
	for n := range 2 {
		for _, l := range []lane{{numbers: true}, {ids: true}, {numbers: true, ids: true}, {numbers: true, later: true}, {later: true, ids: true, numbers: true}} {
			l.part = n
			m.lanes = append(m.lanes, &l)
		}
		m.settled, m.places = append(m.settled, map[uint64]string{}), append(m.places, []*modelPlace{{}})
	}
	for range 6 {
		m.limit()
		if m.rng.IntN(2) == 0 {
			m.disk.CrashAt(1 + m.rng.IntN(300))
		}
		for range 1 + m.rng.IntN(80) {
			if m.step(); m.disk.Dead() {
				break
			}
		}
		if !m.disk.Dead() && m.rng.IntN(4) == 0 {
			m.disk.CrashAt(1 << 30) // never
			m.stop()
		} else {
			m.crash(m.rng.IntN(3))
		}
	}
	m.drain()
	m.end()
	report, err := log.VerifyFS(m.disk, "/data")
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Damage)
}

func TestModelOfPromisesOnASmallDisk(t *testing.T) {
	seeds.Each(t, 4, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { runPromiseModel(t, seed) })
	})
}

// text returns a new text.
func (m *promiseModel) text() string {
	m.seq++
	return fmt.Sprintf("m%d %s", m.seq, strings.Repeat("x", m.rng.IntN(1+m.rng.IntN(3000))))
}
