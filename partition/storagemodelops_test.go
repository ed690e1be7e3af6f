package partition

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// modelRecord is a record that was appended.
type modelRecord struct {
	key, value string
	deletes    bool // it has no value
	index      uint64
	ms         int64 // append time
	end        int64 // bytes of all entries up to this one
}

// modelLater is a scheduled message.
type modelLater struct {
	id        uint64
	value     string
	index     uint64 // of the entry, in the companion log
	cancelled uint64 // index of the entry that cancels it, or 0
}

// partFacts is what the entries of a partition come to.
type partFacts struct {
	committed uint64
	commits   bool
	queue     bool
	from      uint64
	acked     map[uint64]bool
	sequence  uint64 // next of the producer
	lastBase  uint64 // of its last batch
	lastSize  uint64
}

type partEffect struct {
	index uint64
	apply func(f *partFacts)
}

// extent is a part of a partition: the entries below these indexes.
type extent struct{ main, later uint64 }

type modelPart struct {
	p       *Partition
	grown   bool // it was added to a topic: it inherits groups at indexes that nobody knows
	records []modelRecord
	effects []partEffect
	facts   partFacts
	later   []modelLater
	purged  uint64 // below this
	purging uint64 // what purges that failed may have reached
	next    uint64 // the highest next offset so far
	bytes   int64  // the most bytes of all entries so far
	leased  map[uint64]uint32
	kept    extent // what the starts since the last recall have found
}

// everything is the extent of a partition that has lost nothing.
var everything = extent{math.MaxUint64, math.MaxUint64}

func newModelPart(p *Partition, grown bool) *modelPart {
	return &modelPart{
		p: p, grown: grown, facts: partFacts{acked: map[uint64]bool{}}, leased: map[uint64]uint32{}, kept: everything,
	}
}

func (p *modelPart) note(index uint64, apply func(f *partFacts)) {
	p.effects = append(p.effects, partEffect{index, apply})
	apply(&p.facts)
}

// add adds a record, at the next offset.
func (p *modelPart) add(r modelRecord, bytes int) {
	if len(p.records) > 0 {
		r.end = p.records[len(p.records)-1].end
	}
	r.end += int64(bytes)
	p.records = append(p.records, r)
	p.next, p.bytes = max(p.next, uint64(len(p.records))), max(p.bytes, r.end)
}

// pick returns a topic that is there, or nil.
func (m *storageModel) pick() *modelName {
	for range 4 {
		if n := m.names[m.rng.IntN(len(m.names))]; n.here != nil {
			return n
		}
	}
	return nil
}

func (m *storageModel) pickPart() *modelPart {
	n := m.pick()
	if n == nil {
		return nil
	}
	return n.here.parts[m.rng.IntN(len(n.here.parts))]
}

func (m *storageModel) value() string {
	m.seq++
	return fmt.Sprintf("v%d %s", m.seq, strings.Repeat("x", m.rng.IntN(1+m.rng.IntN(600))))
}

func (m *storageModel) batch(n int, pr wire.Producer) (*wire.Batch, []modelRecord) {
	var b wire.BatchBuilder
	var list []modelRecord
	for range n {
		r := modelRecord{key: fmt.Sprint("k", m.rng.IntN(8)), value: m.value()}
		rec := wire.Record{Key: []byte(r.key), Value: []byte(r.value)}
		if m.rng.IntN(8) == 0 {
			r.value, r.deletes, rec.Value = "", true, nil
		}
		b.Add(rec)
		list = append(list, r)
	}
	if pr.ID != 0 {
		b.SetProducer(pr)
	}
	batch, err := wire.ParseBatch(slices.Clone(b.Bytes()))
	require.NoError(m.t, err)
	return &batch, list
}

