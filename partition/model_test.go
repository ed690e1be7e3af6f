package partition

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/internal/seeds"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// The model of a partition: what was appended, one effect an entry, and what the effects come to. A restart
// loses the effects whose entries are gone, and everything that is in no entry. Time is simulated. What the
// test does happens at full tenths of a second, and leases end between them, so that it is known what the
// timer has done.

const (
	modelTick = 100 * time.Millisecond
	modelHalf = modelTick / 2
	modelMost = 3 // deliveries
)

// job is what the model knows of a record.
type job struct {
	value, key      string
	done, dead      bool
	fails, attempts uint32
	due             time.Time
	leased          bool
	owner           uint64
	deadline        time.Time
}

// facts are what a partition must say.
type facts struct {
	jobs      []job
	queue     bool // there is one
	queueFrom uint64
	paused    bool
	committed map[string]uint64
	sequence  uint64 // next of the producer
	lastBase  uint64 // of its last batch
	lastSize  uint64
}

// effect is what an entry, or several of which nobody knows the borders, did. The first entry has index after+1.
type effect struct {
	after, last uint64
	apply       func(f *facts)
}

type partitionModel struct {
	t       *testing.T
	rng     *rand.Rand
	disk    *faultfs.Disk
	level   string
	ordered bool
	store   *log.Store
	r       *Registry
	p       *Partition
	effects []effect
	facts   facts
	fence   uint32          // of group g, 0 for none
	first   uint64          // purged below
	purging uint64          // what a purge that failed may have reached
	died    map[string]bool // values that were dead once
	dropped bool            // a queue was: the next one may bury the same messages
	seq     int
}

func newFacts() facts { return facts{committed: map[string]uint64{}} }

func (m *partitionModel) open() {
	var err error
	m.store, err = log.Open(log.Options{FS: m.disk, Dir: "/data", MemoryBytes: 4 << 20, CommitFileBytes: 64 << 10, SegmentBytes: 8 << 10, Poison: true})
	require.NoError(m.t, err)
	m.r, err = Open(m.store, true, Options{})
	require.NoError(m.t, err)
	m.align()
}

// close ends what runs, so that a seed that fails ends, too.
func (m *partitionModel) close() {
	if m.r == nil {
		return
	}
	m.r.Close()
	if err := m.store.Close(); !m.t.Failed() {
		require.NoError(m.t, err)
	}
}

// align waits for the next tenth of a second.
func (m *partitionModel) align() {
	time.Sleep(modelTick - time.Duration(time.Now().UnixNano())%modelTick)
	synctest.Wait()
}

func (m *partitionModel) index() uint64 { return m.p.log.Positions().NextIndex - 1 }

// note adds what the entry behind index after did.
func (m *partitionModel) note(after uint64, apply func(f *facts)) { m.noteUpTo(after, after+1, apply) }

func (m *partitionModel) noteUpTo(after, last uint64, apply func(f *facts)) {
	m.effects = append(m.effects, effect{after, last, apply})
	apply(&m.facts)
	for i := range m.facts.jobs {
		if j := &m.facts.jobs[i]; j.dead {
			m.died[j.value] = true
		}
	}
	synctest.Wait()
}

// refused reports whether an operation failed because the disk did. Any other error is a fault.
func (m *partitionModel) refused(err error) bool {
	if err != nil && !m.disk.Dead() {
		require.NoError(m.t, err)
	}
	return err != nil
}

func (m *partitionModel) flush() {
	m.p.Flush(m.p.topic.Config().Level)
	synctest.Wait()
}

func (m *partitionModel) batch(n int, pr wire.Producer) (*wire.Batch, []job) {
	var b wire.BatchBuilder
	var jobs []job
	for range n {
		m.seq++
		j := job{value: fmt.Sprint("v", m.seq)}
		r := wire.Record{Value: []byte(j.value)}
		if k := m.rng.IntN(5); k > 0 {
			j.key = fmt.Sprint("k", k)
			r.Key = []byte(j.key)
		}
		b.Add(r)
		jobs = append(jobs, j)
	}
	if pr.ID != 0 {
		b.SetProducer(pr)
	}
	batch, err := wire.ParseBatch(b.Bytes())
	require.NoError(m.t, err)
	return &batch, jobs
}

