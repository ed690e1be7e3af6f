package partition

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// SchedulerID is the producer id of the batches that the scheduler publishes. Clients cannot use it.
const SchedulerID = math.MaxUint64

// companion is the bit that marks the partition number of a companion log: the log of the messages that are scheduled
// for a partition.
const companion = 1 << 31

// companionSegment is the size of a companion log's segments. Space is given back in such steps.
const companionSegment = 16 << 20

// schedule holds the messages that will be published to one partition later.
//
// A scheduled batch is stored in an entry of the companion log. In memory it takes 24 bytes of the index for up to
// 4096 messages. When a batch is due, a fired entry is logged. It gives the records of the batch their sequence numbers
// in the stream of the scheduler, which is an idempotent producer. When the fired entry is on the disk,
// the batch is published with those numbers. After a crash, every fired batch whose numbers the partition does
// not have is published again. So each is published exactly once.
type schedule struct {
	target *Partition
	store  *Partition // the companion log as a partition, so that requests can wait for it as for any other
	all    *scheduler

	earliest atomic.Int64               // when the first message is due, in ms since 1970; noDue when none waits
	loaded   atomic.Bool                // the index is complete; until then requests are refused
	failed   atomic.Pointer[wire.Error] // why the index will not be complete

	mu       sync.Mutex // guards the fields below; held from an append until the index is changed
	index    scheduleIndex
	crons    map[uint64]*recurrence // by message id
	firing   map[uint64]struct{}    // ids of recurring messages that are fired and not published yet
	sequence uint64                 // sequence number of the record that is fired next
	body     []byte                 // scratch space for an entry: a checksum and its content

	producers producers // clients that number what they schedule; its own lock is not used

	// Only the scheduler's goroutine uses the fields below.
	round   round
	stuck   []readyBatch // fired, and refused by the partition so far
	retryAt time.Time    // no round before
	waiting []unconfirmed
	watcher *Watcher
	cut     uint64 // first offset that truncation left in the companion log
	noted   notedProducers
}

// noDue is the due time of an empty schedule.
const noDue = math.MaxInt64

// unconfirmed is a round of batches that are published, but not yet as durable as the topic asks.
type unconfirmed struct {
	low   uint64 // lowest offset in the companion log among them
	index uint64 // index in the partition of the last one
}

// ScheduleItem is a batch to be published later. Every record is a message of its own. Without Cron the batch is
// published once, at Due. With Cron it has one record, which is published whenever Cron says.
type ScheduleItem struct {
	Due   int64       // in ms since 1970; Schedule sets it when there is a Cron
	Cron  string      // five fields, or a name such as @hourly
	Zone  string      // time zone of Cron; empty means UTC
	Batch *wire.Batch // checked
}

// scheduleOf returns the partition's schedule. The first call opens its companion log. The error is a *wire.Error.
func (p *Partition) scheduleOf() (*schedule, error) {
	if s := p.schedule.Load(); s != nil {
		return s, nil
	}
	p.scheduleMu.Lock()
	defer p.scheduleMu.Unlock()
	if s := p.schedule.Load(); s != nil {
		return s, nil
	}
	if err := p.Err(); err != nil { // a companion log that is made now would outlive the topic
		return nil, err
	}
	s, err := openSchedule(p)
	if err != nil {
		return nil, p.appendError(err)
	}
	s.loaded.Store(true) // its log is new and empty
	p.schedule.Store(s)
	s.all.add(s)
	return s, nil
}

// ready returns why requests are refused, or nil.
func (s *schedule) ready() error {
	if s.loaded.Load() {
		return nil
	}
	if e := s.failed.Load(); e != nil {
		return e
	}
	return wire.Errorf(wire.CodeBusy, "the schedule of %s is being read", s.target)
}

// ScheduleFailure returns why the scheduled messages of p are not published, or nil.
func (p *Partition) ScheduleFailure() error {
	if s := p.schedule.Load(); s != nil {
		if e := s.failed.Load(); e != nil {
			return e
		}
	}
	return nil
}

