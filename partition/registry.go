package partition

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/group"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// Options configures a Registry. The zero value of a field means its default.
type Options struct {
	// Defaults are topic settings that replace the built-in ones for topics that do not set them.
	Defaults []wire.Setting
	// Partitions is the number of partitions of a topic that is created without a number. Default 1.
	Partitions int
	// MaxPartitions bounds the partitions of all topics together. Default 10,000.
	MaxPartitions int
	// Own and Total make this broker the owner of partition Own of every topic, out of Total partitions.
	// With a Total of 0 it owns all partitions.
	Own, Total int
	// MaxScheduled bounds the scheduled messages of all topics together. Default 10,000,000.
	MaxScheduled int
	// MaxGroups bounds the groups, queues and pauses of all partitions together. Default 1,000,000.
	MaxGroups int
	// MaxInFlight bounds the messages of all queues together that are neither done nor fresh. At that number a queue
	// leases fresh ones only while it has less than 16. Default 10,000,000.
	MaxInFlight int
	// Fired is called after a scheduled batch was published; late is the time since it was due. Fired may
	// keep b's bytes, and must not modify them. Fired must not block. May be nil.
	Fired func(t *Topic, b *wire.Batch, late time.Duration)
	// Now is the clock. nil means time.Now.
	Now func() time.Time
	// Logger receives the events of topics. nil means silence.
	Logger *slog.Logger
}

// defaultMaxPartitions is the number that a node is designed for: each partition costs memory even when idle.
const defaultMaxPartitions = 10_000

// defaultMaxGroups keeps what all partitions remember of groups below 500 MB, with the longest names.
const defaultMaxGroups = 1_000_000

// defaultMaxInFlight keeps what all queues remember of messages at about 520 MB, and their part of a checkpoint below
// 256 MiB, both without the reasons of dead letters, for which see allReasons.
const defaultMaxInFlight = 10_000_000

// Registry holds every topic of a broker. It is safe for concurrent use.
type Registry struct {
	store    *log.Store
	meta     *log.Log
	opts     Options
	defaults Config
	durable  bool // there is a data directory
	logger   *slog.Logger

	byName atomic.Pointer[map[string]*Topic] // replaced under mu, read without a lock
	bound  *bindings

	mu         sync.Mutex // held during every change of the set of topics, with its wait for the disk; guards partitions
	partitions int        // of all topics

	askedMu sync.Mutex // guards asked
	asked   []*creation

	dataMu sync.Mutex // guards data; held from append to apply; locked after mu
	data   *metadata

	groups   atomic.Int64 // groups, queues and pauses of all partitions; see Partition.countLocked
	inFlight atomic.Int64 // messages of all queues that are neither done nor fresh; likewise
	reasons  atomic.Int64 // bytes of the reasons of dead letters that are not stored yet; likewise
	timer    queueTimer

	stop chan struct{}
	wg   sync.WaitGroup
	dead chan *Partition // partitions with dead letters to bury

	scheduler  *scheduler
	companions map[wire.Identity]bool // companion logs that existed when the broker started
}

