package partition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/wire"
)

// modelPolicy is of queues whose messages die soon, and whose dead letters go to a topic that may refuse them.
var modelPolicy = QueuePolicy{Lease: 2 * time.Second, MaxDeliveries: 2, DeadLetter: "dead"}

// tolerate reports whether an operation succeeded. It may fail when the disk is full or dead.
func (m *promiseModel) tolerate(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeStorageFull, wire.CodeBusy:
		return false
	}
	if m.disk.Dead() {
		return err == nil
	}
	require.NoError(m.t, err)
	return true
}

// send sends a request. It reports whether the broker has it now, or has had it.
func (m *promiseModel) send(l *lane, r *sending) (duplicate, ok bool) {
	p, pr := m.part(l.part), wire.Producer{}
	if l.numbers {
		pr = wire.Producer{ID: uint64(slices.Index(m.lanes, l)) + 1, Sequence: r.seq}
	}
	if l.later {
		var items []ScheduleItem
		for _, text := range r.texts {
			items = append(items, ScheduleItem{Due: r.due, Cron: r.cron, Batch: m.batch(l, wire.Producer{}, text)})
		}
		got, err := p.Schedule(items, pr)
		if !m.tolerate(err) {
			return false, false
		}
		r.at, r.index, r.first = got.At, got.Index, got.First
		return got.Duplicate, true
	}
	_, index, duplicate, err := p.Publish(m.batch(l, pr, r.texts...), time.Now().UnixMilli())
	if !m.tolerate(err) {
		return false, false
	}
	r.at, r.index = p, index
	return duplicate, true
}

func (m *promiseModel) batch(l *lane, pr wire.Producer, texts ...string) *wire.Batch {
	var b wire.BatchBuilder
	for _, text := range texts {
		r := wire.Record{Value: []byte(text)}
		if len(text)%2 == 0 && !l.later { // compaction keeps one of a recurring message with a key
			r.Key = []byte(text)
		}
		if l.ids {
			r.Headers = r.Headers.Append(wire.HeaderID, []byte(strings.Fields(text)[0]))
			b.MarkIDs()
		}
		b.Add(r)
	}
	if pr.ID != 0 {
		b.SetProducer(pr)
	}
	batch, err := wire.ParseBatch(slices.Clone(b.Bytes()))
	require.NoError(m.t, err)
	return &batch
}

// sendOpen sends again what is not answered, in order, and reports whether the broker has all of it.
func (m *promiseModel) sendOpen(l *lane) bool {
	for _, r := range l.open {
		if r.at == nil {
			if _, ok := m.send(l, r); !ok {
				return false
			}
		}
		r.at.Flush(wire.LevelDisk)
	}
	return true
}

// sendNew sends something new. What is refused is given up.
func (m *promiseModel) sendNew(l *lane) {
	if !m.sendOpen(l) || len(l.open) >= mostOpen {
		return
	}
	r := &sending{seq: l.next}
	r.texts = []string{m.text()}
	for !l.ids && len(r.texts) < 3 && m.rng.IntN(2) == 0 {
		r.texts = append(r.texts, m.text())
	}
	if l.later {
		r.due = m.part(l.part).ScheduleTime().Add(time.Duration(m.rng.IntN(90_000)) * time.Millisecond).UnixMilli()
		if m.rng.IntN(4) == 0 {
			r.cron = "* * * * *"
		}
	}
	duplicate, ok := m.send(l, r)
	require.False(m.t, duplicate)
	if !ok {
		for _, text := range r.texts {
			m.refused[text] = !m.disk.Dead()
		}
		return
	}
	l.next += uint64(len(r.texts))
	l.open = append(l.open, r)
	for _, text := range r.texts {
		if r.cron != "" {
			m.crons[text] = time.Now()
		}
	}
	if m.rng.IntN(4) > 0 {
		r.at.Flush(wire.LevelDisk)
	}
}

// sendAgain sends the last request that was answered again.
func (m *promiseModel) sendAgain(l *lane) {
	if l.last == nil || len(l.open) > 2 {
		return
	}
	r := *l.last
	if duplicate, ok := m.send(l, &r); ok {
		require.True(m.t, duplicate)
		require.Equal(m.t, l.last.first, r.first)
	}
}

