package partition

import (
	"errors"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// fireItems and fireBytes bound what one partition publishes in one turn of the scheduler.
	fireItems = 4096
	fireBytes = 4 << 20
	// fireRetry is the pause after a partition refused what is due.
	fireRetry = 100 * time.Millisecond
)

// readyBatch is a batch that was fired, with its number in the scheduler's stream.
type readyBatch struct {
	raw []byte
	due int64
	at  uint64
}

// round is what one partition publishes in one turn.
type round struct {
	index uint64 // of the fired entry
	list  []readyBatch
}

// collect takes what is due off the index and writes that it is fired. It reports whether there is a
// round to publish.
func (s *schedule) collect(now time.Time) bool {
	items := s.due(now)
	list, fired := make([]readyBatch, 0, len(items)), make([]firing, 0, len(items))
	r := scheduleReader{s: s}
	defer r.release()
	size, n := 0, 0
	for ; n < len(items) && size < fireBytes; n++ {
		it := items[n]
		e, err := r.read(it.at)
		if err != nil {
			s.loseOne(it, err)
			continue
		}
		batch, err := wire.ViewBatch(e.batch)
		if err != nil {
			s.loseOne(it, err)
			continue
		}
		list = append(list, readyBatch{raw: append([]byte(nil), e.batch...), due: it.due, at: it.at})
		fired = append(fired, firing{id: it.id, records: uint64(batch.Count())})
		size += len(e.batch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.sooner()
	for _, it := range items[n:] {
		s.index.push(it) // the next turn
	}
	if len(list) == 0 {
		return false
	}
	for i := range fired {
		if r := s.crons[fired[i].id]; r != nil {
			fired[i].next = r.after(now)
		}
	}
	s.body = appendFired(s.room(), s.sequence, fired)
	_, index, err := s.writeLocked(wire.KindState, 0, now)
	if err != nil {
		for i, f := range fired {
			s.index.push(scheduled{due: list[i].due, id: f.id, at: list[i].at})
		}
		s.refused(err, now)
		return false
	}
	for i, f := range fired {
		list[i].stamp(s.sequence)
		s.sequence += f.records
		if f.next != 0 {
			s.index.push(scheduled{due: f.next, id: f.id, at: list[i].at})
			continue
		}
		delete(s.crons, f.id)
		s.all.pending.Add(-1)
	}
	s.round = round{index: index, list: list}
	return true
}

// due takes what is due off the index.
func (s *schedule) due(now time.Time) (items []scheduled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := s.index.first(); f != nil && f.due <= now.UnixMilli() && len(items) < fireItems; f = s.index.first() {
		items = append(items, s.index.pop())
	}
	return items
}

// loseOne gives up a batch that cannot be read.
func (s *schedule) loseOne(it scheduled, err error) {
	s.mu.Lock()
	delete(s.crons, it.id)
	s.mu.Unlock()
	s.all.pending.Add(-1)
	s.all.lost.Add(1)
	s.all.logger.Error("scheduled message lost", "topic", s.target.topic.name, "partition", s.target.number, "offset", it.at, "err", err)
}

// stamp gives the batch its number.
func (b *readyBatch) stamp(sequence uint64) {
	batch, err := wire.ViewBatch(b.raw)
	if err != nil {
		panic("partition: batch was checked: " + err.Error())
	}
	b.raw = batch.AppendStamped(make([]byte, 0, len(b.raw)+20), wire.Producer{ID: SchedulerID, Sequence: sequence})
}

// stamped reads a batch that was fired before a restart.
func (s *schedule) stamped(r *scheduleReader, at, sequence uint64) (b readyBatch, ok bool) {
	e, err := r.read(at)
	if err != nil {
		s.all.lost.Add(1)
		s.all.logger.Error("scheduled message lost", "topic", s.target.topic.name, "partition", s.target.number, "offset", at, "err", err)
		return b, false
	}
	if _, err := wire.ViewBatch(e.batch); err != nil {
		return b, false
	}
	b = readyBatch{raw: append([]byte(nil), e.batch...), at: at}
	b.stamp(sequence)
	return b, true
}

// level is how durable a fired entry has to be before its batches are published.
func (s *schedule) level() wire.Level { return min(s.target.topic.Config().Level, s.target.stateLevel) }

// written reports whether the round's fired entry is as durable as it has to be.
func (s *schedule) written() bool {
	return s.store.Reached(s.round.index, s.level()) || s.store.Failure() != nil
}

// publishRound publishes what is stuck and then the round.
func (s *schedule) publishRound(now time.Time) {
	list := slices.Concat(s.stuck, s.round.list)
	if len(s.round.list) > 0 && s.store.Failure() != nil {
		list = s.stuck // the round is in the log or not: a restart knows
	}
	s.stuck, s.round = nil, round{}
	done := unconfirmed{low: ^uint64(0)}
	for i := range list {
		b := &list[i]
		index, err := s.target.publishFired(b.raw, nowMs(now))
		if err != nil {
			s.stuck = list[i:]
			s.refused(err, now)
			break
		}
		done.low, done.index = min(done.low, b.at), max(done.index, index)
		s.all.published(s.target.topic, b, now)
	}
	if done.low == ^uint64(0) {
		return
	}
	s.target.Flush(s.target.topic.Config().Level)
	s.waiting = append(s.waiting, done)
}

// refused pauses the schedule.
func (s *schedule) refused(err error, now time.Time) {
	s.retryAt = now.Add(fireRetry)
	if wire.CodeOf(err) != wire.CodeBusy && !s.all.warned {
		s.all.warned = true
		s.all.logger.Warn("scheduled messages wait", "topic", s.target.topic.name, "partition", s.target.number, "err", err)
	}
}

// scheduledNext returns the number of the record that the scheduler publishes next here, as far as the
// partition knows.
func (p *Partition) scheduledNext() uint64 {
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	if known := p.producers.byID[SchedulerID]; known != nil {
		return known.next
	}
	return 0
}

// publishFired publishes a batch of the scheduler, unless it was published before. It returns the index
// of the last entry of the scheduler.
func (p *Partition) publishFired(raw []byte, nowMs int64) (index uint64, err error) {
	batch, err := wire.ViewBatch(raw)
	if err != nil {
		return 0, wire.Errorf(wire.CodeInternal, "scheduled batch: %v", err)
	}
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	pr := batch.Producer()
	if known := p.producers.byID[SchedulerID]; known != nil {
		if pr.Sequence < known.next {
			return known.runs[len(known.runs)-1].index, nil
		}
		known.next = pr.Sequence // those in between were lost with the end of the log
	}
	if batch.TTL() != 0 {
		p.expiring.Store(true)
	}
	_, index, _, err = p.publishOnce(&batch, nowMs)
	switch {
	case errors.Is(err, wire.CodeDuplicate): // its message id was published meanwhile
	case errors.Is(err, wire.CodeInvalid), errors.Is(err, wire.CodeTooLarge): // not even later
		r := p.topic.registry
		r.scheduler.lost.Add(1)
		r.logger.Error("scheduled message refused", "topic", p.topic.name, "partition", p.number, "err", err)
	default:
		return index, err
	}
	p.producers.note(pr, batch.Count(), p.Next(), p.log.Positions().NextIndex-1)
	return 0, nil
}