// Open reads the topics of a store, opens their logs, and starts the goroutines that run timers, burials and
// schedules. durable says that the store has a data directory. The Registry does not close the store.
func Open(store *log.Store, durable bool, o Options) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Partitions = cmp.Or(o.Partitions, 1)
	o.MaxPartitions = cmp.Or(o.MaxPartitions, defaultMaxPartitions)
	o.MaxScheduled = cmp.Or(o.MaxScheduled, defaultMaxScheduled)
	o.MaxGroups = cmp.Or(o.MaxGroups, defaultMaxGroups)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, defaultMaxInFlight)
	if o.Total > 0 {
		o.Partitions = o.Total
	}
	if o.Total < 0 || o.Own < 0 || o.Total > 0 && o.Own >= o.Total {
		return nil, fmt.Errorf("partition: partition %d of %d does not exist", o.Own, o.Total)
	}
	if o.Partitions < 1 || o.Partitions > wire.MaxPartitions {
		return nil, fmt.Errorf("partition: %d default partitions, 1 to %d are possible", o.Partitions, wire.MaxPartitions)
	}
	base := defaultConfig()
	if !durable {
		base.Level = wire.LevelMemory
	}
	defaults, err := base.with(o.Defaults)
	if err != nil {
		return nil, err
	}
	if defaults.Subjects != "" {
		return nil, wire.Errorf(wire.CodeInvalid, "subjects cannot be a default: no subject belongs to two topics")
	}
	r := &Registry{
		store: store, opts: o, defaults: defaults, durable: durable, logger: o.Logger,
		timer: newQueueTimer(o.Now), bound: newBindings(), companions: map[wire.Identity]bool{},
		stop: make(chan struct{}), dead: make(chan *Partition, o.MaxPartitions),
	}
	r.scheduler = newScheduler(&r.opts)
	if err := r.checkLevel(defaults); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	r.wg.Go(func() { r.timer.run(r.stop) })
	r.wg.Go(r.runBurials)
	r.wg.Go(func() { r.scheduler.run(r.stop) })
	r.wg.Go(func() { r.retry(r.unread()) })
	return r, nil
}

// Close stops the goroutines that Open started, and waits for them. The owner of the store flushes and closes
// it afterwards.
func (r *Registry) Close() {
	close(r.stop)
	r.wg.Wait()
}

// load opens the metadata log and every topic in it, and finishes interrupted deletions.
func (r *Registry) load() error {
	meta, err := r.store.OpenLog(wire.Identity{}, log.Config{State: r.metaState})
	if err != nil {
		return fmt.Errorf("open topic metadata: %w", err)
	}
	r.meta = meta
	if r.data, err = replayMetadata(meta); err != nil {
		return err
	}
	for _, id := range r.store.Logs() {
		if id.Partition&companion != 0 {
			r.companions[id] = true
		}
	}
	topics := map[string]*Topic{}
	for _, rec := range r.data.Topics {
		id, err := uuid.Parse(rec.ID)
		if err != nil {
			return fmt.Errorf("topic %q in the metadata: %w", rec.Name, err)
		}
		if rec.Deleting {
			r.finishDeletion(id, rec)
			continue
		}
		t, err := r.openTopic(id, rec)
		if err != nil {
			return err
		}
		topics[t.name] = t
		r.partitions += rec.Partitions
		if rec.Before > 0 {
			r.resumeGrowth(t, rec)
		}
	}
	r.byName.Store(&topics)
	for _, t := range topics {
		r.bound.add(t, t.Config())
	}
	r.reportOrphans()
	return nil
}

// retry tries again what could not be done, until the registry closes: to read the state of partitions, and to finish
// deletions.
func (r *Registry) retry(unread []*Partition) {
	tick := time.NewTicker(loadRetry)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		unread = slices.DeleteFunc(unread, r.reread)
		r.finishDeletions()
	}
}

// finishDeletions finishes the deletions that have failed.
func (r *Registry) finishDeletions() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dataMu.Lock()
	left := slices.DeleteFunc(slices.Collect(maps.Values(r.data.Topics)), func(rec *record) bool { return !rec.Deleting })
	r.dataMu.Unlock()
	for _, rec := range left {
		r.finishDeletion(uuid.MustParse(rec.ID), rec)
	}
}

// finishDeletion removes what a crash or a failure left of a deleted topic, once the mark of the deletion is durable: a
// power cut could undo it before. When that fails, as it may on a full disk, retry tries again; the topic stays
// invisible.
func (r *Registry) finishDeletion(id uuid.UUID, rec *record) {
	err := flushError(r.meta.Sync())
	if err == nil {
		err = r.removeLogs(id, rec.Partitions)
	}
	if err == nil {
		err = r.change(change{Deleted: rec.ID})
	}
	if err != nil {
		r.logger.Warn("the deletion of a topic is not finished", "topic", rec.Name, "err", err)
	}
}

