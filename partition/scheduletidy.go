package partition

import (
	"cmp"
	"slices"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// tidyBytes is the size from which a companion log is tidied. A smaller one is not worth a write.
	tidyBytes = companionSegment
	// sparse is how many messages a companion log may span for each that waits, and how many bytes for each of theirs.
	// Beyond it, the oldest that wait are copied to the end, so that the space around them can be given back. Once the
	// whole log was gone through, less than a third as much was copied as is given back.
	sparse = 4
	// copyBytes bounds what is copied before the scheduler looks for what is due. The last item may exceed it.
	copyBytes = 4 << 20
)

// tidyAll tidies every companion log, and returns after how long to do that again.
func (sc *scheduler) tidyAll(now time.Time) (pause time.Duration) {
	pause = tidyEvery
	for _, s := range sc.schedules() {
		if s.loaded.Load() && s.target.Err() == nil && s.tidy(now) {
			pause = tidyAgain
		}
	}
	return pause
}

// tidy gives back the space of messages that were published or cancelled. It reports whether there is more to copy for
// that.
func (s *schedule) tidy(now time.Time) (more bool) {
	for len(s.waiting) > 0 && s.target.Reached(s.waiting[0].index, s.level()) {
		s.waiting = s.waiting[1:]
	}
	held := s.store.log.Stats().Bytes
	if held < tidyBytes {
		return false
	}
	if s.isSparse(held) {
		more = s.copyForward(now)
	}
	low, _ := s.low()
	if low == s.cut || s.store.log.BytesBelow(low) < held/4 {
		return more
	}
	below, ok := s.noteProducers()
	if !ok {
		return more // tried again the next time
	}
	s.noted = notedProducers{}
	low = min(low, below)
	if err := s.store.log.TruncatePrefix(low); err != nil {
		s.all.logger.Warn("companion log keeps what is done",
			"topic", s.target.topic.name, "partition", s.target.number, "err", err)
		return false
	}
	s.cut = low
	return more
}

// isSparse reports whether a log of held bytes spans too much for what waits.
func (s *schedule) isSparse(held int64) bool {
	low, next := s.low()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index.messages == 0 || low < s.index.low() { // what is published right now needs the log, too
		return false
	}
	return next-low > sparse*(uint64(s.index.messages)+atPage) || held > sparse*(s.index.bytes+tidyBytes)
}

// low returns an offset below which nothing is needed, for many messages at most a page lower than necessary, and the
// next offset.
func (s *schedule) low() (low, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = s.store.Next()
	low = min(next, s.index.low())
	for _, w := range s.waiting {
		low = min(low, w.low)
	}
	for _, b := range s.stuck {
		low = min(low, b.of.at())
	}
	return max(low, s.cut), next
}

// copyForward copies messages that wait in the lowest page to the end of the companion log, about copyBytes of them. It
// returns false when that fails.
func (s *schedule) copyForward(now time.Time) bool {
	r := scheduleReader{s: s}
	defer r.release()
	copied := 0
	for _, it := range s.lowest() {
		e, batch, err := r.read(it.scheduled)
		if err != nil || !s.copyOne(it, e, &batch, now) {
			return false
		}
		if copied += len(batch.Raw()); copied >= copyBytes {
			break
		}
	}
	return true
}

// placed is an item with its position in the heap.
type placed struct {
	scheduled
	position int
}

// lowest returns the items in the lowest page.
func (s *schedule) lowest() (items []placed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := s.index.low() / atPage
	for i := range s.index.n {
		if it := s.index.item(i); it.at()/atPage == page {
			items = append(items, placed{*it, i})
		}
	}
	slices.SortFunc(items, func(a, b placed) int { return cmp.Compare(a.place, b.place) }) // as they are read
	return items
}

// copyOne copies an item and points the index to the copy. It returns false when the log refuses.
func (s *schedule) copyOne(it placed, e *scheduledEntry, batch *wire.Batch, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index.findAt(it.position, it.id)
	if i < 0 || s.index.item(i).count() != it.count() {
		return true // all or some of it was cancelled meanwhile; the rest is copied the next time
	}
	copied := scheduledEntry{id: it.id, count: it.count(), due: s.index.item(i).due, cron: e.cron, zone: e.zone}
	s.body = copied.appendHead(s.room())
	offset, _, err := s.writeBatchLocked(batch, uint32(it.count()), now)
	if err != nil {
		return false
	}
	s.index.move(i, offset)
	return true
}
