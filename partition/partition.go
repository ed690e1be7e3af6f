package partition

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// term is the term of every entry: a broker without a cluster has no elections.
const term = 1

// Partition is one ordered log of a topic together with the state of its consumers.
type Partition struct {
	topic  *Topic
	number uint16
	id     wire.Identity
	log    *log.Log // nil when another broker owns the partition

	damaged atomic.Bool // the stored state of consumers and producers is unreadable; failure says why
	passing bool        // that was a failure of reading when the partition was opened

	opened uint64 // next offset when the partition was opened

	// stateLevel is the durability that commits and settlements reach before they are answered.
	stateLevel wire.Level

	watchMu  sync.Mutex // held while watchers is replaced
	watchers atomic.Pointer[[]*Watcher]

	failure atomic.Pointer[wire.Error] // why writes are refused until the broker restarts: a storage failure or deletion

	raised atomic.Bool   // the topic's level was raised: Visible notes in shown what it returns, and never returns less
	shown  atomic.Uint64 // the highest offset that Visible has returned since

	mu      sync.Mutex // guards the fields below; held from append to apply, so that state entries apply in order
	state   *group.State
	counted int                 // part of Registry.groups
	tracked int64               // part of Registry.inFlight
	reasons int64               // part of Registry.reasons
	short   bool                // a queue may have got fewer messages because of Options.MaxInFlight
	burying bool                // the burial goroutine has p, or will get it
	dropped uint64              // index of the last entry that dropped a group, or of the last one that was found at the start
	command []byte              // scratch space for commands
	payload []byte              // scratch space for entries
	keys    []uint64            // scratch space for the hashes of keys
	heirs   map[string]struct{} // groups and queues that a new partition has inherited, until a client uses the name here

	seenFirst uint64    // start of the log that state was truncated to; used by the timer goroutine only
	expireAt  time.Time // no expiry of leases before, because the log has refused one; used by the timer goroutine only
	forgetAt  time.Time // when to look for outdated message ids; used by the timer goroutine only
	doubt     bool      // some dead letters may already be in their topics; used by the burial goroutine only

	producers producers
	expiring  atomic.Bool // some record has, or had, a time to live
	latest    latest

	scheduleMu sync.Mutex               // held while schedule is opened
	schedule   atomic.Pointer[schedule] // nil until something is scheduled

	publishedBytes    atomic.Uint64
	deliveredMessages atomic.Uint64
	deliveredBytes    atomic.Uint64
	ackedMessages     atomic.Uint64
	redelivered       atomic.Uint64
	deadLettered      atomic.Uint64
	lostUndelivered   atomic.Uint64
	deduplicated      atomic.Uint64
	expired           atomic.Uint64
}

// Topic returns the partition's topic.
func (p *Partition) Topic() *Topic { return p.topic }

// Number returns the partition's number in its topic.
func (p *Partition) Number() uint16 { return p.number }

// Identity returns the identity that the checksum of every entry of this partition covers.
func (p *Partition) Identity() wire.Identity { return p.id }

// Err returns why the partition cannot be used on this broker, or nil when it can: another broker owns
// it, the topic was deleted, or the stored state of its consumers is unreadable. A partition that only
// refuses writes is usable.
func (p *Partition) Err() error {
	if p.log == nil {
		return p.topic.registry.notOwner(p)
	}
	if f := p.failure.Load(); f != nil && (p.damaged.Load() || f.Code == wire.CodeTopicDeleted) {
		return f
	}
	return nil
}

// Failure returns the storage failure or deletion that ended writing, or nil when there was none. The
// outcome of entries that were not durable at that moment is unknown.
func (p *Partition) Failure() error {
	if f := p.failure.Load(); f != nil {
		return f
	}
	return nil
}