// reportOrphans logs the names of logs on the disk that belong to no topic. They are left alone, because an
// operator may want their contents.
func (r *Registry) reportOrphans() {
	known := map[[16]byte]bool{{}: true}
	for _, t := range *r.byName.Load() {
		known[t.id] = true
	}
	for _, id := range r.store.Logs() {
		if !known[id.Topic] {
			r.logger.Warn("data of an unknown topic left alone", "topic", uuid.UUID(id.Topic).String(), "partition", id.Partition)
		}
	}
}

func (r *Registry) openTopic(id uuid.UUID, rec *record) (*Topic, error) {
	c, err := rec.config()
	if err != nil {
		return nil, err
	}
	t := r.newTopic(id, rec.Name, &c)
	t.before = rec.Before
	return t, r.grow(t, rec.Partitions)
}

// newTopic returns a topic without partitions.
func (r *Registry) newTopic(id uuid.UUID, name string, c *Config) *Topic {
	t := &Topic{registry: r, name: name, id: id}
	t.config.Store(c)
	t.parts.Store(&[]*Partition{})
	return t
}

// grow opens partitions until t has n of them.
func (r *Registry) grow(t *Topic, n int) error {
	parts := slices.Clone(t.Partitions())
	for i := len(parts); i < n; i++ {
		p, err := r.openPartition(t, i)
		if err != nil {
			return err
		}
		parts = append(parts, p)
	}
	t.parts.Store(&parts)
	return nil
}

func (r *Registry) openPartition(t *Topic, number int) (*Partition, error) {
	p := &Partition{
		topic: t, number: uint16(number), state: group.New(), stateLevel: wire.LevelMemory,
		id: wire.Identity{Topic: t.id, Partition: uint32(number)},
	}
	if r.durable {
		p.stateLevel = wire.LevelDisk
	}
	if r.opts.Total > 0 && number != r.opts.Own {
		return p, nil
	}
	l, err := r.store.OpenLog(p.id, p.logConfig())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	p.log, p.opened = l, l.Positions().Next
	switch err := p.replay(); {
	case errors.Is(err, group.ErrVersion):
		return nil, fmt.Errorf("open %s: %w", p, newer(err))
	case err != nil:
		p.setAside(err)
		return p, nil
	}
	p.beginLocked() // nobody else has it yet
	return p, r.reopenSchedule(p)
}

// reopenSchedule opens the partition's companion log if there is one. The scheduler's goroutine reads it later.
func (r *Registry) reopenSchedule(p *Partition) error {
	if !r.companions[companionID(p.id)] {
		return nil
	}
	s, err := openSchedule(p)
	if err != nil {
		return err
	}
	p.schedule.Store(s)
	r.scheduler.add(s)
	return nil
}

func (p *Partition) logConfig() log.Config {
	c := p.topic.Config()
	lc := log.Config{
		Retention: c.Retention, SegmentBytes: c.SegmentBytes, SegmentAge: c.SegmentAge,
		Compact: c.Compact, TombstoneAge: c.TombstoneRetention,
		Notify: p.notify, State: p.snapshot,
	}
	if c.Compact { // the latest record of every key is kept for ever
		lc.Retention = log.Retention{}
	}
	return lc
}

// metaState returns a snapshot of the metadata and the index of the last entry in it, for checkpoints.
func (r *Registry) metaState() ([]byte, uint64) {
	r.dataMu.Lock()
	defer r.dataMu.Unlock()
	blob, err := json.Marshal(r.data)
	if err != nil {
		panic("partition: metadata cannot be encoded: " + err.Error())
	}
	return blob, r.meta.Positions().NextIndex - 1
}

// change appends a change of the metadata, applies it, and waits until it is on the disk. The caller holds mu,
// except during load.
func (r *Registry) change(c change) error {
	if err := r.appendChange(c); err != nil {
		return err
	}
	return flushError(r.meta.Sync())
}

// flushError returns err, the result of a flush, as a *wire.Error; nil stays nil.
func flushError(err error) error {
	if err == nil {
		return nil
	}
	return wire.Errorf(wire.CodeStorage, "flush: %v", err)
}

// syncAll waits until everything appended to the partitions so far is as durable as this broker can make it. Other
// partitions may have failed.
func syncAll(parts []*Partition) error {
	for _, p := range parts {
		if p.log != nil {
			p.Flush(wire.LevelDisk) // of all together
		}
	}
	for _, p := range parts {
		if p.log == nil {
			continue
		}
		if err := flushError(p.log.Sync()); err != nil {
			return err
		}
	}
	return nil
}

