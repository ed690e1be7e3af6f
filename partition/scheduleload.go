package partition

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// loading is the state of a schedule that is being rebuilt from its log.
type loading struct {
	waitlist
	known uint64 // number of the first record in the scheduler's stream that the partition does not have
	redo  []redo
	open  request // of whose entries more may follow
}

// gone is the due time in a waitlist of messages that were fired or cancelled.
const gone = -1

// redo is a fired batch that has to be published again.
type redo struct {
	of       scheduled
	sequence uint64
}

// tryLoad loads the schedule, and returns false when it has to be tried again: reading failed, but what can be read is
// not damaged.
func (s *schedule) tryLoad(now time.Time) (done bool) {
	err := s.load()
	switch {
	case s.target.Err() != nil: // deleted meanwhile
	case err == nil:
		s.failed.Store(nil)
	case errors.Is(err, errScheduleEntry), errors.Is(err, log.ErrVersion):
		s.store.log.Refuse(err)
		s.setAside(err)
	default:
		s.setAside(err)
		s.retryAt = now.Add(loadRetry)
		return false
	}
	s.retryAt = time.Time{}
	return true
}

// unread reports whether the schedule waits for its log to be readable.
func (s *schedule) unread() bool { return !s.loaded.Load() && !s.retryAt.IsZero() }

// load rebuilds the index from the companion log, and finds the fired batches that a crash kept from being published.
func (s *schedule) load() error {
	l := loading{waitlist: waitlist{}, known: s.target.scheduledNext()}
	s.crons, s.producers, s.sequence = map[uint64]*recurrence{}, producers{}, l.known // of an earlier attempt
	err := s.store.log.Replay(func(e wire.Entry) error { return s.loadEntry(&l, &e) })
	if err != nil {
		return fmt.Errorf("read the schedule of %s: %w", s.target, err)
	}
	s.endRequest(&l, s.store.Next())
	s.sequence = max(s.sequence, l.known)
	if err := s.readRedo(l.redo); err != nil {
		return fmt.Errorf("read the schedule of %s: %w", s.target, err)
	}
	s.noteFiring()
	s.startWith(l.waitlist)
	return nil
}

// setAside makes a schedule unusable because its log cannot be read. Its files stay as they are, and the partition is
// served without it.
func (s *schedule) setAside(err error) {
	s.failed.Store(wire.Errorf(wire.CodeReadOnly, "scheduled messages of %s cannot be read: %v", s.target, err))
	s.all.logger.Error("scheduled messages cannot be read",
		"topic", s.target.topic.name, "partition", s.target.number, "err", err)
}

// newerEntry is the error for an entry whose kind this version does not know.
func newerEntry(kind byte) error {
	return fmt.Errorf("%w: scheduled messages of kind %d", log.ErrVersion, kind)
}

// loadEntry replays one entry of the companion log.
func (s *schedule) loadEntry(l *loading, e *wire.Entry) error {
	numbers, body, err := splitNumbering(e.Payload[4:])
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return errScheduleEntry
	}
	s.loadNumbering(l, numbers, e)
	switch {
	case e.Kind == wire.KindData:
		return s.loadRun(l, body, e)
	case e.Kind == wire.KindState && body[0] == entryFired:
		return s.loadFired(l, body)
	case e.Kind == wire.KindState && body[0] == entryCancelled:
		return s.loadCancelled(l, body)
	case e.Kind == wire.KindState && body[0] == entryProducers:
		return s.loadProducers(body)
	}
	return newerEntry(body[0])
}

// readRedo reads the batches that have to be published again, and makes them the first to be published. Those that are
// damaged are lost.
func (s *schedule) readRedo(list []redo) error {
	s.stuck = nil // of an earlier attempt
	reader := scheduleReader{s: s}
	defer reader.release()
	for _, r := range list {
		_, batch, err := reader.read(r.of)
		switch {
		case err != nil && passes(err):
			return err
		case err != nil:
			s.reportLost(r.of, err)
		default:
			s.stuck = append(s.stuck, newReady(&batch, r.of, r.sequence))
		}
	}
	return nil
}

// startWith fills the index with what waits, and lets the schedule take requests.
func (s *schedule) startWith(waiting waitlist) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, page := range slices.Sorted(maps.Keys(waiting)) {
		for _, it := range waiting[page] {
			if it.due != gone {
				s.index.push(it)
			}
		}
	}
	s.all.pending.Add(int64(s.index.messages))
	s.cut = s.store.First()
	s.loaded.Store(true)
	s.updateEarliestLocked()
}

// loadRun loads the batches of a data entry.
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

// loadScheduled loads one batch, at offset at.
func (s *schedule) loadScheduled(l *loading, e *scheduledEntry, at uint64) {
	if len(e.cron) > 0 {
		r, err := s.all.zones.newRecurrence(string(e.cron), string(e.zone), time.Unix(0, 0))
		if err != nil { // this machine does not know the time zone any more
			s.all.logger.Error("recurring message dropped", "topic", s.target.topic.name, "partition", s.target.number, "err", err)
			return
		}
		s.crons[e.id] = r
	}
	each := len(e.batch) / int(e.count)
	for id, end := e.id, e.id+e.count; id < end; {
		n := min(end-id, maxRange)
		if it := l.take(id, n); it != nil { // this is a copy that replaces it
			n = it.count()
			*it = newScheduled(e.due, id, at, n).ofSize(each * int(n))
		} else {
			l.add(newScheduled(e.due, id, at, n).ofSize(each * int(n)))
		}
		id, at = id+n, at+n
	}
}

// loadFired marks what was fired as gone, or as due again. What the partition does not have of it is to be
// published again.
func (s *schedule) loadFired(l *loading, body []byte) error {
	sequence, list, err := parseFired(body)
	if err != nil {
		return err
	}
	for _, f := range list {
		it := l.take(f.id, f.records)
		if it != nil && sequence+f.records > l.known {
			l.redo = append(l.redo, redo{of: *it, sequence: sequence})
		}
		if it != nil {
			it.due = gone
		}
		if it != nil && f.next != 0 {
			it.due = f.next
		}
		if f.next == 0 {
			delete(s.crons, f.id)
		}
		sequence += f.records
	}
	s.sequence = max(s.sequence, sequence)
	return nil
}

// loadCancelled marks what was cancelled as gone. Nothing of it is published any more, not even what was fired before
// and was not in the partition for long enough to survive the end of the broker.
func (s *schedule) loadCancelled(l *loading, body []byte) error {
	ids, err := parseCancelled(body)
	for _, id := range ids {
		if it := l.take(id, 1); it != nil {
			it.due = gone
		}
		delete(s.crons, id)
	}
	l.redo = slices.DeleteFunc(l.redo, func(r redo) bool { return slices.Contains(ids, r.of.id) })
	return err
}

// loadProducers restores what was known of the clients that number what they schedule.
func (s *schedule) loadProducers(body []byte) error {
	r := uvarints{b: body[1:]}
	if s.producers.restore(&r); r.bad || len(r.b) > 0 {
		return errScheduleEntry
	}
	return nil
}