// Publish appends a checked batch and returns the offset of its first record and the index of its entry.
// It copies the batch. The entry is in memory then: Flush makes it durable, Reached tells when it is. A
// batch that an idempotent producer sent before is a duplicate, and so is a single record whose message
// id is known: it is not appended, and base is that of the first copy. The error is a *wire.Error and
// means that nothing was appended.
func (p *Partition) Publish(b *wire.Batch, nowMs int64) (base, index uint64, duplicate bool, err error) {
	if p.log == nil {
		return 0, 0, false, p.Err()
	}
	if err := p.topic.Config().accepts(b); err != nil {
		return 0, 0, false, err
	}
	if b.TTL() != 0 && !p.expiring.Load() {
		p.expiring.Store(true)
	}
	if b.Producer().ID == SchedulerID {
		return 0, 0, false, wire.Errorf(wire.CodeInvalid, "producer %x is the broker itself", b.Producer().ID)
	}
	if b.Producer().ID == 0 && !b.HasIDs() {
		base, index, err = p.append(b, nowMs)
		return base, index, false, err
	}
	p.producers.mu.Lock()
	defer p.producers.mu.Unlock()
	return p.publishOnce(b, nowMs)
}

// accepts returns a *wire.Error for a batch that the topic cannot treat as configured: on a compacted
// topic a record without a key, which compaction could never remove; with a dedupe window a compressed
// batch, whose message ids cannot be read. It does not open compressed batches.
func (c *Config) accepts(b *wire.Batch) error {
	switch compressed := b.Codec() != wire.CodecNone; {
	case compressed && b.HasIDs() && c.DedupeWindow > 0:
		return wire.Errorf(wire.CodeInvalid, "messages with ids cannot be compressed on a topic with a dedupe window")
	case compressed || !c.Compact:
		return nil
	}
	for rec, err := range b.Records() {
		if err != nil {
			return wire.Errorf(wire.CodeCorruptBatch, "%v", err)
		}
		if rec.Key == nil {
			return wire.Errorf(wire.CodeInvalid, "a message on a compacted topic needs a key")
		}
	}
	return nil
}

// publishOnce is Publish for a batch with a producer or message ids, which may be stored already. The
// caller holds producers.mu.
func (p *Partition) publishOnce(b *wire.Batch, nowMs int64) (base, index uint64, duplicate bool, err error) {
	ps, pr := &p.producers, b.Producer()
	if pr.ID != 0 {
		switch stored, err := ps.check(pr, b.Count()); {
		case err != nil:
			return 0, 0, false, err
		case stored != nil:
			return stored.base, stored.index, true, nil
		}
	}
	window := p.topic.Config().DedupeWindow.Milliseconds()
	deduped := b.HasIDs() && window > 0 && b.Codec() == wire.CodecNone
	if deduped {
		known, again, err := ps.ids.find(b, nowMs, window)
		switch {
		case err != nil:
			return 0, 0, false, err
		case again != nil:
			return 0, 0, false, wire.Errorf(wire.CodeDuplicate, "message id %q stands twice in the batch", again)
		case known != nil && b.Count() > 1:
			e := wire.Errorf(wire.CodeDuplicate, "a message of the batch was stored at offset %d", known.offset)
			e.First, e.Next = known.offset, known.offset+1
			return 0, 0, false, e
		case known != nil:
			index = known.index
			if pr.ID != 0 {
				if index, err = p.use(pr, b.Count(), known.offset, nowMs); err != nil {
					return 0, 0, false, err
				}
			}
			p.deduplicated.Add(1)
			return known.offset, index, true, nil
		}
	}
	if base, index, err = p.append(b, nowMs); err != nil {
		return 0, 0, false, err
	}
	if pr.ID != 0 {
		ps.note(pr, b.Count(), base, index)
	}
	if deduped {
		first := ps.ids.next == 0
		if ps.ids.note(b, base, index, nowMs); first && ps.ids.next > 0 {
			p.topic.registry.timer.add(p)
		}
	}
	return base, index, false, nil
}

