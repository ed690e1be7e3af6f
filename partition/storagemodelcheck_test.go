package partition

import (
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// walk calls fn for every record of a partition from an offset on, also for those that are not visible.
func (m *storageModel) walk(p *Partition, offset uint64, fn func(at uint64, e *wire.Entry, r *wire.Record)) {
	for next := p.Next(); offset < next; {
		var c log.Chunk
		require.NoError(m.t, p.log.ReadCold(&c, offset, next, 1<<20))
		for e, err := range entries(&c) {
			require.NoError(m.t, err)
			if e.Kind == wire.KindData {
				m.walkBatch(&e, offset, fn)
			}
		}
		require.Greater(m.t, c.Next, offset)
		offset = c.Next
		c.Release()
	}
}

func (m *storageModel) walkBatch(e *wire.Entry, from uint64, fn func(at uint64, e *wire.Entry, r *wire.Record)) {
	batch, err := wire.ParseBatch(e.Payload)
	require.NoError(m.t, err)
	at := e.BaseOffset
	for r, err := range batch.Records() {
		require.NoError(m.t, err)
		if at >= from && !r.Removed {
			fn(at, e, &r)
		}
		at++
	}
}

// observe takes over what the broker has done by itself: it published what was due. Nothing else may be there.
func (m *storageModel) observe() {
	if now := m.now(); now.After(m.most) {
		m.most = now
	}
	for _, n := range m.names {
		if n.here == nil {
			continue
		}
		for _, p := range n.here.parts {
			m.observePart(p)
		}
	}
}

func (m *storageModel) observePart(p *modelPart) {
	if p.grown {
		m.observeHeritage(p)
	}
	if p.p.Next() <= uint64(len(p.records)) {
		return
	}
	m.quiet(func() {
		m.walk(p.p, uint64(len(p.records)), func(at uint64, e *wire.Entry, r *wire.Record) {
			require.Equal(m.t, uint64(len(p.records)), at)
			value := string(r.Value)
			sent := func(l modelLater) bool { return l.value == value && l.cancelled == 0 }
			require.True(m.t, slices.ContainsFunc(p.later, sent), "%s@%d was never sent: %s", p.p, at, value)
			require.False(m.t, slices.ContainsFunc(p.records, func(r modelRecord) bool { return r.value == value }),
				"%s@%d is there twice: %s", p.p, at, value)
			p.add(modelRecord{key: string(r.Key), value: value, index: e.Index, ms: e.Time}, int(e.Length)+48)
		})
	})
}

// quiet calls fn, during which no call fails.
func (m *storageModel) quiet(fn func()) {
	fail, failReads := m.fails, m.failsReads
	m.disk.Fail(nil)
	m.disk.FailReads(nil)
	fn()
	m.disk.Fail(fail)
	m.disk.FailReads(failReads)
}

// observeHeritage takes over what a new partition has inherited.
func (m *storageModel) observeHeritage(p *modelPart) {
	if c, ok := p.p.Committed("g"); ok && !p.facts.commits && c.Offset == 0 {
		p.note(0, func(f *partFacts) { f.commits = true })
	}
	if !p.facts.queue && p.p.HasQueue("w") {
		p.note(0, func(f *partFacts) { f.queue = true })
	}
}

// recall makes the model what a start has found. What is not durable yet may be otherwise after the next one.
func (m *storageModel) recall(floors map[*modelPart]extent) {
	meta := m.r.meta.Positions()
	durable := meta.DurableIndex == meta.NextIndex
	for _, n := range m.names {
		topic := m.r.Topic(n.name)
		if topic != nil {
			m.t.Logf("found %s %x %d, may %d, hurt %v", n.name, topic.ID(), len(topic.Partitions()), len(n.may), m.hurt.Load())
		} else {
			m.t.Logf("found no %s, may %d, hurt %v", n.name, len(n.may), m.hurt.Load())
		}
		n.here = m.find(n, topic)
		if durable {
			n.may = []*modelTopic{n.here}
		}
		if topic == nil {
			continue
		}
		shape := shapeOf(len(topic.Partitions()), topic.Config())
		require.Contains(m.t, n.here.shapes, shape)
		if n.here.id = topic.ID(); durable {
			n.here.shapes = []modelShape{shape}
		}
		m.adopt(n.here, topic, true)
		for _, p := range n.here.parts {
			m.recallPart(p, floors[p])
		}
	}
}

// find returns which of the topics that may be there the one that was found is.
func (m *storageModel) find(n *modelName, topic *Topic) *modelTopic {
	if topic == nil {
		require.Contains(m.t, n.may, (*modelTopic)(nil), "topic %s is gone", n.name)
		return nil
	}
	for _, t := range n.may {
		if t != nil && t.id == topic.ID() {
			return t
		}
	}
	shape := shapeOf(len(topic.Partitions()), topic.Config())
	for _, t := range n.may {
		if t != nil && t.id == [16]byte{} && t.shapes[0] == shape {
			return t
		}
	}
	require.Fail(m.t, "a topic is back", "%s: %v, %d could be there", n.name, shape, len(n.may))
	return nil
}

func (m *storageModel) recallPart(p *modelPart, f extent) {
	next, later := p.kept.main, p.kept.later
	p.kept = everything
	require.GreaterOrEqual(m.t, next, f.main, "%s has lost entries", p.p)
	require.GreaterOrEqual(m.t, later, f.later, "%s has lost what is scheduled", p.p)
	p.records = slices.DeleteFunc(p.records, func(r modelRecord) bool { return r.index >= next })
	p.effects = slices.DeleteFunc(p.effects, func(e partEffect) bool { return e.index >= next })
	p.later = slices.DeleteFunc(p.later, func(l modelLater) bool { return l.index >= later })
	for i := range p.later {
		if p.later[i].cancelled >= later {
			p.later[i].cancelled = 0
		}
	}
	clear(p.leased)
	p.facts = partFacts{acked: map[uint64]bool{}}
	for _, e := range p.effects {
		e.apply(&p.facts)
	}
	require.GreaterOrEqual(m.t, p.p.Next(), uint64(len(p.records)), "%s", p.p)
}

// check compares everything that can be read.
func (m *storageModel) check() {
	if !m.hurt.Load() && !m.disk.Dead() {
		m.quiet(m.checkAll)
	}
}

func (m *storageModel) checkAll() {
	for _, n := range m.names {
		if n.here == nil {
			require.Nil(m.t, m.r.Topic(n.name))
			continue
		}
		for _, p := range n.here.parts {
			require.NoError(m.t, p.p.Failure())
			m.checkFirst(n.here, p)
			m.checkRecords(n.here, p)
			m.checkConsumers(p)
			m.checkLater(p)
		}
	}
}

// checkFirst looks whether retention and purges have removed no more than they may.
func (m *storageModel) checkFirst(t *modelTopic, p *modelPart) {
	first := p.p.First()
	require.GreaterOrEqual(m.t, first, p.purged, "%s: what was purged is back", p.p)
	require.LessOrEqual(m.t, first, uint64(len(p.records)))
	if first <= p.purging || first == 0 {
		return
	}
	last := p.records[first-1]
	held := p.bytes - last.end + 200*int64(len(p.effects))
	for _, r := range t.limits {
		if r.Count > 0 && p.next-first >= uint64(r.Count) || r.Bytes > 0 && held >= r.Bytes ||
			r.Age > 0 && last.ms+r.Age.Milliseconds() < m.most.UnixMilli() {
			return
		}
	}
	require.Fail(m.t, "too much is removed", "%s: below %d of %d", p.p, first, len(p.records))
}

func (m *storageModel) checkRecords(t *modelTopic, p *modelPart) {
	at := p.p.First()
	m.walk(p.p, at, func(offset uint64, _ *wire.Entry, r *wire.Record) {
		for ; at < offset; at++ {
			m.checkGone(t, p, at)
		}
		want := p.records[at]
		require.Equal(m.t, want.key, string(r.Key), "%s@%d", p.p, at)
		require.Equal(m.t, want.value, string(r.Value), "%s@%d", p.p, at)
		require.Equal(m.t, want.deletes, r.Value == nil, "%s@%d", p.p, at)
		at++
	})
	require.Equal(m.t, p.p.Next(), uint64(len(p.records)), "%s", p.p)
	for ; at < p.p.Next(); at++ {
		m.checkGone(t, p, at)
	}
}

// checkGone looks whether compaction may have removed a record.
func (m *storageModel) checkGone(t *modelTopic, p *modelPart, at uint64) {
	require.True(m.t, t.compact, "%s@%d is gone", p.p, at)
	r := p.records[at]
	newer := slices.ContainsFunc(p.records[at+1:], func(o modelRecord) bool { return o.key == r.key })
	require.True(m.t, newer || r.deletes, "%s@%d is gone, and the latest of its key", p.p, at)
}

func (m *storageModel) checkConsumers(p *modelPart) {
	c, ok := p.p.Committed("g")
	require.Equal(m.t, p.facts.commits, ok, "%s", p.p)
	require.Equal(m.t, p.facts.committed, c.Offset, "%s", p.p)
	require.Equal(m.t, p.facts.queue, p.p.HasQueue("w"), "%s", p.p)
	if !p.facts.queue {
		return
	}
	list, err := p.p.Pending(nil, "w", 0, 1<<20)
	require.NoError(m.t, err)
	waits := map[uint64]bool{}
	for _, r := range list {
		for i := range r.Count {
			waits[r.First+i] = true
		}
	}
	for offset := max(p.facts.from, p.p.First()); offset < p.p.Visible(); offset++ {
		require.Equal(m.t, !p.facts.acked[offset], waits[offset], "%s@%d", p.p, offset)
	}
}

// checkLater compares what is scheduled. What is neither waiting nor published is being published.
func (m *storageModel) checkLater(p *modelPart) {
	list, _, err := p.p.Scheduled(0, 0, 0, 1<<20, 1<<30)
	require.NoError(m.t, err)
	waits := map[uint64]string{}
	for _, b := range list {
		batch, err := wire.ParseBatch(b.Batch)
		require.NoError(m.t, err)
		for r, err := range batch.Records() {
			require.NoError(m.t, err)
			waits[b.ID] = strings.Clone(string(r.Value))
		}
	}
	for i := range p.later {
		l := &p.later[i]
		value, ok := waits[l.id]
		delete(waits, l.id)
		published := m.published(p, l)
		require.False(m.t, ok && published, "%s: %d is published, and waits", p.p, l.id)
		require.False(m.t, ok && l.cancelled != 0, "%s: %d is cancelled, and waits", p.p, l.id)
		require.True(m.t, !ok || value == l.value)
	}
	require.Empty(m.t, waits, "%s: nobody has scheduled that", p.p)
}

func (m *storageModel) published(p *modelPart, l *modelLater) bool {
	return slices.ContainsFunc(p.records, func(r modelRecord) bool { return r.value == l.value })
}

// checkPublished is checkLater at the end: nothing waits any more.
func (m *storageModel) checkPublished(p *modelPart) {
	for i := range p.later {
		l := &p.later[i]
		require.Equal(m.t, l.cancelled == 0, m.published(p, l), "%s: %d", p.p, l.id)
	}
}