func (m *storageModel) publish(p *modelPart) {
	pr := wire.Producer{}
	if m.rng.IntN(2) == 0 {
		pr = wire.Producer{ID: 9, Sequence: p.facts.sequence}
	}
	b, list := m.batch(1+m.rng.IntN(6), pr)
	now := m.now().UnixMilli()
	base, index, duplicate, err := p.p.Publish(b, now)
	if !m.tolerate(err) {
		return
	}
	require.False(m.t, duplicate)
	require.Equal(m.t, uint64(len(p.records)), base)
	for i, r := range list {
		r.index, r.ms = index, now
		p.add(r, (len(b.Raw())+48)*(len(list)-i)/len(list))
	}
	if pr.ID != 0 {
		p.note(index, func(f *partFacts) {
			f.sequence, f.lastBase, f.lastSize = pr.Sequence+uint64(len(list)), base, uint64(len(list))
		})
	}
	if m.rng.IntN(4) > 0 {
		p.p.Flush(p.p.topic.Config().Level)
	}
}

// again sends the producer's last batch again.
func (m *storageModel) again(p *modelPart) {
	if p.facts.lastSize == 0 {
		return
	}
	b, _ := m.batch(int(p.facts.lastSize), wire.Producer{ID: 9, Sequence: p.facts.sequence - p.facts.lastSize})
	base, _, duplicate, err := p.p.Publish(b, m.now().UnixMilli())
	if m.tolerate(err) {
		require.True(m.t, duplicate)
		require.Equal(m.t, p.facts.lastBase, base)
	}
}

func (m *storageModel) commit(p *modelPart) {
	offset := uint64(m.rng.IntN(int(p.p.Visible()) + 1))
	index, err := p.p.Commit("g", offset, 0, m.now())
	if !m.tolerate(err) {
		return
	}
	p.note(index, func(f *partFacts) { f.commits, f.committed = true, offset })
	p.p.Flush(wire.LevelDisk)
}

func (m *storageModel) openQueue(p *modelPart) {
	if p.facts.queue {
		return
	}
	from := uint64(m.rng.IntN(int(p.p.Visible()) + 1))
	index, err := p.p.OpenQueue("w", from, QueuePolicy{Lease: time.Hour, MaxDeliveries: 1000}, m.now())
	if m.tolerate(err) {
		p.note(index, func(f *partFacts) { f.queue, f.from = true, from })
	}
}

func (m *storageModel) lease(p *modelPart) {
	if !p.facts.queue {
		return
	}
	list, err := p.p.Lease(nil, "w", 1+m.rng.IntN(8), time.Hour, 1, m.now())
	if !m.tolerate(err) {
		return
	}
	for _, l := range list {
		for offset := l.First; offset < l.First+uint64(l.Count); offset++ {
			require.False(m.t, p.facts.acked[offset], "%s@%d is delivered again", p.p, offset)
			p.leased[offset] = l.Attempt
		}
	}
}

// settle acknowledges some messages, or gives them back.
func (m *storageModel) settle(p *modelPart) {
	if !p.facts.queue {
		return
	}
	for offset := p.facts.from; offset < uint64(len(p.records)); offset++ {
		attempt, ok := p.leased[offset]
		if !ok || m.rng.IntN(2) == 0 {
			continue
		}
		delete(p.leased, offset)
		s := Settlement{Op: wire.OpAck, Ranges: []group.Settle{{First: offset, Count: 1, Attempt: attempt}}}
		if m.rng.IntN(4) == 0 {
			s.Op, s.Delay, s.Reason = wire.OpNack, time.Millisecond, "why"
		}
		index, _, err := p.p.Settle("w", s, m.now())
		if m.tolerate(err) && index != 0 && s.Op == wire.OpAck { // 0: the lease is over
			p.note(index, func(f *partFacts) { f.acked[offset] = true })
		}
	}
	if m.rng.IntN(3) > 0 {
		p.p.Flush(wire.LevelDisk)
	}
}