func (p *Partition) append(b *wire.Batch, nowMs int64) (base, index uint64, err error) {
	base, index, err = p.log.Append(log.Batch{
		Kind: wire.KindData, Count: b.Count(), Term: term, Time: nowMs, Payload: b.Raw(),
	})
	if err != nil {
		return 0, 0, p.appendError(err)
	}
	p.publishedBytes.Add(uint64(len(b.Raw())))
	if p.topic.Config().Level <= wire.LevelMemory {
		p.moved()
	}
	return base, index, nil
}

// PublishRun is Publish for a run of checked plain batches: without a producer, message ids or a time to
// live, for a topic that is not compacted. It appends them in order under one lock. It returns the offset
// of the first record and how many batches were appended; err, a *wire.Error, says why the one after
// those was not.
func (p *Partition) PublishRun(run log.Run, nowMs int64) (base uint64, n int, err error) {
	if p.log == nil {
		return 0, 0, p.Err()
	}
	base, n, err = p.log.AppendRun(run, term, nowMs)
	size := 0
	for _, p := range run.Payloads[:n] {
		size += len(p)
	}
	p.publishedBytes.Add(uint64(size))
	if p.topic.Config().Level <= wire.LevelMemory {
		p.moved()
	}
	if err != nil {
		return base, n, p.appendError(err)
	}
	return base, n, nil
}

// Flush asks for everything appended so far to reach the level, and returns at once. Watchers fire when
// it has.
func (p *Partition) Flush(level wire.Level) { p.log.Flush(level) }

// FlushHere is Flush on the caller's goroutine when the flusher is idle: then it waits for the device, and
// watchers fire before it returns. When the flusher is busy, FlushHere is Flush.
func (p *Partition) FlushHere(level wire.Level) { p.log.FlushHere(level) }

// Reached reports whether the entry at index has reached the level.
func (p *Partition) Reached(index uint64, level wire.Level) bool {
	switch pos := p.log.Positions(); {
	case level <= wire.LevelMemory:
		return index < pos.NextIndex
	case level == wire.LevelOS:
		return index < pos.WrittenIndex
	default:
		return index < pos.DurableIndex
	}
}

// First returns the lowest offset that is still stored.
func (p *Partition) First() uint64 { return p.log.Positions().First }

// Next returns the offset that the next record will get.
func (p *Partition) Next() uint64 { return p.log.Positions().Next }

// Visible returns the offset below which consumers may read. It never goes back.
func (p *Partition) Visible() uint64 {
	visible := visibleAt(p.log.Positions(), p.topic.Config().Level)
	if p.raised.Load() { // the last look: see keepVisible
		return p.show(visible)
	}
	return visible
}

func visibleAt(pos log.Positions, level wire.Level) uint64 {
	switch level {
	case wire.LevelNone, wire.LevelMemory:
		return pos.Next
	case wire.LevelOS:
		return pos.Written
	default:
		return pos.Durable
	}
}

// show raises shown to an offset, and returns the result.
func (p *Partition) show(visible uint64) uint64 {
	for {
		shown := p.shown.Load()
		if visible <= shown {
			return shown
		}
		if p.shown.CompareAndSwap(shown, visible) {
			return visible
		}
	}
}

// keepVisible is called before the topic's level is raised. What consumers have seen by then stays visible, because
// they have committed it or go on behind it. A call of Visible that does not find raised set has read positions that
// are not beyond those that keepVisible reads.
func (p *Partition) keepVisible() {
	p.raised.Store(true)
	p.Visible()
}

// Read fills c with whole visible entries, from the one that holds offset on: at most maxBytes, but at
// least one entry. c stays empty when nothing is visible there. Entries whose time to live is over are
// left out; c.Next is behind them, even when none is left. The error is log.ErrCold when the entries are
// no longer in memory, for which there is ReadCold, and otherwise a *wire.Error. The caller must Release c.
func (p *Partition) Read(c *log.Chunk, offset uint64, maxBytes int) error {
	return p.countExpired(c, p.read(c, offset, maxBytes))
}

// read is Read for what is not delivered.
func (p *Partition) read(c *log.Chunk, offset uint64, maxBytes int) error {
	if err := p.log.Read(c, offset, p.Visible(), maxBytes); err != nil {
		return p.readError(offset, err)
	}
	p.dropExpired(c)
	return nil
}