// cancel cancels a scheduled message. When that is answered, it is never published again.
func (m *promiseModel) cancel(l *lane) {
	r := l.last
	if r == nil || !l.later {
		return
	}
	n := m.rng.IntN(len(r.texts))
	if r.cron != "" && m.crons[r.texts[n]].IsZero() {
		return
	}
	missing, at, index, err := m.part(l.part).CancelScheduled([]uint64{r.first + uint64(n)})
	if !m.tolerate(err) || missing > 0 {
		return
	}
	at.Flush(at.StateLevel())
	before := slices.Contains(m.texts(l.part), r.texts[n]) // a recurring one
	delete(m.scheduled, r.texts[n])                        // a start may find it cancelled, or not
	m.facts = append(m.facts, fact{at, index, func() { m.refused[r.texts[n]] = !before }})
}

// place moves or pauses a group.
func (m *promiseModel) place(n int) {
	p, list := m.part(n), m.places[n]
	next := *list[len(list)-1]
	var index uint64
	var err error
	switch offset := uint64(m.rng.IntN(int(p.Visible()) + 1)); m.rng.IntN(3) {
	case 0:
		next.paused = !next.paused
		index, err = p.Pause("g", next.paused, time.Now())
	case 1:
		next.offset = offset
		index, err = p.Seek("g", offset, time.Now())
	default:
		next.offset = offset
		index, err = p.Commit("g", offset, 0, time.Now())
	}
	if !m.tolerate(err) {
		return
	}
	m.places[n] = append(list, &next)
	p.Flush(p.StateLevel())
	m.facts = append(m.facts, fact{p, index, func() { // those before cannot come back
		m.places[n] = m.places[n][slices.Index(m.places[n], &next):]
	}})
}

// work takes some messages of a queue, and acknowledges, rejects or returns them, or lets their leases end.
func (m *promiseModel) work(n int) {
	p := m.part(n)
	if !p.HasQueue("w") {
		if _, err := p.OpenQueue("w", 0, modelPolicy, time.Now()); !m.tolerate(err) {
			return
		}
	}
	leases, err := p.Lease(nil, "w", 1+m.rng.IntN(8), 0, 1, time.Now())
	if !m.tolerate(err) {
		return
	}
	dead := m.dead()
	for _, l := range leases {
		for offset := l.First; offset < l.First+uint64(l.Count); offset++ {
			require.Empty(m.t, m.settled[n][offset], "%s@%d is delivered again", p, offset)
			require.Empty(m.t, dead[fmt.Sprint(n, "@", offset)], "%s@%d is buried and delivered", p, offset)
			m.settle(n, group.Settle{First: offset, Count: 1, Attempt: l.Attempt})
		}
	}
	p.Flush(p.StateLevel())
	m.answered()
}

func (m *promiseModel) settle(n int, one group.Settle) {
	s := Settlement{Op: wire.OpAck, Ranges: []group.Settle{one}, Reason: "why"}
	how := "ack"
	switch m.rng.IntN(6) {
	case 0:
		s.Op, how = wire.OpReject, "reject"
	case 1:
		s.Op, how = wire.OpNack, ""
	case 2:
		return
	}
	index, lost, err := m.part(n).Settle("w", s, time.Now())
	if m.tolerate(err) && lost == 0 && how != "" {
		m.acks[fmt.Sprint(n, "@", one.First)] = how == "ack"
		m.facts = append(m.facts, fact{m.part(n), index, func() { m.settled[n][one.First] = how }})
	}
}

// refuse has the topic of dead letters refuse those without a key, or take them again.
func (m *promiseModel) refuse() {
	if t := m.r.Topic("dead"); t != nil {
		cleanup := []string{"compact", "delete"}[m.rng.IntN(2)]
		_, err := m.r.Alter("dead", 0, pairs("cleanup", cleanup))
		m.tolerate(err)
	}
}

func (m *promiseModel) step() {
	n, l := m.rng.IntN(len(m.settled)), m.lanes[m.rng.IntN(len(m.lanes))]
	switch k := m.rng.IntN(100); {
	case k < 40:
		m.sendNew(l)
	case k < 48:
		m.sendAgain(l)
	case k < 52:
		m.cancel(l)
	case k < 60:
		m.place(n)
	case k < 75:
		m.work(n)
	case k < 78:
		m.refuse()
	case k < 82:
		m.limit()
	case k < 86:
		if err := m.store.Checkpoint(); !errors.Is(err, syscall.ENOSPC) && !m.disk.Dead() {
			require.NoError(m.t, err)
		}
	default:
		time.Sleep(time.Duration(m.rng.IntN(1+m.rng.IntN(20_000))) * time.Millisecond)
	}
	m.answered()
}