func (m *partitionModel) publish() {
	pr := wire.Producer{}
	if m.rng.IntN(2) == 0 {
		pr = wire.Producer{ID: 9, Sequence: m.facts.sequence}
	}
	b, jobs := m.batch(1+m.rng.IntN(6), pr)
	after := m.index()
	base, _, duplicate, err := m.p.Publish(b, time.Now().UnixMilli())
	if m.refused(err) {
		return
	}
	require.False(m.t, duplicate)
	require.Equal(m.t, uint64(len(m.facts.jobs)), base)
	m.note(after, func(f *facts) {
		f.jobs = append(f.jobs, jobs...)
		if pr.ID != 0 {
			f.sequence, f.lastBase, f.lastSize = pr.Sequence+uint64(len(jobs)), base, uint64(len(jobs))
		}
	})
	if m.rng.IntN(4) > 0 {
		m.flush()
	}
}

// again sends the producer's last batch again, or one that leaves a gap.
func (m *partitionModel) again() {
	if m.facts.lastSize == 0 {
		return
	}
	b, _ := m.batch(int(m.facts.lastSize), wire.Producer{ID: 9, Sequence: m.facts.sequence - m.facts.lastSize})
	base, _, duplicate, err := m.p.Publish(b, time.Now().UnixMilli())
	if m.refused(err) {
		return
	}
	require.True(m.t, duplicate)
	require.Equal(m.t, m.facts.lastBase, base)
	b, _ = m.batch(1, wire.Producer{ID: 9, Sequence: m.facts.sequence + 1})
	_, _, _, err = m.p.Publish(b, time.Now().UnixMilli())
	code(m.t, wire.CodeOutOfSequence, err)
}

func (m *partitionModel) openQueue() {
	if m.facts.queue {
		return
	}
	from, after := uint64(m.rng.IntN(int(m.p.Visible())+1)), m.index()
	_, err := m.p.OpenQueue("work", from, QueuePolicy{
		Lease: 10*modelTick - modelHalf, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond, MaxDeliveries: modelMost, OrderByKey: m.ordered,
	}, time.Now())
	if m.refused(err) {
		return
	}
	m.note(after, func(f *facts) {
		f.queue, f.queueFrom = true, from
		for i := range f.jobs {
			f.jobs[i] = job{value: f.jobs[i].value, key: f.jobs[i].key}
		}
	})
}

// drop forgets the queue.
func (m *partitionModel) drop() {
	after := m.index()
	index, known, err := m.p.DropGroup("work", time.Now())
	if m.refused(err) {
		return
	}
	require.Equal(m.t, m.facts.queue || m.facts.paused, known)
	require.Equal(m.t, known, index > after)
	if known {
		m.dropped = true
		m.note(after, func(f *facts) { f.queue, f.paused = false, false })
	}
}

func (m *partitionModel) pause() {
	pause, after := m.rng.IntN(3) == 0, m.index()
	index, err := m.p.Pause("work", pause, time.Now())
	if m.refused(err) {
		return
	}
	require.Equal(m.t, m.facts.paused != pause, index > after)
	if index > after {
		m.note(after, func(f *facts) { f.paused = pause })
	}
}

// blocked reports whether an earlier message of the key is neither done nor dead.
func (m *partitionModel) blocked(offset uint64) bool {
	key := m.facts.jobs[offset].key
	if !m.ordered || key == "" {
		return false
	}
	for before := m.begin(); before < offset; before++ {
		if j := &m.facts.jobs[before]; j.key == key && !j.done && !j.dead {
			return true
		}
	}
	return false
}

// begin is the first offset that the queue may deliver.
func (m *partitionModel) begin() uint64 { return max(m.facts.queueFrom, m.p.First()) }

// expectLease says what a lease has to bring.
func (m *partitionModel) expectLease(limit int, d time.Duration, owner uint64) map[uint64]uint32 {
	want := map[uint64]uint32{}
	if m.facts.paused {
		return want
	}
	for offset := m.begin(); offset < m.p.Visible() && len(want) < limit; offset++ {
		j := &m.facts.jobs[offset]
		if j.done || j.dead || j.leased || j.due.After(time.Now()) || m.blocked(offset) {
			continue
		}
		j.leased, j.owner, j.deadline = true, owner, time.Now().Add(d)
		j.attempts++
		want[offset] = j.attempts
	}
	return want
}