// ReadCached is Read for entries that are no longer in memory, when they can be had without waiting for the disk. Otherwise
// the error is log.ErrCold again.
func (p *Partition) ReadCached(c *log.Chunk, offset uint64, maxBytes int) error {
	if err := p.log.ReadCached(c, offset, p.Visible(), maxBytes); err != nil {
		return err
	}
	p.dropExpired(c)
	return p.countExpired(c, nil)
}

// ReadCold is Read for entries that may be on the disk only. It waits for the disk, so it must not be
// called on an event loop.
func (p *Partition) ReadCold(c *log.Chunk, offset uint64, maxBytes int) error {
	return p.countExpired(c, p.readCold(c, offset, maxBytes))
}

// readCold is ReadCold for what is not delivered.
func (p *Partition) readCold(c *log.Chunk, offset uint64, maxBytes int) error {
	if err := p.log.ReadCold(c, offset, p.Visible(), maxBytes); err != nil {
		return p.readError(offset, err)
	}
	p.dropExpired(c)
	return nil
}

// dropExpired removes the entries from c whose time to live is over.
func (p *Partition) dropExpired(c *log.Chunk) {
	if !p.expiring.Load() {
		return
	}
	now := nowMs(p.topic.registry.opts.Now())
	c.Keep(func(e *wire.Entry) bool {
		batch, err := wire.ViewBatch(e.Payload)
		return err != nil || batch.TTL() == 0 || e.Time+batch.TTL() > now
	})
}

// countExpired counts the records that a read has left out, and returns its error.
func (p *Partition) countExpired(c *log.Chunk, err error) error {
	if err == nil {
		p.expired.Add(uint64(c.Dropped))
	}
	return err
}

// CountDelivered adds to the partition's delivery counters.
func (p *Partition) CountDelivered(messages, bytes int) {
	p.deliveredMessages.Add(uint64(messages))
	p.deliveredBytes.Add(uint64(bytes))
}

// Locate returns the offset that a position stands for. groupName is used for PositionCommitted only. For
// PositionTime it may wait for the disk. The error is a *wire.Error.
func (p *Partition) Locate(pos wire.Position, groupName string) (uint64, error) {
	first, visible := p.First(), p.Visible()
	switch pos.Kind {
	case wire.PositionFirst:
		return first, nil
	case wire.PositionEnd:
		return visible, nil
	case wire.PositionLast:
		return max(first, visible-min(1, visible)), nil
	case wire.PositionTime:
		offset, err := p.log.OffsetAt(int64(pos.Value))
		if err != nil {
			return 0, p.readError(first, err)
		}
		return min(offset, visible), nil
	case wire.PositionCommitted:
		if c, ok := p.Committed(groupName); ok {
			return max(c.Offset, first), nil
		}
		return first, nil
	default:
		if pos.Value > visible {
			return 0, outOfRange(pos.Value, first, visible)
		}
		return pos.Value, nil
	}
}

// info describes the partition to clients.
func (p *Partition) info() wire.PartitionInfo {
	if p.log == nil {
		return wire.PartitionInfo{Status: wire.StatusForeign}
	}
	pos, stats := p.log.Positions(), p.log.Stats()
	info := wire.PartitionInfo{
		First: pos.First, Visible: p.Visible(), Next: pos.Next, Bytes: uint64(stats.Bytes),
	}
	switch {
	case stats.ReadOnly:
		info.Status = wire.StatusReadOnly
	case stats.Full:
		info.Status = wire.StatusFull
	}
	return info
}

// Stats are the partition's counters since the broker started, and the figures of its log.
type Stats struct {
	PublishedMessages, PublishedBytes uint64
	DeliveredMessages, DeliveredBytes uint64
	AckedMessages                     uint64 // acknowledged or discarded on queues, or passed by commits of groups
	Redelivered                       uint64 // leased again after their first attempt
	DeadLettered                      uint64 // copied to a dead-letter topic
	LostUndelivered                   uint64 // removed by retention before a queue was done with them
	Deduplicated                      uint64 // not stored because their message id was known
	Expired                           uint64 // left out of a read because their time to live was over
	Log                               log.LogStats
}