func (m *storageModel) scheduleSome(p *modelPart) {
	var items []ScheduleItem
	var values []string
	for range 1 + m.rng.IntN(3) {
		v := m.value()
		var b wire.BatchBuilder
		b.Add(wire.Record{Key: []byte("later"), Value: []byte(v)})
		batch, err := wire.ParseBatch(slices.Clone(b.Bytes()))
		require.NoError(m.t, err)
		due := p.p.ScheduleTime().Add(time.Duration(m.rng.IntN(20_000)) * time.Millisecond)
		items, values = append(items, ScheduleItem{Due: due.UnixMilli(), Batch: &batch}), append(values, v)
	}
	got, err := p.p.Schedule(items, wire.Producer{})
	if !m.tolerate(err) {
		return
	}
	for i, v := range values {
		p.later = append(p.later, modelLater{id: got.First + uint64(i), value: v, index: got.Index})
	}
	if m.rng.IntN(4) > 0 {
		got.At.Flush(wire.LevelDisk)
	}
}

func (m *storageModel) cancel(p *modelPart) {
	if len(p.later) == 0 {
		return
	}
	l := &p.later[m.rng.IntN(len(p.later))]
	missing, at, index, err := p.p.CancelScheduled([]uint64{l.id})
	if m.tolerate(err) && missing == 0 {
		require.Zero(m.t, l.cancelled)
		l.cancelled = index
		if m.rng.IntN(4) > 0 {
			at.Flush(wire.LevelDisk)
		}
	}
}

func (m *storageModel) purge(p *modelPart) {
	before := min(p.p.First()+uint64(m.rng.IntN(20)), p.p.Visible())
	if m.rng.IntN(8) == 0 {
		before = p.p.Visible()
	}
	p.purging = max(p.purging, before)
	if m.tolerate(m.r.Purge(p.p.topic.Name(), p.p.Number(), before)) {
		p.purged = max(p.purged, before)
	}
}

// pass lets some time pass.
func (m *storageModel) pass(d time.Duration) {
	for ; d > 0; d -= 500 * time.Millisecond {
		time.Sleep(min(d, 500*time.Millisecond))
		m.observe()
	}
}

// jump moves the wall clock ahead, or back to the time that has really passed.
func (m *storageModel) jump() {
	seconds := func() int64 { return int64(m.rng.IntN(3600)) * int64(time.Second) }
	if m.ahead.Add(-seconds()) < 0 {
		m.ahead.Store(seconds())
	}
}

// settings returns some for a topic.
func (m *storageModel) settings() (list []wire.Setting) {
	for _, s := range [][]string{
		{"durability", "memory", "os", "disk", "disk"},
		{"retention", "0", "5s", "30s", "1h"},
		{"retention_bytes", "0", "16KiB", "64KiB"},
		{"retention_count", "0", "20", "100"},
		{"segment_bytes", "0", "4KiB"},
		{"segment_age", "0", "1s"},
		{"cleanup", "delete", "delete", "compact"},
		{"tombstone_retention", "1s", "24h"},
	} {
		if m.rng.IntN(2) == 0 {
			list = append(list, pairs(s[0], s[1+m.rng.IntN(len(s)-1)])...)
		}
	}
	return list
}

// tried notes a configuration that t has, or may have.
func (t *modelTopic) tried(c *Config) {
	t.compact = t.compact || c.Compact
	if !c.Compact {
		t.limits = append(t.limits, c.Retention)
	}
}

func (m *storageModel) create(n *modelName) {
	parts, changes := 1+m.rng.IntN(2), m.settings()
	c, err := m.r.Defaults().with(changes)
	require.NoError(m.t, err)
	t := &modelTopic{shapes: []modelShape{shapeOf(parts, &c)}}
	t.tried(&c)
	topic, err := m.r.Create(n.name, parts, changes)
	m.t.Logf("create %s %d: %v", n.name, parts, err)
	if !m.tolerate(err) {
		n.may = append(n.may, t)
		return
	}
	t.id = topic.ID()
	m.adopt(t, topic, false)
	n.here, n.may = t, []*modelTopic{t}
}