func (m *partitionModel) lease() {
	limit, owner := 1+m.rng.IntN(8), uint64(1+m.rng.IntN(3))
	d := time.Duration(1+m.rng.IntN(12))*modelTick - modelHalf
	if !m.facts.queue {
		_, err := m.p.Lease(nil, "work", limit, d, owner, time.Now())
		code(m.t, wire.CodeGroupNotFound, err)
		return
	}
	want := m.expectLease(limit, d, owner)
	got := map[uint64]uint32{}
	for range 100 {
		list, err := m.p.Lease(nil, "work", limit-len(got), d, owner, time.Now())
		if errors.Is(err, ErrKeys) {
			require.NoError(m.t, m.p.LearnKeys("work"))
			continue
		}
		require.NoError(m.t, err)
		for _, l := range list {
			for i := range uint64(l.Count) {
				require.NotContains(m.t, got, l.First+i)
				got[l.First+i] = l.Attempt
			}
		}
		if len(list) == 0 || len(got) == limit {
			break
		}
	}
	require.Equal(m.t, want, got)
	synctest.Wait()
}

// some chooses messages, most of them leased, and says which are held under their attempt.
func (m *partitionModel) some() (ranges []group.Settle, held []uint64, lost int) {
	chosen := map[uint64]bool{}
	for range 1 + m.rng.IntN(5) {
		if len(m.facts.jobs) == 0 {
			break
		}
		offset := uint64(m.rng.IntN(len(m.facts.jobs)))
		for range 20 {
			if m.facts.jobs[offset].leased || m.rng.IntN(20) == 0 {
				break
			}
			offset = uint64(m.rng.IntN(len(m.facts.jobs)))
		}
		if chosen[offset] {
			continue
		}
		chosen[offset] = true
		j := &m.facts.jobs[offset]
		attempt := j.attempts
		if m.rng.IntN(10) == 0 {
			attempt++
		}
		ranges = append(ranges, group.Settle{First: offset, Count: 1, Attempt: attempt})
		if j.leased && attempt == j.attempts && offset >= m.begin() {
			held = append(held, offset)
		} else {
			lost++
		}
	}
	return ranges, held, lost
}

// failed is what a failure under an attempt does to a message.
func (j *job) failed(attempt uint32, due time.Time, dead bool) {
	j.fails, j.due, j.dead = attempt, due, dead || attempt >= modelMost
	j.attempts, j.leased = attempt, false
}

func (m *partitionModel) settle() {
	ranges, held, lost := m.some()
	if !m.facts.queue || len(ranges) == 0 {
		return
	}
	s := Settlement{Op: wire.OpAck, Ranges: ranges, Reason: "why"}
	now, after := time.Now(), m.index()
	attempts := map[uint64]uint32{}
	for _, offset := range held {
		attempts[offset] = m.facts.jobs[offset].attempts
	}
	each := func(do func(j *job, attempt uint32)) func(f *facts) {
		return func(f *facts) {
			for _, offset := range held {
				do(&f.jobs[offset], attempts[offset])
			}
		}
	}
	apply := each(func(j *job, _ uint32) { j.done, j.leased = true, false })
	switch n := m.rng.IntN(10); {
	case n < 5:
	case n < 7:
		s.Op, s.Delay = wire.OpNack, time.Duration(1+m.rng.IntN(4))*modelTick-modelHalf
		due := now.Add(s.Delay)
		apply = each(func(j *job, attempt uint32) { j.failed(attempt, due, false) })
	case n < 8:
		s.Op = wire.OpReject
		apply = each(func(j *job, attempt uint32) { j.failed(attempt, now, true) })
	default:
		s.Op, s.Delay = wire.OpExtend, time.Duration(1+m.rng.IntN(9))*modelTick-modelHalf
		for _, offset := range held {
			m.facts.jobs[offset].deadline = now.Add(s.Delay)
		}
		_, got, err := m.p.Settle("work", s, now)
		require.NoError(m.t, err)
		require.Equal(m.t, lost, got)
		return
	}
	index, got, err := m.p.Settle("work", s, now)
	if m.refused(err) {
		return
	}
	require.Equal(m.t, lost, got)
	require.Equal(m.t, len(held) > 0, index != 0)
	if index != 0 {
		m.note(after, apply)
		if m.rng.IntN(2) == 0 {
			m.flush()
		}
	}
}

