package partition

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// SchedulerID is the producer id of what the scheduler publishes. The batches of clients cannot have it.
const SchedulerID = math.MaxUint64

// companion marks the number of a partition's companion log, which holds what will be published to it.
const companion = 1 << 31

// companionSegment is the size of a companion log's segments: its space comes back in such steps.
const companionSegment = 16 << 20

// schedule is what will be published to one partition later.
//
// A batch that is scheduled is in an entry of the companion log, and takes 24 bytes in the index for every 4096
// messages that it has. When it is due
// a fired entry is written, which gives its records their numbers in the stream of the scheduler as an
// idempotent producer; when that is as durable as the topic asks, the batch is published with those
// numbers. After a crash every fired batch whose numbers the partition does not know is published
// again: so each is published exactly once.
type schedule struct {
	target *Partition
	store  *Partition // the companion log, in a partition of its own so that requests can wait for it
	all    *scheduler

	earliest atomic.Int64 // when the first is due; noDue without one
	loaded   atomic.Bool

	mu       sync.Mutex // guards the fields below, and is held from an append to the change of the index
	index    scheduleIndex
	crons    map[uint64]*recurrence // by id
	sequence uint64                 // of the record that is fired next
	body     []byte                 // scratch space: room for a checksum and what is written next

	producers producers // who numbers what is scheduled; its own lock is not used

	// The scheduler's goroutine alone uses the rest.
	round   round
	stuck   []readyBatch // fired, and refused by the partition so far
	retryAt time.Time
	waiting []unconfirmed
	watcher *Watcher
	cut     uint64 // offset up to which the companion log was truncated
	noted   remembered
}

const noDue = math.MaxInt64

// recurrence is when a recurring message is due.
type recurrence struct {
	spec, zone string
	schedule   cron.Schedule
}

// unconfirmed is a number of fired batches that are published, but not as durable as they will be.
type unconfirmed struct {
	low   uint64 // offset of the lowest entry among them
	index uint64 // of the last one in the partition
}

// ScheduleItem is a batch to be published later, each record of which is a message of its own. It is published
// once at Due, in ms since 1970, or whenever Cron says in the time zone, and then has one record.
type ScheduleItem struct {
	Due        int64
	Cron, Zone string
	Batch      *wire.Batch // checked
}

// cronParser reads the five fields of cron, and @hourly and the like.
var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

func newRecurrence(spec, zone string, now time.Time) (*recurrence, error) {
	location := time.UTC
	if zone != "" {
		var err error
		if location, err = time.LoadLocation(zone); err != nil || zone == "Local" {
			return nil, wire.Errorf(wire.CodeInvalid, "time zone %q is not known here; use a name such as Europe/Berlin", zone)
		}
	}
	if len(spec) > 0 && spec[0] != '@' && (spec[0] < '0' || spec[0] > '9') && spec[0] != '*' {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q does not begin with a minute, * or @", spec)
	}
	s, err := cronParser.Parse(spec)
	if err != nil {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q: %v", spec, err)
	}
	r := &recurrence{spec: spec, zone: zone, schedule: inZone{s, location}}
	if r.after(now) == 0 {
		return nil, wire.Errorf(wire.CodeInvalid, "cron %q never comes", spec)
	}
	return r, nil
}

// inZone is a schedule whose fields count in a time zone.
type inZone struct {
	cron.Schedule
	location *time.Location
}

func (z inZone) Next(t time.Time) time.Time { return z.Schedule.Next(t.In(z.location)) }

// after returns when the message is due next after t, 0 for never.
func (r *recurrence) after(t time.Time) int64 {
	next := r.schedule.Next(t)
	if next.IsZero() {
		return 0
	}
	return next.UnixMilli()
}

// scheduleOf returns the partition's schedule, and opens its companion log when it is the first time.
func (p *Partition) scheduleOf() (*schedule, error) {
	if s := p.schedule.Load(); s != nil {
		return s, nil
	}
	p.scheduleMu.Lock()
	defer p.scheduleMu.Unlock()
	if s := p.schedule.Load(); s != nil {
		return s, nil
	}
	s, err := openSchedule(p)
	if err != nil {
		return nil, err
	}
	s.loaded.Store(true) // it is new
	p.schedule.Store(s)
	s.all.add(s)
	return s, nil
}

func companionID(id wire.Identity) wire.Identity {
	id.Partition |= companion
	return id
}

