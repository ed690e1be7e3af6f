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
	// sparse is how many messages a companion log may span for each that waits. Beyond it, the oldest that wait are
	// copied to the end, so that the space around them can be given back.
	sparse = 4
)

// tidyAll tidies every companion log.
func (sc *scheduler) tidyAll(now time.Time) {
	for _, s := range sc.schedules() {
		if s.loaded.Load() && s.target.Err() == nil {
			s.tidy(now)
		}
	}
}

// tidy gives back the space of messages that were published or cancelled.
func (s *schedule) tidy(now time.Time) {
	for len(s.waiting) > 0 && s.target.Reached(s.waiting[0].index, s.level()) {
		s.waiting = s.waiting[1:]
	}
	if s.store.log.Stats().Bytes < tidyBytes {
		return
	}
	low, next := s.low()
	if next-low > sparse*(uint64(s.size())+atPage) {
		s.copyForward(now)
		low, next = s.low()
	}
	if low == s.cut || low-s.cut < (next-s.cut)/4 {
		return
	}
	below, ok := s.noteProducers()
	if !ok {
		return // tried again the next time
	}
	s.noted = notedProducers{}
	low = min(low, below)
	if err := s.store.log.TruncatePrefix(low); err != nil {
		s.all.logger.Warn("companion log keeps what is done",
			"topic", s.target.topic.name, "partition", s.target.number, "err", err)
		return
	}
	s.cut = low
}

// size returns how many messages wait.
func (s *schedule) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.messages
}

// low returns an offset below which nothing is needed, at most a page lower than necessary, and the next offset.
func (s *schedule) low() (low, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	low = s.store.Next()
	next = low
	if page, n := s.index.low(); n > 0 {
		low = min(low, page*atPage)
	}
	for _, w := range s.waiting {
		low = min(low, w.low)
	}
	for _, b := range s.stuck {
		low = min(low, b.of.at())
	}
	return max(low, s.cut), next
}

// copyForward copies the messages that wait in the lowest page to the end of the companion log.
func (s *schedule) copyForward(now time.Time) {
	r := scheduleReader{s: s}
	defer r.release()
	for _, it := range s.lowest() {
		e, batch, err := r.read(it.scheduled)
		if err != nil || !s.copyOne(it, e, &batch, now) {
			return
		}
	}
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
	page, _ := s.index.low()
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