// leave is what a broken connection does: what was delivered for the last time dies, the rest comes again.
func (m *partitionModel) leave() {
	owner := uint64(1 + m.rng.IntN(3))
	for i := range m.facts.jobs {
		j := &m.facts.jobs[i]
		switch {
		case !j.leased || j.owner != owner:
		case j.attempts >= modelMost:
			j.deadline, j.owner = time.Now(), 0
		default:
			j.leased = false
		}
	}
	m.p.ReturnLeases("work", owner, time.Now())
	synctest.Wait()
}

// pass lets a tenth of a second pass. Leases that end within fail.
func (m *partitionModel) pass() { m.passSince(m.index()) }

func (m *partitionModel) passSince(after uint64) {
	m.align()
	now, last := time.Now(), m.index()
	attempts := map[uint64]uint32{}
	for offset := m.begin(); m.facts.queue && offset < uint64(len(m.facts.jobs)); offset++ {
		if j := &m.facts.jobs[offset]; j.leased && j.deadline.Before(now) {
			attempts[offset] = j.attempts
		}
	}
	if len(attempts) == 0 || m.disk.Dead() && last == after {
		return
	}
	require.Greater(m.t, last, after, "no lease ended: %v", attempts)
	m.noteUpTo(after, last, func(f *facts) {
		for offset, attempt := range attempts {
			f.jobs[offset].failed(attempt, now, false)
		}
	})
}

func (m *partitionModel) commit() {
	visible := m.p.Visible()
	offset, generation, after := uint64(m.rng.IntN(int(visible)+3)), uint32(m.rng.IntN(3)), m.index()
	_, err := m.p.Commit("g", offset, generation, time.Now())
	switch {
	case offset > visible:
		code(m.t, wire.CodeOffsetOutOfRange, err)
	case generation != m.fence:
		code(m.t, wire.CodeFenced, err)
	case generation != 0 && offset < m.facts.committed["g"]: // it came late
		require.NoError(m.t, err)
	case !m.refused(err):
		m.note(after, func(f *facts) { f.committed["g"] = offset })
	}
}

func (m *partitionModel) seek() {
	offset, after := uint64(m.rng.IntN(int(m.p.Visible())+1)), m.index()
	if _, err := m.p.Seek("g", offset, time.Now()); !m.refused(err) {
		m.note(after, func(f *facts) { f.committed["g"] = offset })
	}
}

// own gives the partition to a member of group g, or says that there is none.
func (m *partitionModel) own() {
	if m.fence = uint32(m.rng.IntN(3)); m.fence == 0 {
		m.p.LiftFence("g")
		return
	}
	m.p.SetFence("g", m.fence)
}

func (m *partitionModel) purge() {
	after := m.index()
	before := min(m.p.First()+uint64(m.rng.IntN(6)), m.p.Visible())
	if err := m.r.Purge("jobs", 0, before); m.refused(err) {
		m.purging = max(m.purging, before)
	} else {
		m.first = max(m.first, before)
		require.Equal(m.t, m.first, m.p.First())
	}
	m.passSince(after) // it waits for the disk
}

func (m *partitionModel) step() {
	switch n := m.rng.IntN(100); {
	case n < 18:
		m.publish()
	case n < 22:
		m.again()
	case n < 45:
		m.lease()
	case n < 68:
		m.settle()
	case n < 74:
		m.leave()
	case n < 86:
		m.pass()
	case n < 88:
		m.flush()
	case n < 91:
		m.commit()
	case n < 92:
		m.seek()
	case n < 93:
		m.own()
	case n < 95:
		m.pause()
	case n < 96:
		if m.rng.IntN(3) == 0 {
			m.drop()
		}
	case n < 97:
		m.purge()
	default:
		m.openQueue()
	}
}