func openSchedule(p *Partition) (*schedule, error) {
	r := p.topic.registry
	store := &Partition{topic: p.topic, number: p.number, id: companionID(p.id), stateLevel: p.stateLevel}
	l, err := r.store.OpenLog(store.id, log.Config{SegmentBytes: companionSegment, Notify: store.notify})
	if err != nil {
		return nil, fmt.Errorf("open the schedule of %s: %w", p, err)
	}
	store.log = l
	s := &schedule{target: p, store: store, all: r.scheduler, crons: map[uint64]*recurrence{}, sequence: p.scheduledNext()}
	s.earliest.Store(noDue)
	s.watcher = NewWatcher(s.all.ring)
	store.Watch(s.watcher)
	return s, nil
}

// ScheduleTime returns the time by which scheduled messages are due.
func (p *Partition) ScheduleTime() time.Time { return p.topic.registry.scheduler.clock.Now() }

// Taken is what became of messages that were scheduled.
type Taken struct {
	First     uint64     // id of the first one; the others follow it, in the order of items and records
	At        *Partition // to be awaited with Reached, and Index, for how durable that is
	Index     uint64
	Duplicate bool // they had been taken before
}

// Schedule has batches published later. pr is the number of the first record, for requests that may be
// sent again; without an ID there is none. The error is a *wire.Error; unless its retry class is
// unknown, nothing was taken.
func (p *Partition) Schedule(items []ScheduleItem, pr wire.Producer) (Taken, error) {
	if err := p.Err(); err != nil {
		return Taken{}, err
	}
	if f := p.Failure(); f != nil {
		return Taken{}, wire.Errorf(wire.CodeReadOnly, "%s refuses writes after a storage failure", p)
	}
	config := p.topic.Config()
	for i := range items {
		if err := items[i].refused(config); err != nil {
			return Taken{}, err
		}
	}
	s, err := p.scheduleOf()
	if err != nil {
		return Taken{}, p.appendError(err)
	}
	if !s.loaded.Load() {
		return Taken{}, wire.Errorf(wire.CodeBusy, "the schedule of %s is being read", p)
	}
	return s.addAll(items, pr, s.all.clock.Now())
}

// refused says why the topic does not take the item.
func (it *ScheduleItem) refused(config *Config) error {
	switch many := it.Batch.Count() > 1; {
	case many && it.Cron != "":
		return wire.Errorf(wire.CodeInvalid, "a recurring message is one record, not %d", it.Batch.Count())
	case many && it.Batch.Codec() != wire.CodecNone:
		return wire.Errorf(wire.CodeInvalid, "records that are published later cannot be compressed together")
	}
	return config.takes(it.Batch)
}

// messages returns how many messages the items have.
func messages(items []ScheduleItem) (n uint64) {
	for i := range items {
		n += uint64(items[i].Batch.Count())
	}
	return n
}

func (s *schedule) addAll(items []ScheduleItem, pr wire.Producer, now time.Time) (Taken, error) {
	crons, err := recurrences(items, now)
	if err != nil {
		return Taken{}, err
	}
	count := messages(items)
	s.mu.Lock()
	defer s.mu.Unlock()
	if pr.ID != 0 {
		before, err := s.producers.check(pr, uint32(count))
		if err != nil {
			return Taken{}, err
		}
		if before != nil {
			return Taken{First: before.base + 1, At: s.store, Index: before.index, Duplicate: true}, nil
		}
	}
	if err := s.all.reserve(count); err != nil {
		return Taken{}, err
	}
	taken := Taken{At: s.store}
	numbers := numberingOf(pr, items)
	for i := 0; i < len(items); {
		n := runLength(items[i:])
		offset, at, err := s.appendLocked(items[i:i+n], &numbers, now)
		if err != nil { // what is in the log of it does not count without the rest
			s.all.pending.Add(-int64(count))
			return Taken{}, err
		}
		if taken.Index = at; i == 0 {
			taken.First = offset + 1
		}
		numbers.before += messages(items[i : i+n])
		i += n
	}
	id := taken.First
	for i := range items {
		if r := crons[i]; r != nil {
			s.crons[id] = r
		}
		n := uint64(items[i].Batch.Count())
		s.index.pushAll(items[i].Due, id, id-1, n)
		id += n
	}
	s.sooner()
	if pr.ID != 0 {
		s.producers.note(pr, uint32(count), taken.First-1, taken.Index)
	}
	return taken, nil
}

// recurrences returns what is said about items that recur, by their place, and sets when they are due
// first.
func recurrences(items []ScheduleItem, now time.Time) (crons map[int]*recurrence, err error) {
	for i := range items {
		if items[i].Cron == "" {
			continue
		}
		r, err := newRecurrence(items[i].Cron, items[i].Zone, now)
		if err != nil {
			return nil, err
		}
		if crons == nil {
			crons = map[int]*recurrence{}
		}
		crons[i] = r
		items[i].Due = r.after(now)
	}
	return crons, nil
}