// Stats returns a snapshot of the counters.
func (p *Partition) Stats() Stats {
	if p.log == nil {
		return Stats{}
	}
	return Stats{
		Log:               p.log.Stats(),
		PublishedMessages: p.Next() - p.opened, PublishedBytes: p.publishedBytes.Load(),
		DeliveredMessages: p.deliveredMessages.Load(), DeliveredBytes: p.deliveredBytes.Load(),
		AckedMessages: p.ackedMessages.Load(), Redelivered: p.redelivered.Load(),
		DeadLettered: p.deadLettered.Load(), LostUndelivered: p.lostUndelivered.Load(),
		Deduplicated: p.deduplicated.Load(), Expired: p.expired.Load(),
	}
}

// notify is called by the log when its positions moved, and with an error when the storage failed.
func (p *Partition) notify(_ log.Positions, err error) {
	if err != nil {
		p.fail(&wire.Error{
			Code: wire.CodeStorage, Retry: wire.RetryUnknown,
			Detail: "the storage of " + p.String() + " failed: " + err.Error(),
		})
		return
	}
	p.moved()
}

// fail ends writing. The first reason stays, except that deletion replaces any other.
func (p *Partition) fail(e *wire.Error) {
	if e.Code == wire.CodeTopicDeleted {
		p.failure.Store(e)
	} else {
		p.failure.CompareAndSwap(nil, e)
	}
	p.moved()
}

// appendError translates an error of log.Log.Append, which means that nothing was appended.
func (p *Partition) appendError(err error) *wire.Error {
	switch {
	case errors.Is(err, log.ErrFull):
		return wire.Errorf(wire.CodeStorageFull, "no room for %s; reads go on", p)
	case errors.Is(err, log.ErrBusy):
		return wire.Errorf(wire.CodeBusy, "%s: the disk is behind, send again later", p)
	case errors.Is(err, log.ErrReadOnly):
		if f := p.failure.Load(); f != nil && p.damaged.Load() {
			return f
		}
		return wire.Errorf(wire.CodeReadOnly, "%s refuses writes after a storage failure; reads go on", p)
	case errors.Is(err, log.ErrClosed):
		if f := p.failure.Load(); f != nil {
			return f
		}
		return wire.Errorf(wire.CodeShutdown, "the broker is shutting down")
	case errors.Is(err, log.ErrPayload):
		return wire.Errorf(wire.CodeTooLarge, "%s: %v", p, err)
	default:
		return wire.Errorf(wire.CodeInternal, "append to %s: %v", p, err)
	}
}

// readError translates an error of log.Log.Read at offset. It returns ErrCold as it is.
func (p *Partition) readError(offset uint64, err error) error {
	var corrupt *log.CorruptError
	switch {
	case errors.Is(err, log.ErrCold):
		return err
	case errors.As(err, &corrupt):
		return &wire.Error{
			Code: wire.CodeCorruptRange, First: corrupt.First, Next: corrupt.Next,
			Detail: p.String() + ": " + corrupt.Error(),
		}
	case errors.Is(err, log.ErrTruncated), errors.Is(err, log.ErrOutOfRange):
		return outOfRange(offset, p.First(), p.Visible())
	case errors.Is(err, log.ErrClosed):
		return p.appendError(err)
	default:
		return wire.Errorf(wire.CodeInternal, "read %s: %v", p, err)
	}
}

func outOfRange(offset, first, next uint64) *wire.Error {
	e := wire.Errorf(wire.CodeOffsetOutOfRange, "offset %d is outside [%d, %d]", offset, first, next)
	e.First, e.Next = first, next
	return e
}

// nowMs returns t in the log's unit: milliseconds since 1970.
func nowMs(t time.Time) int64 { return t.UnixMilli() }