// check compares all that the partition says.
func (m *partitionModel) check() {
	require.Equal(m.t, uint64(len(m.facts.jobs)), m.p.Next())
	c, ok := m.p.Committed("g")
	want, known := m.facts.committed["g"]
	require.Equal(m.t, known, ok)
	require.Equal(m.t, want, c.Offset)
	require.Equal(m.t, m.facts.paused, m.p.Paused("work"))
	require.Equal(m.t, m.facts.queue, m.p.HasQueue("work"))
	if !m.facts.queue {
		return
	}
	got := m.pending()
	for offset := m.begin(); offset < m.p.Visible(); offset++ {
		j, p := &m.facts.jobs[offset], got[offset]
		switch {
		case p == nil:
			require.True(m.t, j.done || j.dead, "%d is gone", offset)
			continue
		case p.Phase == group.PhaseDead:
			require.True(m.t, j.dead, "%d is dead", offset)
		default:
			require.False(m.t, j.done || j.dead, "%d is done, and here again", offset)
			require.Equal(m.t, j.leased, p.Phase == group.PhaseLeased, "lease of %d", offset)
		}
		require.Equal(m.t, j.attempts, p.Attempts, "attempts of %d", offset)
	}
}

// pending returns what is not done of the queue.
func (m *partitionModel) pending() map[uint64]*group.Pending {
	list, err := m.p.Pending(nil, "work", 0, 1<<20)
	require.NoError(m.t, err)
	got := map[uint64]*group.Pending{}
	for i := range list {
		for k := range list[i].Count {
			got[list[i].First+k] = &list[i]
		}
	}
	return got
}

// crash ends the process, and the power with it or not. What was promised must be there.
func (m *partitionModel) crash(power bool) {
	promised, disk := m.p.log.Positions().WrittenIndex, m.disk.Clone
	if power {
		promised, disk = m.p.log.Positions().DurableIndex, func() *faultfs.Disk { return m.disk.PowerCut(m.rng) }
	}
	after := disk()
	m.r.Close()
	m.r = nil
	_ = m.store.Close() // on a disk that nobody looks at any more
	m.disk = after
	m.start(promised)
}

// stop ends the broker and starts it again. Nothing may be missing.
func (m *partitionModel) stop() {
	m.r.Close()
	m.r = nil
	promised := m.index() + 1
	require.NoError(m.t, m.store.Close())
	m.disk = m.disk.Clone()
	m.start(promised)
}

func (m *partitionModel) start(promised uint64) {
	next := m.found()
	require.GreaterOrEqual(m.t, next, promised)
	m.recall(next)
	m.open()
	m.p = m.r.Topic("jobs").Partition(0)
	require.Equal(m.t, uint64(len(m.facts.jobs)), m.p.Next(), "not all of what was appended, or other records")
	require.GreaterOrEqual(m.t, m.p.First(), m.first)
	require.LessOrEqual(m.t, m.p.First(), max(m.first, m.purging))
	m.first, m.purging, m.fence = m.p.First(), 0, 0
	m.adopt(next)
	m.check()
	m.stored()
}

// found returns the next index of the partition after a restart, before anything is added. It looks at a copy.
func (m *partitionModel) found() uint64 {
	s, err := log.Open(log.Options{FS: m.disk.Clone(), Dir: "/data", MemoryBytes: 4 << 20})
	require.NoError(m.t, err)
	l, err := s.OpenLog(m.p.Identity(), log.Config{})
	require.NoError(m.t, err)
	require.Zero(m.t, s.Stats().Damage)
	require.NoError(m.t, s.Close())
	return l.Positions().NextIndex
}

// recall makes the facts again from the effects whose entries are there. Leases are forgotten.
func (m *partitionModel) recall(next uint64) {
	m.facts = newFacts()
	kept := m.effects[:0]
	for _, e := range m.effects {
		if e.after+1 < next {
			e.apply(&m.facts)
			kept = append(kept, e)
		}
	}
	m.effects = kept
	for i := range m.facts.jobs {
		j := &m.facts.jobs[i]
		j.leased, j.attempts = false, j.fails
	}
}

// adopt takes over how messages failed when only a part of the last effect's entries are there.
func (m *partitionModel) adopt(next uint64) {
	if len(m.effects) == 0 || m.effects[len(m.effects)-1].last < next {
		return
	}
	e := &m.effects[len(m.effects)-1]
	got := m.pending()
	before := e.apply
	e.last, e.apply = next-1, func(f *facts) {
		before(f)
		for offset, p := range got {
			j := &f.jobs[offset]
			j.attempts, j.fails, j.due, j.dead = p.Attempts, p.Attempts, p.Due, p.Phase == group.PhaseDead
		}
	}
	e.apply(&m.facts)
}