// endSchedule ends the schedule of a partition whose topic is deleted. None is opened later.
func (p *Partition) endSchedule(deleted *wire.Error) {
	p.scheduleMu.Lock() // one that is being opened has to be removed, too
	s := p.schedule.Load()
	p.scheduleMu.Unlock()
	if s != nil {
		s.store.fail(deleted)
	}
}

func companionID(id wire.Identity) wire.Identity {
	id.Partition |= companion
	return id
}

// openSchedule opens the companion log of p. Its messages are not loaded.
func openSchedule(p *Partition) (*schedule, error) {
	r := p.topic.registry
	store := &Partition{topic: p.topic, number: p.number, id: companionID(p.id), stateLevel: p.stateLevel}
	l, err := r.store.OpenLog(store.id, log.Config{SegmentBytes: companionSegment, Notify: store.notify})
	if err != nil {
		return nil, fmt.Errorf("open the schedule of %s: %w", p, err)
	}
	store.log = l
	s := &schedule{
		target: p, store: store, all: r.scheduler, crons: map[uint64]*recurrence{},
		firing: map[uint64]struct{}{}, sequence: p.scheduledNext(),
	}
	s.earliest.Store(noDue)
	s.watcher = NewWatcher(s.all.ring)
	store.Watch(s.watcher)
	return s, nil
}

// ScheduleTime returns the time by which scheduled messages are due.
func (p *Partition) ScheduleTime() time.Time { return p.topic.registry.scheduler.clock.Now() }

// ScheduleResult is the outcome of Schedule.
type ScheduleResult struct {
	First     uint64     // id of the first message; the ids of the others follow, in the order of items and records
	At        *Partition // with Index: At.Reached(Index, level) tells how durable the messages are
	Index     uint64
	Duplicate bool // an earlier request with the same numbers scheduled them
}

// Schedule stores batches to be published later. pr numbers the first record, so that a request may be sent again; a
// pr without an ID numbers nothing. Schedule does not keep items or their batches. The error is a *wire.Error; unless
// its retry class is RetryUnknown, nothing was scheduled.
func (p *Partition) Schedule(items []ScheduleItem, pr wire.Producer) (ScheduleResult, error) {
	if err := p.Err(); err != nil {
		return ScheduleResult{}, err
	}
	if f := p.Failure(); f != nil {
		return ScheduleResult{}, wire.Errorf(wire.CodeReadOnly, "%s refuses writes after a storage failure", p)
	}
	config := p.topic.Config()
	for i := range items {
		if err := items[i].check(config); err != nil {
			return ScheduleResult{}, err
		}
	}
	s, err := p.scheduleOf()
	if err != nil {
		return ScheduleResult{}, err
	}
	if err := s.ready(); err != nil {
		return ScheduleResult{}, err
	}
	return s.addAll(items, pr, s.all.clock.Now())
}

// maxScheduledBatch is the largest batch that can be published later. The companion log adds the time to it, with a
// cron expression and the numbers of the request up to 600 bytes, and the scheduler its own numbers.
const maxScheduledBatch = wire.MaxFrameBytes - 640

// check returns why the topic does not accept the item, or nil.
func (it *ScheduleItem) check(config *Config) error {
	switch many := it.Batch.Count() > 1; {
	case many && it.Cron != "":
		return wire.Errorf(wire.CodeInvalid, "a recurring message is one record, not %d", it.Batch.Count())
	case many && it.Batch.Codec() != wire.CodecNone:
		return wire.Errorf(wire.CodeInvalid, "records that are published later cannot be compressed together")
	case len(it.Batch.Raw()) > maxScheduledBatch:
		return wire.Errorf(wire.CodeTooLarge, "a batch that is published later has at most %d bytes", maxScheduledBatch)
	}
	return config.accepts(it.Batch)
}

// countMessages returns how many messages the items have.
func countMessages(items []ScheduleItem) (n uint64) {
	for i := range items {
		n += uint64(items[i].Batch.Count())
	}
	return n
}

