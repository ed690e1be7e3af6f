package partition

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// loading is a schedule while it is rebuilt from its log.
type loading struct {
	items []scheduled // by id; due is gone for those that do not wait
	moved map[uint64]scheduled
	redo  []redo
	open  request // the request that is being read
}

// gone is the due time of an item that was fired or cancelled.
const gone = -1

// redo is a fired batch whose publish may have been lost.
type redo struct {
	at, sequence uint64
	due          int64
}

// load rebuilds the index from the companion log. Then it knows what a crash kept from being published.
func (s *schedule) load() error {
	var l loading
	l.moved = map[uint64]scheduled{}
	known := s.target.scheduledNext()
	err := s.store.log.Replay(func(e wire.Entry) error {
		body := e.Payload[4:]
		if len(body) == 0 {
			return errScheduleEntry
		}
		numbers, rest, err := splitNumbering(body)
		if err != nil {
			return err
		}
		s.loadNumbering(&l, numbers, &e)
		switch body = rest; {
		case len(body) == 0:
			return errScheduleEntry
		case e.Kind == wire.KindData:
			return s.loadRun(&l, body, &e)
		case e.Kind == wire.KindState && body[0] == entryFired:
			return s.loadFired(&l, body, known)
		case e.Kind == wire.KindState && body[0] == entryCancelled:
			ids, err := parseCancelled(body)
			for _, id := range ids {
				l.set(id, gone)
				delete(s.crons, id)
			}
			return err
		case e.Kind == wire.KindState && body[0] == entryProducers:
			r := uvarints{b: body[1:]}
			if s.producers.restore(&r); r.bad || len(r.b) > 0 {
				return errScheduleEntry
			}
			return nil
		}
		return errScheduleEntry
	})
	if err == nil {
		s.endRequest(&l, s.store.Next())
	}
	if err != nil {
		return fmt.Errorf("read the schedule of %s: %w", s.target, err)
	}
	s.sequence = max(s.sequence, known)
	reader := scheduleReader{s: s}
	defer reader.release()
	for _, r := range l.redo {
		if b, ok := s.stamped(&reader, r.at, r.sequence); ok {
			b.due = r.due
			s.stuck = append(s.stuck, b)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range l.items {
		s.keep(it)
	}
	for _, it := range l.moved {
		s.keep(it)
	}
	s.cut = s.store.First()
	s.loaded.Store(true)
	s.sooner()
	return nil
}

func (s *schedule) keep(it scheduled) {
	if it.due != gone {
		s.index.push(it)
		s.all.pending.Add(1)
	}
}

func (s *schedule) loadRun(l *loading, body []byte, entry *wire.Entry) error {
	var w scheduledWalk
	if err := w.open(body, entry.BaseOffset, entry.Count); err != nil {
		return err
	}
	for {
		var e scheduledEntry
		at := w.at
		if ok, err := w.next(&e); err != nil || !ok {
			return err
		}
		s.loadScheduled(l, &e, at)
	}
}

func (s *schedule) loadScheduled(l *loading, e *scheduledEntry, at uint64) {
	it := scheduled{due: e.due, id: e.id, at: at}
	if len(e.cron) > 0 {
		r, err := newRecurrence(string(e.cron), string(e.zone), time.Unix(0, 0))
		if err != nil { // the zone is gone from this machine
			s.all.logger.Error("recurring message dropped", "topic", s.target.topic.name, "partition", s.target.number, "err", err)
			return
		}
		s.crons[e.id] = r
	}
	if n := len(l.items); n == 0 || l.items[n-1].id < it.id {
		l.items = append(l.items, it)
		return
	}
	l.set(it.id, gone) // where it was before
	l.moved[it.id] = it
}

// set changes the due time of an item, and returns what it was before.
func (l *loading) set(id uint64, due int64) (was scheduled, ok bool) {
	if was, ok = l.moved[id]; ok {
		now := was
		now.due = due
		if l.moved[id] = now; due == gone {
			delete(l.moved, id)
		}
		return was, true
	}
	i, ok := slices.BinarySearchFunc(l.items, id, func(s scheduled, id uint64) int { return cmp.Compare(s.id, id) })
	if !ok || l.items[i].due == gone {
		return was, false
	}
	was = l.items[i]
	l.items[i].due = due
	return was, true
}

// loadFired takes what was fired off the index. known is the first number that the partition does not
// know: what is behind it has to be published again.
func (s *schedule) loadFired(l *loading, body []byte, known uint64) error {
	sequence, list, err := parseFired(body)
	if err != nil {
		return err
	}
	for _, f := range list {
		due := int64(gone)
		if f.next != 0 {
			due = f.next
		}
		it, ok := l.set(f.id, due)
		if f.next == 0 {
			delete(s.crons, f.id)
		}
		if ok && sequence+f.records > known {
			l.redo = append(l.redo, redo{at: it.at, sequence: sequence, due: it.due})
		}
		sequence += f.records
	}
	s.sequence = max(s.sequence, sequence)
	return nil
}