// appendChange is change without the wait for the disk.
func (r *Registry) appendChange(c change) error {
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	r.dataMu.Lock()
	defer r.dataMu.Unlock()
	_, _, err = r.meta.Append(log.Batch{
		Kind: wire.KindConfig, Term: term, Time: nowMs(r.opts.Now()), Payload: wire.AppendPayload(nil, body),
	})
	if err != nil {
		return wire.Errorf(wire.CodeStorage, "change the topic metadata: %v", err)
	}
	r.data.apply(c)
	return nil
}

// Topic returns the topic with this name, or nil. It takes no lock.
func (r *Registry) Topic(name string) *Topic { return (*r.byName.Load())[name] }

// Topics returns all topics in the order of their names. The slice belongs to the caller.
func (r *Registry) Topics() []*Topic {
	return slices.SortedFunc(maps.Values(*r.byName.Load()), func(a, b *Topic) int { return cmp.Compare(a.name, b.name) })
}

// Defaults returns the configuration of a topic that is created without settings.
func (r *Registry) Defaults() Config { return r.defaults }

// Alter changes a topic's settings and, when partitions is not 0, raises its number of partitions. It returns
// when the change is on the disk and, with a higher level, when everything stored is. New partitions start with the
// groups and queues of the others.
func (r *Registry) Alter(name string, partitions int, changes []wire.Setting) (*Topic, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.Topic(name)
	if t == nil {
		return nil, r.NotFound(name)
	}
	c, err := t.Config().with(changes)
	if err != nil {
		return nil, err
	}
	if err := r.checkLevel(c); err != nil {
		return nil, err
	}
	have := len(t.Partitions())
	partitions = cmp.Or(partitions, have)
	if err := r.checkGrowth(t, partitions); err != nil {
		return nil, err
	}
	if err := r.checkSubjects(*r.byName.Load(), nil, name, &c); err != nil {
		return nil, err
	}
	parts, inherited, err := r.extend(t, partitions)
	if err != nil {
		return nil, err
	}
	rec := recordOf(t.id, name, partitions, c)
	if rec.Before = t.before; rec.Before == 0 && partitions > have {
		rec.Before = have
	}
	if err := r.put(t, rec, &c); err != nil {
		r.keep(t)
		return nil, err
	}
	unbound := r.bound.add(t, &c)
	raised := t.configure(&c, parts)
	r.bound.remove(unbound)
	if partitions > have {
		t.parts.Store(&parts)
		r.partitions += partitions - have
	}
	if err := r.finishGrowth(t, rec, inherited); err != nil {
		return t, err
	}
	if raised {
		return t, syncAll(parts)
	}
	return t, nil
}

// put makes rec, which has the configuration c, the metadata of t, and waits until it is on the disk. A full disk may have
// room for it only when a lower retention has removed what it no longer keeps.
func (r *Registry) put(t *Topic, rec *record, c *Config) error {
	if err := r.appendChange(change{Put: rec}); err != nil {
		return err
	}
	before, parts := t.Config(), t.Partitions()
	flushed := r.meta.Sync()
	if errors.Is(flushed, log.ErrFull) && isLower(c.Retention, before.Retention) {
		lower := *before
		lower.Retention = c.Retention
		t.configure(&lower, parts)
		t.retain()
		if flushed = r.meta.Sync(); flushed != nil {
			t.configure(before, parts)
		}
	}
	return flushError(flushed)
}

// isLower reports whether a keeps less than b by any of the limits.
func isLower(a, b log.Retention) bool {
	return a.Age > 0 && (b.Age == 0 || a.Age < b.Age) || a.Bytes > 0 && (b.Bytes == 0 || a.Bytes < b.Bytes) ||
		a.Count > 0 && (b.Count == 0 || a.Count < b.Count)
}