// addAll logs the items, in as few entries as possible, and adds them to the index.
func (s *schedule) addAll(items []ScheduleItem, pr wire.Producer, now time.Time) (ScheduleResult, error) {
	crons, err := s.all.zones.recurrences(items, now)
	if err != nil {
		return ScheduleResult{}, err
	}
	count := countMessages(items)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.target.Err(); err != nil { // drop may have counted what waits for the last time
		return ScheduleResult{}, err
	}
	if pr.ID != 0 {
		before, err := s.producers.check(pr, uint32(count))
		if err != nil {
			return ScheduleResult{}, err
		}
		if before != nil {
			return ScheduleResult{First: before.base + 1, At: s.store, Index: before.index, Duplicate: true}, nil
		}
	}
	if err := s.all.reserve(count); err != nil {
		return ScheduleResult{}, err
	}
	result := ScheduleResult{At: s.store}
	numbers := numberingOf(pr, items)
	for i := 0; i < len(items); {
		n := runLength(items[i:])
		offset, at, err := s.appendLocked(items[i:i+n], &numbers, now)
		if err != nil { // entries that are in the log already do not count without the rest
			s.all.pending.Add(-int64(count))
			return ScheduleResult{}, err
		}
		if result.Index = at; i == 0 {
			result.First = offset + 1
		}
		numbers.before += countMessages(items[i : i+n])
		i += n
	}
	s.indexLocked(items, crons, result.First)
	if pr.ID != 0 {
		s.producers.note(pr, uint32(count), result.First-1, result.Index)
	}
	return result, nil
}

// indexLocked adds items that were logged to the index. Their messages have the ids from id on.
func (s *schedule) indexLocked(items []ScheduleItem, crons map[int]*recurrence, id uint64) {
	for i := range items {
		if r := crons[i]; r != nil {
			s.crons[id] = r
		}
		n := uint64(items[i].Batch.Count())
		s.index.pushAll(items[i].Due, id, id-1, n, len(items[i].Batch.Raw()))
		id += n
	}
	s.updateEarliestLocked()
}

// appendLocked logs items as one entry, and returns the offset of the first message and the index of the entry.
func (s *schedule) appendLocked(items []ScheduleItem, numbers *numbering, now time.Time) (offset, index uint64, err error) {
	room := numbers.append(s.room())
	if len(items) > 1 {
		s.body = appendRun(room, items)
		return s.writeLocked(wire.KindData, uint32(len(items)), now)
	}
	it := &items[0]
	e := scheduledEntry{count: uint64(it.Batch.Count()), due: it.Due, cron: []byte(it.Cron), zone: []byte(it.Zone)}
	s.body = e.appendHead(room)
	return s.writeBatchLocked(it.Batch, it.Batch.Count(), now)
}

// room returns the scratch space, empty but for the room of an entry's checksum.
func (s *schedule) room() []byte { return append(s.body[:0], 0, 0, 0, 0) }

// writeLocked appends an entry with s.body to the companion log. count is the number of messages in it.
func (s *schedule) writeLocked(kind wire.Kind, count uint32, now time.Time) (offset, index uint64, err error) {
	wire.SealPayload(s.body)
	return s.appendEntry(log.Batch{Kind: kind, Count: count, Time: nowMs(now), Payload: s.body})
}

// writeBatchLocked is writeLocked for an entry that consists of s.body and a batch behind it.
func (s *schedule) writeBatchLocked(batch *wire.Batch, count uint32, now time.Time) (offset, index uint64, err error) {
	wire.SealHead(s.body, batch)
	return s.appendEntry(log.Batch{Kind: wire.KindData, Count: count, Time: nowMs(now), Head: s.body, Payload: batch.Raw()})
}

// appendEntry appends b to the companion log. Errors are of type *wire.Error.
func (s *schedule) appendEntry(b log.Batch) (offset, index uint64, err error) {
	b.Term = term
	offset, index, err = s.store.log.Append(b)
	if err != nil {
		return 0, 0, s.store.appendError(err)
	}
	return offset, index, nil
}

