package partition

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// fireItems and fireBytes bound the messages that one partition publishes in one turn of the scheduler. The
	// last item of a turn may exceed them.
	fireItems = 4096
	fireBytes = 4 << 20
	// fireRetry is the pause after a partition refused what is due.
	fireRetry = 100 * time.Millisecond
)

// readyBatch is a fired batch that carries its sequence number in the scheduler's stream.
type readyBatch struct {
	raw []byte
	of  scheduled
}

// round is what one partition publishes in one turn of the scheduler.
type round struct {
	index uint64 // of the fired entry in the companion log
	list  []readyBatch
}

// collect takes what is due off the index and logs that it is fired. It reports whether there is a round to
// publish.
func (s *schedule) collect(now time.Time) bool {
	list, fired, rest := s.readDue(s.due(now), now)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.updateEarliestLocked()
	for _, it := range rest {
		s.index.push(it) // the next turn
	}
	if len(list) == 0 {
		return false
	}
	index, err := s.fireLocked(list, fired, now)
	if err != nil {
		for i := range list {
			s.index.push(list[i].of)
		}
		s.pauseAfter(err, now)
		return false
	}
	s.round = round{index: index, list: list}
	return true
}

// readDue reads the batches of items, about fireBytes of them, and numbers them. fired describes each batch of
// list. rest are the items it did not come to, and those that the system failed to read, which are due again later.
// Those that are damaged are lost.
func (s *schedule) readDue(items []scheduled, now time.Time) (list []readyBatch, fired []firing, rest []scheduled) {
	list, fired = make([]readyBatch, 0, len(items)), make([]firing, 0, len(items))
	r := scheduleReader{s: s}
	defer r.release()
	size, n, sequence := 0, 0, s.sequence // which nobody else changes
	for ; n < len(items) && size < fireBytes; n++ {
		it := items[n]
		_, batch, err := r.read(it)
		switch {
		case err != nil && passes(err):
			if len(rest) == 0 {
				s.all.logger.Warn("scheduled messages cannot be read now", "topic", s.target.topic.name,
					"partition", s.target.number, "again_in", loadRetry, "err", err)
			}
			it.due = now.Add(loadRetry).UnixMilli()
			rest = append(rest, it)
			continue
		case err != nil:
			s.lose(it, err)
			continue
		}
		list = append(list, newReady(&batch, it, sequence))
		fired = append(fired, firing{id: it.id, records: uint64(batch.Count())})
		sequence += uint64(batch.Count())
		size += len(batch.Raw())
	}
	return list, fired, append(rest, items[n:]...)
}

// passes reports whether err, of reading, is a failure of the system, such as too many open files, and not of what is
// stored.
func passes(err error) bool {
	_, system := errors.AsType[syscall.Errno](err)
	return system && !errors.Is(err, os.ErrNotExist)
}

// fireLocked logs that the batches of list are fired, and puts those that recur back with their next due time.
// With an error nothing has changed.
func (s *schedule) fireLocked(list []readyBatch, fired []firing, now time.Time) (index uint64, err error) {
	for i := range fired {
		if r := s.crons[fired[i].id]; r != nil {
			fired[i].next = r.after(now)
		}
	}
	s.body = appendFired(s.room(), s.sequence, fired)
	if _, index, err = s.writeLocked(wire.KindState, 0, now); err != nil {
		return 0, err
	}
	for i, f := range fired {
		it := &list[i].of
		s.sequence += f.records
		if f.next != 0 {
			s.firing[f.id] = struct{}{}
			again := *it
			again.due = f.next
			s.index.push(again)
			continue
		}
		delete(s.crons, f.id)
		s.all.pending.Add(-int64(it.count()))
	}
	return index, nil
}

// due removes items that are due from the index and returns them: about fireItems messages.
func (s *schedule) due(now time.Time) (items []scheduled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(0)
	for f := s.index.first(); f != nil && f.due <= now.UnixMilli() && n < fireItems; f = s.index.first() {
		items = append(items, s.index.pop())
		n += items[len(items)-1].count()
	}
	return items
}

// lose gives up messages that are unreadable.
func (s *schedule) lose(it scheduled, err error) {
	s.mu.Lock()
	delete(s.crons, it.id)
	s.mu.Unlock()
	s.all.pending.Add(-int64(it.count()))
	s.reportLost(it, err)
}

func (s *schedule) reportLost(it scheduled, err error) {
	s.all.lost.Add(it.count())
	s.all.logger.Error("scheduled messages lost", "topic", s.target.topic.name, "partition", s.target.number,
		"offset", it.at(), "count", it.count(), "err", err)
}

// newReady copies a batch and stamps it with its sequence number.
func newReady(batch *wire.Batch, it scheduled, sequence uint64) readyBatch {
	const room = 20 // for the producer stamp
	raw := batch.AppendStamped(make([]byte, 0, len(batch.Raw())+room), wire.Producer{ID: SchedulerID, Sequence: sequence})
	return readyBatch{raw: raw, of: it}
}

// level is the durability that a published batch must reach before its entry is given up.
func (s *schedule) level() wire.Level { return min(s.target.topic.Config().Level, s.target.stateLevel) }

// firedLevel is the durability that a fired entry must reach before its batches are published: the highest, whatever
// the topic asks for. A batch may become durable at any time, and without the fired entry it would be published again.
func (s *schedule) firedLevel() wire.Level { return s.target.stateLevel }