// retain enforces retention at once. It needs no space.
func (t *Topic) retain() {
	err := t.truncate(t.Partitions(), (*Partition).First) // removes nothing itself, and then what retention says
	if err != nil {
		t.registry.logger.Warn("enforce a lower retention on a full disk", "topic", t.name, "err", err)
	}
}

// truncate removes the records in front of what before returns for each partition, from all of them together.
func (t *Topic) truncate(parts []*Partition, before func(p *Partition) uint64) error {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p *Partition) bool { return p.log == nil })
	cuts := make([]log.Cut, len(parts))
	for i, p := range parts {
		cuts[i] = log.Cut{Log: p.log, Before: before(p)}
	}
	err := t.registry.store.Truncate(cuts...)
	for _, p := range parts {
		p.truncated()
	}
	return err
}

// configure gives t and its partitions another configuration. It reports whether that raises the level: then what is
// visible may have to be flushed.
func (t *Topic) configure(c *Config, parts []*Partition) (raised bool) {
	raised = c.Level > t.Config().Level
	for _, p := range parts {
		if raised && p.log != nil {
			p.keepVisible()
		}
	}
	t.config.Store(c)
	for _, p := range parts {
		if p.log != nil {
			p.log.SetConfig(p.logConfig())
			p.moved() // a lower level may make more visible
		}
	}
	return raised
}

// Delete removes a topic and its data, and returns when that is on the disk. On a full disk it may refuse, and the topic
// stays. When the storage of the metadata fails, the topic is gone until a restart, which finds out whether it is gone
// for good.
func (r *Registry) Delete(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.Topic(name)
	if t == nil {
		return r.NotFound(name)
	}
	id := uuid.UUID(t.id).String()
	if err := r.appendChange(change{Deleting: id}); err != nil {
		return err
	}
	flushed := r.meta.Sync()
	if errors.Is(flushed, log.ErrFull) { // what is to be deleted has to make the space
		t.empty()
		flushed = r.meta.Sync()
	}
	if flushed = flushError(flushed); flushed != nil && r.keep(t) {
		return flushed
	}
	// Even if the flush failed for good: a restart may find the deletion, so nothing may be stored in the topic any more.
	r.withdraw(t)
	t.deleted.Store(true)
	r.partitions -= len(t.Partitions())
	for _, p := range t.Partitions() {
		deleted := wire.Errorf(wire.CodeTopicDeleted, "topic %q was deleted", name)
		p.fail(deleted)
		p.mu.Lock()
		p.countLocked()
		p.mu.Unlock()
		p.endSchedule(deleted)
	}
	if flushed != nil {
		return flushed
	}
	if err := r.removeLogs(t.id, len(t.Partitions())); err != nil {
		return wire.Errorf(wire.CodeStorage, "delete topic %q: %v", name, err)
	}
	r.logger.Info("topic deleted", "topic", name)
	return r.change(change{Deleted: id})
}

// empty removes all records of the topic, also those that are not visible yet. It needs no space.
func (t *Topic) empty() {
	if err := t.truncate(t.Partitions(), func(p *Partition) uint64 { return p.log.Positions().Next }); err != nil {
		t.registry.logger.Warn("empty a topic that is deleted", "topic", t.name, "err", err)
	}
}

// keep puts a topic back into the metadata as it is, after a change of it that could not be flushed. It returns false when
// that is impossible, because the storage of the metadata has failed. On a full disk both entries are written when there
// is space. A restart that finds only the first one loses nothing: whatever was stored later is behind both.
func (r *Registry) keep(t *Topic) bool {
	return r.appendChange(change{Put: t.record()}) == nil
}

// record returns the metadata record of the topic as it is. The caller holds Registry.mu.
func (t *Topic) record() *record {
	rec := recordOf(t.id, t.name, len(t.Partitions()), *t.Config())
	rec.Before = t.before
	return rec
}

// removeLogs removes the logs of a topic's partitions and their companion logs, and what a growth that failed left behind.
func (r *Registry) removeLogs(id [16]byte, partitions int) error {
	ids := slices.DeleteFunc(r.store.Logs(), func(l wire.Identity) bool {
		return l.Topic != id || l.Partition&^companion < uint32(partitions)
	})
	for i := range partitions {
		if r.opts.Total > 0 && i != r.opts.Own {
			continue
		}
		main := wire.Identity{Topic: id, Partition: uint32(i)}
		ids = append(ids, main, companionID(main))
	}
	return r.store.RemoveLogs(ids...)
}