// appendLocked appends items as one entry.
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

// room returns the scratch space with room for the checksum of what is appended to it.
func (s *schedule) room() []byte { return append(s.body[:0], 0, 0, 0, 0) }

// writeLocked appends what is in body to the companion log, as an entry with so many messages.
func (s *schedule) writeLocked(kind wire.Kind, count uint32, now time.Time) (offset, index uint64, err error) {
	wire.SealPayload(s.body)
	return s.appendEntry(log.Batch{Kind: kind, Count: count, Time: nowMs(now), Payload: s.body})
}

// writeBatchLocked is writeLocked for a body whose end is a batch, which is behind what is in body.
func (s *schedule) writeBatchLocked(batch *wire.Batch, count uint32, now time.Time) (offset, index uint64, err error) {
	wire.SealHead(s.body, batch)
	return s.appendEntry(log.Batch{Kind: wire.KindData, Count: count, Time: nowMs(now), Head: s.body, Payload: batch.Raw()})
}

func (s *schedule) appendEntry(b log.Batch) (offset, index uint64, err error) {
	b.Term = term
	offset, index, err = s.store.log.Append(b)
	if err != nil {
		return 0, 0, s.store.appendError(err)
	}
	return offset, index, nil
}

// CancelScheduled takes back what was scheduled. missing is how many of the ids were not waiting. at and
// index are to be awaited; at is nil when nothing changed.
func (p *Partition) CancelScheduled(ids []uint64) (missing int, at *Partition, index uint64, err error) {
	if err := p.Err(); err != nil {
		return 0, nil, 0, err
	}
	s := p.schedule.Load()
	if s == nil {
		return len(ids), nil, 0, nil
	}
	if !s.loaded.Load() {
		return 0, nil, 0, wire.Errorf(wire.CodeBusy, "the schedule of %s is being read", p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, index, err := s.cancelLocked(ids, s.all.clock.Now())
	if err != nil || n == 0 {
		return len(ids), nil, 0, err
	}
	s.sooner()
	return len(ids) - n, s.store, index, nil
}

// cancelLocked returns how many of the ids were waiting.
func (s *schedule) cancelLocked(ids []uint64, now time.Time) (n int, index uint64, err error) {
	known := s.index.known(ids)
	for _, id := range ids {
		if s.crons[id] != nil && !slices.Contains(known, id) { // it will be back for the next time
			return 0, 0, wire.Errorf(wire.CodeBusy, "scheduled message %d is being published", id)
		}
	}
	if len(known) == 0 {
		return 0, 0, nil
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

// sooner publishes when the first one is due, and wakes the scheduler when that is earlier than before.
// The caller holds mu.
func (s *schedule) sooner() {
	due := int64(noDue)
	if f := s.index.first(); f != nil {
		due = f.due
	}
	if before := s.earliest.Swap(due); due < before {
		s.all.ring()
	}
}

// ScheduledBatch is one message that waits to be published, in a batch.
type ScheduledBatch struct {
	ID         uint64
	Due        int64 // ms since 1970
	Cron, Zone string
	Batch      []byte // encoded
}

// Scheduled returns the messages that wait to be published behind one of a due time and id, in the order
// in which they are due: at most limit, and about maxBytes of them. With an id it returns that one
// alone. total is how many wait. It may wait for the disk, so it must not be called on an event loop.
func (p *Partition) Scheduled(id uint64, afterDue int64, afterID uint64, limit, maxBytes int) (list []ScheduledBatch, total int, err error) {
	if err := p.Err(); err != nil {
		return nil, 0, err
	}
	s := p.schedule.Load()
	if s == nil {
		return nil, 0, nil
	}
	if !s.loaded.Load() {
		return nil, 0, wire.Errorf(wire.CodeBusy, "the schedule of %s is being read", p)
	}
	items, total := s.some(id, scheduled{due: afterDue, id: afterID}, limit)
	r := scheduleReader{s: s}
	defer r.release()
	size := 0
	for _, it := range items {
		if size > maxBytes {
			break
		}
		e, batch, err := r.read(it)
		if err != nil {
			continue // damaged, or published in between
		}
		list = append(list, ScheduledBatch{
			ID: it.id, Due: it.due, Cron: string(e.cron), Zone: string(e.zone), Batch: slices.Clone(batch.Raw()),
		})
		size += len(batch.Raw())
	}
	return list, total, nil
}

func (s *schedule) some(id uint64, last scheduled, limit int) (items []scheduled, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 {
		return s.index.after(last, limit), s.index.waits
	}
	if i := s.index.find(id); i >= 0 {
		items = append(items, s.index.item(i).slice(id, id+1))
	}
	return items, s.index.waits
}
