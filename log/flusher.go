package log

import (
	"errors"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// A round writes what the dirty logs have to the commit log, and makes it durable if one of them asks for that.

// job is the part of one log in a round.
type job struct {
	log   *Log
	spans []span
	end   place
	disk  bool
	os    bool
	err   error  // the log was read-only before the round
	first uint64 // lsn of its first chunk in this round; 0 when it has none
	last  uint64 // lsn of its last chunk that may not be durable yet; 0 when all are
	done  bool
}

// queue adds a log to the next round, without waking the flusher. The caller holds the log's lock: a round must find a
// log that says it is queued, because Sync relies on the round that it runs.
func (s *Store) queue(l *Log) {
	s.dirtyMu.Lock()
	s.dirty = append(s.dirty, l)
	s.dirtyMu.Unlock()
}

// queueLocked adds the log to the next round unless it is queued, and reports whether it was not.
func (l *Log) queueLocked() bool {
	if l.queued {
		return false
	}
	l.queued = true
	l.store.queue(l)
	return true
}

// runRoundHere runs a round on the caller's goroutine. It leaves the round to the flusher when that is busy, or when the
// disk is full or has failed.
func (s *Store) runRoundHere() {
	if s.full.Load() || !s.round.TryLock() {
		ring(s.wake)
		return
	}
	if s.failing {
		s.round.Unlock()
		ring(s.wake)
		return
	}
	if s.roundLocked() || !s.timed.Load() {
		ring(s.wake)
	}
}

// flush runs rounds until the store closes. It never delays a round on purpose: while one round waits for the device,
// the logs of the next one collect.
func (s *Store) flush() {
	timer := time.NewTimer(s.options.timers.mark)
	defer timer.Stop()
	stuck := false      // the last round failed; the timer tries again, and on a full disk nothing else does
	tried := time.Now() // when all was well, or the timer tried again
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
			if !stuck || !s.full.Load() {
				stuck = s.runRound()
			}
		case <-timer.C:
			switch {
			case s.full.Load():
				s.retrySpace()
				stuck = s.runRound()
			case stuck:
				stuck = s.runRound()
			default:
				if since := s.sinceSync(); since < s.options.timers.mark { // somebody else ran a round
					timer.Reset(s.options.timers.mark - since)
					continue
				}
				s.timed.Store(false)
				s.markSynced()
				continue // a quiet store has no timer
			}
			tried = time.Now()
		}
		if !stuck && !s.full.Load() {
			tried = time.Now()
		}
		s.timed.Store(true)
		timer.Reset(s.flushDelay(stuck, tried))
	}
}

// sinceSync returns the time since a round was last made durable.
func (s *Store) sinceSync() time.Duration {
	return time.Duration(time.Now().UnixNano() - s.synced.Load())
}

// flushDelay returns when the timer is due. What wakes the flusher meanwhile does not put off the next attempt to get out
// of a failure: state entries come on a full disk, too.
func (s *Store) flushDelay(stuck bool, tried time.Time) time.Duration {
	if stuck || s.full.Load() {
		return max(0, s.options.timers.space-time.Since(tried))
	}
	return s.options.timers.mark
}

// markSynced writes a mark behind the last chunk when the store is quiet.
func (s *Store) markSynced() {
	s.round.Lock()
	defer s.round.Unlock()
	c := s.commits
	if !c.markable() {
		return
	}
	if err := c.mark(); err != nil {
		s.failRoundLocked(nil, err)
	}
}

// retrySpace accepts data again when the reserve can be created, which means that the disk has space. It makes a
// checkpoint, which frees commit log files if there is enough space for the checkpoint itself.
func (s *Store) retrySpace() {
	ring(s.checkpoints)
	s.round.Lock()
	err := s.commits.keepReserve()
	s.round.Unlock()
	if err != nil {
		return
	}
	s.full.Store(false)
	s.logger.Info("disk has space again")
	ring(s.wake)
}

// runRound runs a round and tells the owners of the logs. It reports whether something was left over because the disk is
// full or has failed.
func (s *Store) runRound() (stuck bool) {
	s.round.Lock()
	return s.roundLocked()
}