// Purge removes the records below an offset from one partition, or from all with wire.AnyPartition, and
// returns when that is on the disk. Records that are not visible yet stay.
func (r *Registry) Purge(name string, partition uint16, before uint64) error {
	t := r.Topic(name)
	if t == nil {
		return r.NotFound(name)
	}
	if partition != wire.AnyPartition && t.Partition(partition) == nil {
		return NoPartition(t, partition)
	}
	parts := t.Partitions()
	if partition != wire.AnyPartition {
		parts = parts[partition : partition+1]
	}
	if err := t.truncate(parts, func(p *Partition) uint64 { return min(before, p.Visible()) }); err != nil {
		return wire.Errorf(wire.CodeStorage, "purge topic %q: %v", name, err)
	}
	return nil
}

// withdraw makes t invisible: it replaces the map of topics by one without t. The caller holds mu.
func (r *Registry) withdraw(t *Topic) {
	next := maps.Clone(*r.byName.Load())
	delete(next, t.name)
	r.byName.Store(&next)
	r.bound.remove(r.bound.of[t])
	delete(r.bound.of, t)
}

// checkLevel refuses what needs a data directory when there is none.
func (r *Registry) checkLevel(c Config) error {
	if !r.durable && c.Level > wire.LevelMemory {
		return wire.Errorf(wire.CodeUnsupported,
			"durability %s needs a data directory; this broker keeps data in memory only", c.Level)
	}
	if !r.durable && c.Compact {
		return wire.Errorf(wire.CodeUnsupported, "compaction needs a data directory; this broker keeps data in memory only")
	}
	return nil
}

// checkPartitions refuses to give a topic that has have partitions want of them when that is over a limit. The
// caller holds mu.
func (r *Registry) checkPartitions(have, want int) error {
	if want < 1 || want > wire.MaxPartitions {
		return wire.Errorf(wire.CodeInvalid, "a topic has 1 to %d partitions, not %d", wire.MaxPartitions, want)
	}
	if r.opts.Total > 0 && want != r.opts.Total {
		return wire.Errorf(wire.CodeInvalid,
			"this broker owns partition %d of %d: topics have %d partitions", r.opts.Own, r.opts.Total, r.opts.Total)
	}
	if total := r.partitions + want - have; total > r.opts.MaxPartitions {
		return wire.Errorf(wire.CodeLimit,
			"the broker has room for %d partitions; this would make %d", r.opts.MaxPartitions, total)
	}
	return nil
}

// checkGrowth refuses to give t want partitions when it has more, or when that is over a limit. The caller holds mu.
func (r *Registry) checkGrowth(t *Topic, want int) error {
	have := len(t.Partitions())
	if want < have {
		return wire.Errorf(wire.CodeInvalid, "the number of partitions of topic %q is %d, and can only grow", t.name, have)
	}
	return r.checkPartitions(have, want)
}

// MaxLevel returns the highest durability this broker can reach.
func (r *Registry) MaxLevel() wire.Level {
	if r.durable {
		return wire.LevelDisk
	}
	return wire.LevelMemory
}

// NotFound returns the error for a topic that does not exist.
func (r *Registry) NotFound(name string) *wire.Error {
	return wire.Errorf(wire.CodeTopicNotFound, "topic %q does not exist", name)
}

// NoPartition returns the error for a partition number that a topic does not have.
func NoPartition(t *Topic, number uint16) *wire.Error {
	return wire.Errorf(wire.CodePartitionNotFound,
		"topic %q has partitions 0 to %d, not %d", t.name, len(t.Partitions())-1, number)
}

func (r *Registry) notOwner(p *Partition) *wire.Error {
	return wire.Errorf(wire.CodeNotOwner,
		"this broker owns partition %d of %d; %s belongs to another broker", r.opts.Own, r.opts.Total, p)
}