// stored compares the records.
func (m *partitionModel) stored() {
	var want []string
	for _, j := range m.facts.jobs[m.p.First():m.p.Visible()] {
		want = append(want, j.value)
	}
	require.Equal(m.t, want, values(m.t, m.p, m.p.First()))
}

// drain works until everything is done, and looks at the dead letters.
func (m *partitionModel) drain() {
	m.flush()
	m.pass()
	require.Equal(m.t, m.p.Next(), m.p.Visible())
	if !m.facts.queue {
		return
	}
	if m.facts.paused {
		_, err := m.p.Pause("work", false, time.Now())
		require.NoError(m.t, err)
		m.facts.paused = false
	}
	for n := 0; !m.finished(); n++ {
		require.Less(m.t, n, 400, "the queue is never done")
		m.lease()
		m.ackAll()
		m.pass()
	}
	m.check()
	m.deadLetters()
}

func (m *partitionModel) finished() bool {
	for offset := m.begin(); offset < m.p.Next(); offset++ {
		if j := &m.facts.jobs[offset]; !j.done && !j.dead {
			return false
		}
	}
	return true
}

func (m *partitionModel) ackAll() {
	after := m.index()
	var ranges []group.Settle
	for offset := m.begin(); offset < m.p.Next(); offset++ {
		if j := &m.facts.jobs[offset]; j.leased {
			ranges = append(ranges, group.Settle{First: offset, Count: 1, Attempt: j.attempts})
		}
	}
	if len(ranges) == 0 {
		return
	}
	_, lost, err := m.p.Settle("work", Settlement{Op: wire.OpAck, Ranges: ranges}, time.Now())
	require.NoError(m.t, err)
	require.Zero(m.t, lost)
	m.note(after, func(f *facts) {
		for _, r := range ranges {
			f.jobs[r.First].done, f.jobs[r.First].leased = true, false
		}
	})
}

// deadLetters looks at what was buried: all that is dead, once, and nothing else.
func (m *partitionModel) deadLetters() {
	for range 2 * int(burialRetry/modelTick) {
		m.pass()
	}
	require.Empty(m.t, m.pending())
	buried := map[string]int{}
	if t := m.r.Topic(DeadLetterTopic("jobs", "work")); t != nil {
		for _, r := range records(m.t, t.Partition(0), 0) {
			buried[string(r.Value)]++
			require.True(m.t, m.died[string(r.Value)], "%s never died", r.Value)
		}
	}
	for offset := m.begin(); offset < m.p.Next(); offset++ {
		j := &m.facts.jobs[offset]
		if j.dead {
			require.Positive(m.t, buried[j.value], "%s is dead and not buried", j.value)
		}
		if !m.dropped {
			require.LessOrEqual(m.t, buried[j.value], 1)
		}
	}
}

func runPartitionModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	m := &partitionModel{
		t: t, rng: rng, disk: faultfs.New(), facts: newFacts(), died: map[string]bool{},
		level: []string{"memory", "os", "disk"}[rng.IntN(3)], ordered: rng.IntN(2) == 0,
	}
	m.open()
	defer m.close()
	topic, err := m.r.Create("jobs", 1, pairs("durability", m.level))
	require.NoError(t, err)
	m.p = topic.Partition(0)
	m.align()
	m.openQueue()
	crashes := rng.IntN(3)
	for range 5 {
		if crashes == 2 {
			m.disk.CrashAt(1 + rng.IntN(300))
		}
		for range 1 + rng.IntN(120) {
			m.step()
			if m.disk.Dead() {
				break
			}
			m.check()
		}
		switch {
		case m.disk.Dead():
			m.crash(true)
		case crashes == 0 || rng.IntN(4) == 0:
			m.disk.CrashAt(1 << 30) // never
			m.stop()
		default:
			m.crash(rng.IntN(2) == 0)
		}
	}
	m.drain()
}

func TestModelOfAPartition(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { runPartitionModel(t, seed) })
	})
}