// roundLocked is runRound for a caller that holds round, which it releases.
func (s *Store) roundLocked() (stuck bool) {
	jobs, before := s.collectLocked(), s.commits.bytes
	wrote, err := s.writeLocked(jobs)
	if n := s.commits.bytes - before; n > 0 {
		s.lastRound.Store(n)
	}
	if err == nil {
		s.publishWritten(jobs)
		err = s.syncLocked(jobs)
	}
	switch {
	case err == nil:
		s.failing = false
		s.publishDurable(jobs)
	case isFull(err), isShort(err):
		stuck = true
		s.logger.Error("commit log waits", "err", err)
		s.postponeLocked(jobs[:wrote], jobs[wrote:])
	default:
		stuck = true
		s.failRoundLocked(jobs, err)
	}
	s.walBytes.Store(s.commits.bytes)
	over := s.commits.bytes > s.options.CommitLogBytes
	low := !s.commits.reserved
	s.round.Unlock()

	for i := range jobs {
		if j := &jobs[i]; j.done || j.err != nil {
			j.log.notify(j.err)
		}
	}
	s.keepJobs(jobs)
	if over {
		ring(s.checkpoints)
	}
	if low {
		s.noteFull()
	}
	return stuck
}

// noteFull makes the store refuse data until retrySpace has created the reserve again.
func (s *Store) noteFull() {
	if !s.full.Swap(true) {
		s.logger.Error("disk is full: refusing data")
		ring(s.wake)
	}
}

// keepJobs keeps the memory of a round's jobs for the next one.
func (s *Store) keepJobs(jobs []job) {
	clear(jobs)
	s.round.Lock()
	defer s.round.Unlock()
	s.jobs = jobs[:0]
}

// collectLocked takes the dirty logs and returns what each has to write.
func (s *Store) collectLocked() []job {
	s.dirtyMu.Lock()
	s.dirty, s.taken = s.taken[:0], s.dirty
	s.dirtyMu.Unlock()
	jobs, spans := s.jobs, s.spans[:0]
	s.jobs = nil
	for i, l := range s.taken {
		s.taken[i] = nil
		var j job
		j, spans = l.job(spans)
		jobs = append(jobs, j)
	}
	s.spans = spans
	return jobs
}

// job returns the log's part of a round, with references of the slabs it needs. The job's spans are appended to spans; all
// is the result.
func (l *Log) job(spans []span) (j job, all []span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j = job{log: l, end: l.next, disk: l.want >= wire.LevelDisk, os: l.wantOS, last: l.lastLsn}
	l.want, l.wantOS, l.queued = 0, false, false
	switch {
	case l.closed:
		j.err = ErrClosed
	case l.failed != nil && l.walNext.index >= l.written.index:
		j.err = l.failed
	default:
		j.err = l.failed
		n := len(spans)
		spans = l.spansLocked(spans, l.walNext.index)
		j.spans = spans[n:len(spans):len(spans)]
	}
	return j, spans
}

// spansLocked appends the spans of the entries from index on, each with a reference of its slab, which the caller
// must release.
func (l *Log) spansLocked(dst []span, index uint64) []span {
	i := len(l.slabs)
	for i > 0 && l.slabs[i-1].end.index > index {
		i--
	}
	for _, s := range l.slabs[i:] {
		p := span{slab: s, to: s.used, start: s.start, end: s.end}
		if s.start.index < index {
			p.from, p.start = s.byIndex(index)
		}
		if p.from == p.to {
			continue
		}
		s.hold()
		dst = append(dst, p)
	}
	return dst
}

// writeLocked writes the chunks of all jobs, and returns how many jobs were written.
func (s *Store) writeLocked(jobs []job) (int, error) {
	c := s.commits
	c.wait = slices.ContainsFunc(jobs, func(j job) bool { return j.disk && j.err == nil })
	if c.redo { // all of it must be in one file
		if err := c.makeRoom(roomFor(jobs)); err != nil {
			return 0, err
		}
	}
	safe := 0 // jobs whose chunks are durable already, because a new file was started behind them
	for i := range jobs {
		j := &jobs[i]
		if len(j.spans) > 0 {
			j.first = c.lsn
		}
		for k := range j.spans {
			p := &j.spans[k]
			file := c.number
			h := chunkHeader{
				kind: chunkEntries, id: j.log.id, first: p.start, next: p.end,
				count: uint32(p.end.index - p.start.index),
			}
			if err := c.append(h, p.bytes()); err != nil {
				return safe, err
			}
			if c.number != file {
				safe = i
			}
			j.last = c.lsn - 1
		}
		j.release()
	}
	if err := c.flush(); err != nil {
		return safe, err
	}
	return safe, c.appear()
}

// roomFor returns the size of the chunks of the jobs in bytes.
func roomFor(jobs []job) (n int64) {
	for i := range jobs {
		for k := range jobs[i].spans {
			h := chunkHeader{length: uint32(len(jobs[i].spans[k].bytes()))}
			n += h.size()
		}
	}
	return n
}

func (j *job) release() {
	releaseSpans(j.spans)
	j.spans = nil
}