// adopt takes over the partitions that a topic has.
func (m *storageModel) adopt(t *modelTopic, topic *Topic, grown bool) {
	t.topic = topic
	list := topic.Partitions()
	t.parts = t.parts[:min(len(t.parts), len(list))]
	for i, p := range list {
		if i == len(t.parts) {
			t.parts = append(t.parts, newModelPart(p, grown))
		}
		t.parts[i].p = p
	}
}

func (m *storageModel) alter(n *modelName) {
	t, parts, changes := n.here, 0, m.settings()
	if len(t.parts) < 4 && m.rng.IntN(3) == 0 {
		parts = len(t.parts) + 1
	}
	c, err := t.topic.Config().with(changes)
	require.NoError(m.t, err)
	t.tried(&c)
	shape := shapeOf(max(parts, len(t.parts)), &c)
	_, err = m.r.Alter(n.name, parts, changes)
	m.t.Logf("alter %s %x %d %v: %v", n.name, t.id, parts, changes, err)
	ok := m.tolerate(err)
	if grown := len(t.topic.Partitions()) > len(t.parts); ok || grown {
		m.adopt(t, t.topic, true)
		t.shapes, n.may = []modelShape{shape}, []*modelTopic{t}
		return
	}
	t.shapes = append(t.shapes, shape)
}

func (m *storageModel) delete(n *modelName) {
	t := n.here
	err := m.r.Delete(n.name)
	m.t.Logf("delete %s %x: %v", n.name, t.id, err)
	if m.r.Topic(n.name) == nil {
		n.here = nil
	}
	if m.tolerate(err) {
		require.Nil(m.t, n.here)
		n.may = []*modelTopic{nil}
		return
	}
	n.may = append(n.may, nil)
	for _, p := range t.parts { // a full disk may have needed their space
		p.purging = max(p.purging, p.p.Next())
	}
}

func (m *storageModel) step() {
	n := m.rng.IntN(100)
	if n >= 90 {
		m.stepTopics(n - 90)
		return
	}
	p := m.pickPart()
	if p == nil {
		m.stepTopics(0)
		return
	}
	switch {
	case n < 30:
		m.publish(p)
	case n < 34:
		m.again(p)
	case n < 42:
		m.commit(p)
	case n < 46:
		m.openQueue(p)
	case n < 54:
		m.lease(p)
	case n < 62:
		m.settle(p)
	case n < 69:
		m.scheduleSome(p)
	case n < 72:
		m.cancel(p)
	case n < 75:
		m.purge(p)
	case n < 79:
		p.p.Flush(wire.LevelOS + wire.Level(m.rng.IntN(2)))
	case n < 82:
		m.tolerate(m.store.Checkpoint())
	case n < 84:
		m.tolerate(m.store.Compact())
	case n < 85:
		m.jump()
	default:
		m.pass(time.Duration(m.rng.IntN(1+m.rng.IntN(5000))) * time.Millisecond)
	}
}

func (m *storageModel) stepTopics(n int) {
	name := m.names[m.rng.IntN(len(m.names))]
	switch {
	case name.here == nil:
		m.create(name)
	case n < 6:
		m.alter(name)
	case n < 7:
		m.delete(name)
	case n < 9:
		m.tolerate(m.store.Sync())
	default:
		m.check()
	}
}

// drain lets everything that is scheduled be published, and deletes everything.
func (m *storageModel) drain() {
	m.ahead.Store(max(m.ahead.Load(), int64(2*time.Hour)))
	if m.disk.Dead() {
		m.crash(true)
	}
	m.stop()
	m.pass(time.Minute)
	m.check()
	for _, n := range m.names {
		if n.here == nil {
			continue
		}
		for _, p := range n.here.parts {
			m.checkPublished(p)
		}
		require.NoError(m.t, m.r.Delete(n.name))
		n.here, n.may = nil, []*modelTopic{nil}
	}
	synctest.Wait()
	m.stop()
	require.Equal(m.t, []wire.Identity{{}}, m.store.Logs())
	require.NoError(m.t, m.end())
	report, err := log.VerifyFS(m.disk, "/data")
	require.NoError(m.t, err)
	require.True(m.t, report.OK(), "%v", report.Damage)
}