// CancelScheduled cancels scheduled messages. missing is how many of the ids were not waiting. at.Reached(index, level)
// tells how durable all of that is: of a missing message, that it is published or cancelled. at is nil when nothing was
// ever scheduled here. The error is a *wire.Error, CodeBusy while one of the messages is being published and will be
// due again.
func (p *Partition) CancelScheduled(ids []uint64) (missing int, at *Partition, index uint64, err error) {
	if err := p.Err(); err != nil {
		return 0, nil, 0, err
	}
	s := p.schedule.Load()
	if s == nil {
		return len(ids), nil, 0, nil
	}
	if err := s.ready(); err != nil {
		return 0, nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, index, err := s.cancelLocked(ids, s.all.clock.Now())
	if err != nil {
		return len(ids), nil, 0, err
	}
	s.updateEarliestLocked()
	return len(ids) - n, s.store, index, nil
}

// cancelLocked cancels those of the ids that wait, and returns how many they were and the index of the last entry that
// has to do with them.
func (s *schedule) cancelLocked(ids []uint64, now time.Time) (n int, index uint64, err error) {
	known := s.index.known(ids)
	for _, id := range ids {
		_, firing := s.firing[id] // the partition may refuse it for a while, on a full disk
		if firing || s.crons[id] != nil && !slices.Contains(known, id) {
			return 0, 0, wire.Errorf(wire.CodeBusy, "scheduled message %d is being published", id)
		}
	}
	if len(known) == 0 { // an earlier cancel may not be durable yet
		return 0, s.store.log.Positions().NextIndex - 1, nil
	}
	s.body = appendCancelled(s.room(), known)
	if _, index, err = s.writeLocked(wire.KindState, 0, now); err != nil {
		return 0, 0, err
	}
	s.index.drop(known)
	for _, id := range known {
		delete(s.crons, id)
	}
	s.all.pending.Add(-int64(len(known)))
	return len(known), index, nil
}

// updateEarliestLocked sets earliest from the index, and wakes the scheduler when that is sooner than before.
func (s *schedule) updateEarliestLocked() {
	due := int64(noDue)
	if f := s.index.first(); f != nil {
		due = f.due
	}
	if before := s.earliest.Swap(due); due < before {
		s.all.ring()
	}
}

// ScheduledBatch is one message that waits to be published, in a batch of its own.
type ScheduledBatch struct {
	ID         uint64
	Due        int64 // in ms since 1970
	Cron, Zone string
	Batch      []byte // encoded; belongs to the receiver
}

// Scheduled lists messages that wait to be published, in the order of due time and id. With an id it returns that
// message alone. Otherwise it starts behind the message with afterDue and afterID, and returns at most limit messages
// of together at most maxBytes, or one that is larger. total is the number of all that wait. It may wait for the disk,
// so it must not be called on an event loop.
func (p *Partition) Scheduled(
	id uint64, afterDue int64, afterID uint64, limit, maxBytes int,
) (list []ScheduledBatch, total int, err error) {
	if err := p.Err(); err != nil {
		return nil, 0, err
	}
	s := p.schedule.Load()
	if s == nil {
		return nil, 0, nil
	}
	if err := s.ready(); err != nil {
		return nil, 0, err
	}
	items, total := s.page(id, scheduled{due: afterDue, id: afterID}, limit)
	r := scheduleReader{s: s}
	defer r.release()
	size := 0
	for _, it := range items {
		e, batch, err := r.read(it)
		if err != nil {
			continue // damaged, or published meanwhile
		}
		size += len(e.cron) + len(e.zone) + len(batch.Raw())
		if len(list) > 0 && size > maxBytes {
			break
		}
		list = append(list, ScheduledBatch{
			ID: it.id, Due: it.due, Cron: string(e.cron), Zone: string(e.zone), Batch: slices.Clone(batch.Raw()),
		})
	}
	return list, total, nil
}

// page returns the message with an id or, when that is 0, at most limit messages behind last.
func (s *schedule) page(id uint64, last scheduled, limit int) (items []scheduled, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 {
		return s.index.after(last, limit), s.index.messages
	}
	if i := s.index.find(id); i >= 0 {
		items = append(items, s.index.item(i).slice(id, id+1))
	}
	return items, s.index.messages
}