// written reports whether the round's fired entry has reached firedLevel, or never will.
func (s *schedule) written() bool {
	return s.store.Reached(s.round.index, s.firedLevel()) || s.store.Failure() != nil
}

// publishRound publishes the stuck batches and then those of the round.
func (s *schedule) publishRound(now time.Time) {
	list := slices.Concat(s.stuck, s.round.list)
	if len(s.round.list) > 0 && s.store.Failure() != nil {
		list = s.stuck // nobody knows whether the round is logged; a restart finds out
	}
	s.stuck, s.round = nil, round{}
	defer s.noteFiring()
	done := unconfirmed{low: ^uint64(0)}
	for i := range list {
		b := &list[i]
		index, err := s.target.publishFired(b.raw, nowMs(now))
		if err != nil {
			s.stuck = list[i:]
			s.pauseAfter(err, now)
			break
		}
		done.low, done.index = min(done.low, b.of.at()), max(done.index, index)
		s.all.published(s.target.topic, b, now)
	}
	if done.low == ^uint64(0) {
		return
	}
	s.target.Flush(s.target.topic.Config().Level)
	s.waiting = append(s.waiting, done)
}

// noteFiring lets recurring messages be cancelled again, except those that the partition has refused so far.
func (s *schedule) noteFiring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.firing)
	for i := range s.stuck {
		if id := s.stuck[i].of.id; s.crons[id] != nil {
			s.firing[id] = struct{}{}
		}
	}
}

// pauseAfter has the schedule wait for fireRetry after an error.
func (s *schedule) pauseAfter(err error, now time.Time) {
	s.retryAt = now.Add(fireRetry)
	if wire.CodeOf(err) != wire.CodeBusy && !s.all.warned {
		s.all.warned = true
		s.all.logger.Warn("scheduled messages wait", "topic", s.target.topic.name, "partition", s.target.number, "err", err)
	}
}

// scheduledNext returns the sequence number of the next record from the scheduler that the partition does not have.
func (p *Partition) scheduledNext() uint64 {
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	if known := p.producers.byID[SchedulerID]; known != nil {
		return known.next
	}
	return 0
}

// publishFired publishes a batch of the scheduler unless the partition has it already. It returns the index of an
// entry that says so: the batch, or that its numbers are used. With an error it may be tried again.
func (p *Partition) publishFired(raw []byte, nowMs int64) (index uint64, err error) {
	batch, err := wire.ViewBatch(raw)
	if err != nil {
		return 0, wire.Errorf(wire.CodeInternal, "scheduled batch: %v", err)
	}
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	return p.publishFiredLocked(&batch, nowMs)
}

// publishFiredLocked is publishFired for a parsed batch. The caller holds producers.mu.
func (p *Partition) publishFiredLocked(batch *wire.Batch, nowMs int64) (index uint64, err error) {
	pr := batch.Producer()
	if known := p.producers.byID[SchedulerID]; known != nil {
		end := pr.Sequence + uint64(batch.Count())
		switch apart := batch.Codec() == wire.CodecNone; {
		case pr.Sequence >= known.next:
		case end > known.next && apart: // a crash interrupted publishApart
			return p.publishApart(batch, uint32(known.next-pr.Sequence), nowMs)
		default:
			return known.runs[len(known.runs)-1].index, nil
		}
		known.next = pr.Sequence // the records in between were lost with the end of the log
	}
	if batch.TTL() != 0 {
		p.expiring.Store(true)
	}
	_, index, _, err = p.publishOnce(batch, nowMs)
	refused := errors.Is(err, wire.CodeDuplicate) || errors.Is(err, wire.CodeInvalid) || errors.Is(err, wire.CodeTooLarge)
	switch {
	case !refused:
		return index, err
	case batch.Count() > 1 && batch.Codec() == wire.CodecNone: // because of one of its messages
		return p.publishApart(batch, 0, nowMs)
	}
	index, failed := p.use(pr, batch.Count(), p.Next(), nowMs) // it would be refused again
	if failed != nil {
		return 0, failed
	}
	r := p.topic.registry
	r.scheduler.lost.Add(1)
	r.logger.Error("scheduled message refused", "topic", p.topic.name, "partition", p.number, "err", err)
	return index, nil
}

// publishApart publishes the records of an uncompressed batch one by one, from the one at index from on. The caller
// holds producers.mu.
func (p *Partition) publishApart(batch *wire.Batch, from uint32, nowMs int64) (index uint64, err error) {
	var part []byte
	for i := from; i < batch.Count(); i++ {
		if part, err = batch.Cut(part[:0], i, i+1); err != nil {
			return 0, wire.Errorf(wire.CodeInternal, "scheduled batch: %v", err)
		}
		one, err := wire.ViewBatch(part)
		if err != nil {
			return 0, wire.Errorf(wire.CodeInternal, "scheduled batch: %v", err)
		}
		pr := batch.Producer()
		pr.Sequence += uint64(i)
		if one, err = wire.ViewBatch(one.AppendStamped(nil, pr)); err != nil {
			return 0, wire.Errorf(wire.CodeInternal, "scheduled batch: %v", err)
		}
		last, err := p.publishFiredLocked(&one, nowMs)
		if err != nil {
			return 0, err
		}
		index = max(index, last)
	}
	return index, nil
}