// publishWritten advances the written positions. Logs that asked only for that are told before the round waits for the
// device.
func (s *Store) publishWritten(jobs []job) {
	for i := range jobs {
		j := &jobs[i]
		if j.err != nil && j.first == 0 {
			continue
		}
		l := j.log
		l.mu.Lock()
		if l.lowLsn == 0 && j.first != 0 && j.end.index > l.filed.index { // a checkpoint may have come first
			l.lowLsn = j.first
		}
		l.lastLsn = j.last
		l.walNext = later(l.walNext, j.end)
		l.written = later(l.written, j.end)
		l.mu.Unlock()
		j.done = true
		if j.os && j.err == nil {
			l.notify(nil)
		}
	}
}

func later(a, b place) place {
	if b.index > a.index {
		return b
	}
	return a
}

// syncLocked makes the round durable if a job asks for it that is not durable yet.
func (s *Store) syncLocked(jobs []job) error {
	for i := range jobs {
		if j := &jobs[i]; j.err == nil && j.disk && j.last >= s.commits.synced {
			s.syncs.Add(1)
			err := s.commits.sync()
			s.synced.Store(time.Now().UnixNano())
			return err
		}
	}
	return nil
}

func (s *Store) publishDurable(jobs []job) {
	for i := range jobs {
		j := &jobs[i]
		if j.err != nil || j.last >= s.commits.synced {
			continue
		}
		l := j.log
		l.mu.Lock()
		l.durable = later(l.durable, j.end)
		l.mu.Unlock()
	}
}

// postponeLocked gives up the open file on a full disk. The jobs in the files before are durable. The others stay dirty
// and are written when there is space.
func (s *Store) postponeLocked(safe, rest []job) {
	s.noteFull()
	s.commits.giveUp()
	s.publishWritten(safe)
	s.publishDurable(safe)
	for i := range rest {
		j := &rest[i]
		j.release()
		if j.err != nil {
			continue
		}
		j.done = false
		l := j.log
		l.mu.Lock()
		l.want = max(l.want, wire.LevelOS)
		if j.disk {
			l.want = wire.LevelDisk
		}
		l.wantOS = l.wantOS || j.os
		l.queueLocked()
		l.mu.Unlock()
	}
	s.rewriteLocked()
}

// failRoundLocked handles a failed write or fsync. The logs of the round become read-only, because the outcome of their
// appends is unknown. Other logs go on in a new file.
func (s *Store) failRoundLocked(jobs []job, err error) {
	s.logger.Error("commit log failed", "err", err)
	s.failures.Add(1)
	s.commits.giveUp()
	for i := range jobs {
		j := &jobs[i]
		j.release()
		if j.err != nil {
			continue
		}
		j.err = errors.Join(ErrReadOnly, err)
		j.log.fail(j.err)
	}
	s.rewriteLocked()
	if !s.failing { // while the disk keeps failing, only the timer tries again
		s.failing = true
		ring(s.wake)
	}
}

// rewriteLocked makes the next round write again all chunks that were written but never made durable, because after a
// failed fsync the kernel may have dropped them. That includes read-only logs, for the sake of appends that were
// acknowledged at wire.LevelOS. It does not wake the flusher.
func (s *Store) rewriteLocked() {
	for _, l := range s.openLogs() {
		l.mu.Lock()
		if !l.closed && l.durable.index < l.written.index {
			l.walNext = l.durable
			l.want, l.wantOS = max(l.want, wire.LevelOS), true
			l.queueLocked()
		}
		l.lastLsn = 0
		l.mu.Unlock()
	}
}

// Refuse makes the log read-only because its owner cannot read the log's state. The stored state stays as it is:
// Config.State is not called any more.
func (l *Log) Refuse(err error) {
	l.fail(errors.Join(ErrReadOnly, err))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found, l.ready = snapshot{}, false
}

// Suspend makes the log refuse appends until Resume, because its owner could not read the log's state for now. The owner
// may call Replay again. Meanwhile the stored state stays as it is, and Config.State is not called.
func (l *Log) Suspend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = true
}

// Resume ends what Suspend began, when the owner has the state that Replay has read. It returns why the log is read-only
// all the same, or nil.
func (l *Log) Resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = false
	l.replayedLocked()
	return l.failed
}

// fail makes the log read-only.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

// notify calls Config.Notify. The caller holds no lock of this package.
func (l *Log) notify(err error) {
	l.mu.Lock()
	hook, p := l.config.Notify, l.positionsLocked()
	l.mu.Unlock()
	if hook != nil {
		hook(p, err)
	}
}
