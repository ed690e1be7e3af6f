package client

import (
	"slices"
	"sync"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

const (
	// maxLaterFlight is how many requests of scheduled messages a partition has on their way.
	maxLaterFlight = 4
	// maxLaterItems bounds the items of one request.
	maxLaterItems = 1000
)

// later is the way of messages to one partition that are published later: they gather while requests
// are on their way. Their order is that of their due times, so nothing here keeps one.
type later struct {
	lane *lane

	mu      sync.Mutex // guards the fields below
	open    *laterBatch
	queue   []*laterBatch // to be sent: those with a number first, in its order
	flight  []*laterBatch // in the order in which they were sent
	stream  wire.Producer // number of the item that is sent next; apart from that of the lane
	fresh   bool          // nothing of the stream was taken yet, so the broker would begin it at any number
	gap     bool          // a number was not used: go on with another epoch
	all     []*laterBatch // that are not finished
	paused  bool          // a timer will go on
	pauser  pauser
	gone    error
	headers wire.Headers  // memory for encoding
	free    []*laterBatch // finished ones, for their memory
}

// laterBatch is messages that are scheduled by one request. Those that follow each other and are due together
// are one item.
type laterBatch struct {
	level     wire.Level
	items     []byte // encoded, but for the last one
	closed    int    // of them
	last      wire.ScheduleItem
	kind      batchKind              // of the last item
	builder   wire.BatchBuilder      // its messages
	count     int                    // of messages
	done      []func(Receipt, error) // one per message, or nil; those behind the last one may be missing
	size      int                    // bytes taken from the budget
	producer  wire.Producer          // of the first message; no ID before it is sent, and without numbers
	topicID   [16]byte               // of the topic that it was sent to first
	uncertain bool                   // it may have been taken, and only its number can tell
	giveUp    time.Time              // when sending again ends; zero before the first refusal
	rebound   bool
	flushes   []*flush
}

// isLater reports whether m is published later.
func (m *Message) isLater() bool { return m.Delay != 0 || !m.At.IsZero() || m.Cron != "" }

// schedule returns m as it is scheduled, without its batch.
func (t *topic) schedule(m *Message) (it wire.ScheduleItem, err error) {
	switch {
	case m.Delay != 0 && !m.At.IsZero(), m.Cron != "" && (m.Delay != 0 || !m.At.IsZero()):
		return it, t.invalid("Delay, At and Cron exclude each other")
	case m.Zone != "" && m.Cron == "":
		return it, t.invalid("a time zone is for Cron")
	case m.Delay < 0 || wholeMs(m.Delay) > wire.MaxScheduleMs:
		return it, t.invalid("a delay of %v, possible is up to ten years", m.Delay)
	case len(m.Cron) > wire.MaxCronBytes || len(m.Zone) > wire.MaxCronBytes:
		return it, t.tooLarge("cron expression", max(len(m.Cron), len(m.Zone)), wire.MaxCronBytes)
	case m.Cron != "":
		return wire.ScheduleItem{Kind: wire.ScheduleCron, Spec: []byte(m.Cron), Zone: []byte(m.Zone)}, nil
	case m.Delay != 0:
		return wire.ScheduleItem{Kind: wire.ScheduleDelay, Ms: wholeMs(m.Delay)}, nil
	}
	at := m.At.UnixMilli()
	if m.At.After(time.UnixMilli(at)) {
		at++ // not early
	}
	return wire.ScheduleItem{Kind: wire.ScheduleAt, Ms: at}, nil
}

// addLater copies m and sends what can leave. It returns false when the topic was dropped.
func (l *lane) addLater(m *Message, it wire.ScheduleItem, kind batchKind, size int, done func(Receipt, error)) bool {
	q := l.laterLane()
	if kind.level == wire.LevelNone {
		kind.level = wire.LevelMemory // its id is the answer
	}
	ok, leaves := q.add(m, it, kind, size, done)
	if leaves {
		q.kick()
	}
	return ok
}

func (l *lane) laterLane() *later {
	if q := l.later.Load(); q != nil {
		return q
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.later.Load()
	if q == nil {
		q = &later{lane: l, pauser: newPauser(), gone: l.gone, stream: l.p.stream, fresh: true}
		l.later.Store(q)
	}
	return q
}

// add copies m, and reports whether something can leave now. ok is false when the topic was dropped.
func (q *later) add(m *Message, it wire.ScheduleItem, kind batchKind, size int, done func(Receipt, error)) (ok, leaves bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone != nil {
		return false, false
	}
	limit := q.lane.topic.info.Load().maxBatch
	if b := q.open; b != nil && !b.fits(size, limit, kind.level) {
		q.queue, q.open = append(q.queue, b), nil
	}
	if q.open == nil {
		q.open = q.newBatch(kind.level)
		q.all = append(q.all, q.open)
	}
	b := q.open
	b.begin(it, kind)
	if m.isPlain() {
		b.builder.AddPlain(m.Key, m.Value)
		b.builder.SumAhead()
	} else {
		q.headers = m.appendHeaders(q.headers[:0])
		b.builder.Add(m.record(q.headers))
	}
	b.took(size, done)
	return true, q.leavesLocked()
}

// fits reports whether a message of size bytes can join the batch, with an item of its own.
func (b *laterBatch) fits(size, limit int, level wire.Level) bool {
	return b.level == level && b.closed < maxLaterItems-1 && b.builder.Count() < wire.MaxBatchRecords &&
		len(b.items)+b.builder.Size()+size <= limit
}

// begin makes it the last item, unless what is added joins the one that is.
func (b *laterBatch) begin(it wire.ScheduleItem, kind batchKind) {
	if b.builder.Count() > 0 {
		if it.Kind != wire.ScheduleCron && it.Kind == b.last.Kind && it.Ms == b.last.Ms && kind == b.kind {
			return
		}
		b.items = b.appendLast(b.items)
		b.closed++
		b.builder.Reset()
	}
	b.last, b.kind = it, kind
	b.builder.SetTTL(kind.ttl)
	if kind.ids {
		b.builder.MarkIDs()
	}
}

func (b *laterBatch) appendLast(dst []byte) []byte {
	it := b.last
	it.Batch = b.builder.Bytes()
	return it.Append(dst)
}

// took takes note of a message that was added: what it takes of the budget, and who hears of it.
func (b *laterBatch) took(size int, done func(Receipt, error)) {
	if done != nil {
		for len(b.done) < b.count {
			b.done = append(b.done, nil)
		}
		b.done = append(b.done, done)
	}
	b.count++
	b.size += size
}

// leavesLocked reports whether a batch is to be sent, if there is a connection.
func (q *later) leavesLocked() bool {
	return !q.paused && len(q.flight) < q.mostLocked() && (len(q.queue) > 0 || q.open != nil && len(q.flight) == 0)
}

// newBatch returns an empty batch. The caller holds mu.
func (q *later) newBatch(level wire.Level) *laterBatch {
	n := len(q.free)
	if n == 0 {
		return &laterBatch{level: level}
	}
	b := q.free[n-1]
	q.free = q.free[:n-1]
	b.builder.Reset()
	*b = laterBatch{level: level, items: b.items[:0], builder: b.builder, done: b.done[:0], flushes: b.flushes[:0]}
	return b
}

// maxLaterFree is how many finished batches are kept for their memory.
const maxLaterFree = 2 * maxLaterFlight

// kick sends what can leave.
func (q *later) kick() {
	for {
		b, bd, ended := q.next()
		switch {
		case ended:
			q.finish(b, 0, wire.LevelDefault, &unknownError{errOtherTopic})
			continue
		case b == nil:
			return
		}
		flags := wire.Flags(b.level)
		if b.producer.ID != 0 {
			flags |= wire.FlagNumbered
		}
		body := func(dst []byte) []byte {
			dst = wire.AppendScheduleHead(dst, bd.Handle, q.lane.partition, b.producer, b.closed+1)
			return b.appendLast(append(dst, b.items...))
		}
		bd.conn.ask(wire.OpSchedule, flags, body, func(f *frame, err error) { q.answered(b, bd, f, err) })
	}
}

// next returns the batch that leaves now, nil when there is none or it cannot. ended says that it must
// not be sent again, because it may have been taken by a topic that is gone.
func (q *later) next() (b *laterBatch, bd *binding, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bd = q.lane.topic.binding.Load()
	if bd == nil || !bd.conn.alive() || !q.leavesLocked() {
		return nil, nil, false
	}
	if len(q.queue) == 0 {
		q.queue, q.open = append(q.queue, q.open), nil
	}
	b = q.queue[0]
	ended = b.uncertain && b.topicID != bd.ID
	if q.gap && !b.uncertain {
		if len(q.flight) > 0 {
			return nil, nil, false // what is on its way will be refused for the gap
		}
		q.gap, q.fresh = false, true
		q.stream.Epoch++
		q.stream.Sequence = 0
	}
	q.queue = slices.Delete(q.queue, 0, 1)
	if ended {
		q.gap = true
		return b, nil, true
	}
	if q.stream.ID != 0 && !b.uncertain && (b.producer.ID == 0 || b.producer.Epoch != q.stream.Epoch) {
		b.producer, b.topicID = q.stream, bd.ID
		q.stream.Sequence += uint64(b.count)
	}
	q.flight = append(q.flight, b)
	return b, bd, false
}

// mostLocked returns how many requests may be on their way. When the first of a stream is refused those
// behind it would be taken for its beginning.
func (q *later) mostLocked() int {
	if q.fresh && q.stream.ID != 0 {
		return 1
	}
	return maxLaterFlight
}

// answered takes what became of a request.
func (q *later) answered(b *laterBatch, used *binding, f *frame, err error) {
	var reply wire.ScheduleReply
	level := wire.LevelDefault
	if err == nil {
		if err = reply.Parse(f.Body); err == nil {
			level = wire.Level(f.Flags & wire.FlagLevel)
		}
	}
	q.mu.Lock()
	pause := time.Duration(0)
	again := q.againLocked(b, err)
	q.flight = slices.DeleteFunc(q.flight, func(o *laterBatch) bool { return o == b })
	switch {
	case again:
		q.requeueLocked(b)
		if _, cut := lost(err); !cut && !q.paused { // else the next connection sends
			q.paused, pause = true, q.pauser.step()
		}
	case err == nil:
		q.pauser, q.fresh = newPauser(), false
	default:
		q.gap = q.gap || b.producer.ID != 0
	}
	q.mu.Unlock()
	if pause > 0 {
		time.AfterFunc(pause, q.resume)
	}
	if stale(err) && q.lane.topic.binding.CompareAndSwap(used, nil) {
		q.lane.topic.rebind(used)
	}
	if !again {
		q.finish(b, reply.First, level, q.explain(b, err))
	}
	q.kick()
}

// requeueLocked has b sent again, in the order of the numbers.
func (q *later) requeueLocked(b *laterBatch) {
	at := slices.IndexFunc(q.queue, func(o *laterBatch) bool { return !o.before(b) })
	if at < 0 {
		at = len(q.queue)
	}
	q.queue = slices.Insert(q.queue, at, b)
}

// before reports whether b has a number that is lower than that of o.
func (b *laterBatch) before(o *laterBatch) bool {
	if b.producer.ID == 0 || b.producer.Epoch != o.producer.Epoch {
		return b.producer.ID != 0 && b.producer.Epoch < o.producer.Epoch
	}
	return b.producer.Sequence < o.producer.Sequence
}

func (q *later) resume() {
	q.mu.Lock()
	q.paused = false
	q.mu.Unlock()
	q.kick()
}

// againLocked reports whether b should be sent again: it was certainly not taken, or its number tells.
func (q *later) againLocked(b *laterBatch, err error) bool {
	if err == nil || q.gone != nil {
		return false
	}
	now := time.Now()
	if b.giveUp.IsZero() {
		b.giveUp = now.Add(q.lane.p.c.opts.RequestTimeout)
	}
	if sent, cut := lost(err); cut {
		if !sent {
			return now.Before(b.giveUp)
		}
		return b.producer.ID != 0 && q.awaitLocked(b, err, now)
	}
	switch code := wire.CodeOf(err); {
	case stale(err):
		first := !b.rebound
		b.rebound = true
		return first
	case code == wire.CodeOutOfSequence:
		b.uncertain = false // or the broker would know it
		lower := func(o *laterBatch) bool { return o.before(b) }
		q.gap = q.gap || !slices.ContainsFunc(q.queue, lower) && !slices.ContainsFunc(q.flight, lower)
	case code == wire.CodeStorageFull || code == wire.CodeLimit:
		return false
	}
	return retryLater(err) && now.Before(b.giveUp)
}

// awaitLocked reports whether there is time to find out what became of b, whose answer was lost, and
// gives it up when that ends.
func (q *later) awaitLocked(b *laterBatch, err error, now time.Time) bool {
	if !b.uncertain {
		b.uncertain, b.giveUp = true, now.Add(q.lane.p.c.opts.RequestTimeout)
	}
	left, p := b.giveUp.Sub(now), b.producer
	time.AfterFunc(left, func() { q.giveUpOn(b, p, err) })
	return left > 0
}

// giveUpOn ends a batch that may have been taken when nobody has told by now. p tells it from a later
// use of its memory.
func (q *later) giveUpOn(b *laterBatch, p wire.Producer, err error) {
	q.mu.Lock()
	at := slices.Index(q.queue, b)
	if at < 0 || b.producer != p || !b.uncertain {
		q.mu.Unlock()
		return
	}
	q.queue = slices.Delete(q.queue, at, at+1)
	q.gap = true
	q.mu.Unlock()
	q.finish(b, 0, wire.LevelDefault, q.explain(b, err))
}

func (q *later) explain(b *laterBatch, err error) error {
	if err == nil {
		return nil
	}
	said := explain(err, wire.OpSchedule, q.lane.topic.name, int(q.lane.partition))
	if q.lane.unknown(err) || b.uncertain {
		return &unknownError{said}
	}
	return said
}

// finish runs the callbacks of a batch. No lock is held.
func (q *later) finish(b *laterBatch, first uint64, level wire.Level, err error) {
	q.lane.p.budget.release(b.size)
	r := Receipt{Topic: q.lane.topic.name, Partition: int(q.lane.partition), Level: level}
	for i, done := range b.done {
		if err == nil {
			r.Schedule = first + uint64(i)
		}
		if done != nil {
			done(r, err)
		}
	}
	q.mu.Lock()
	at := slices.Index(q.all, b)
	q.all = slices.Delete(q.all, at, at+1)
	flushes := slices.Clone(b.flushes)
	if len(q.free) < maxLaterFree { // its bytes were copied to the connection
		clear(b.done)
		q.free = append(q.free, b)
	}
	q.mu.Unlock()
	for _, f := range flushes {
		f.finished()
	}
}

// waitFor adds everything unfinished to f.
func (q *later) waitFor(f *flush) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.all {
		f.left.Add(1)
		b.flushes = append(b.flushes, f)
	}
}

// busy reports whether messages wait to be sent.
func (q *later) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open != nil || len(q.queue) > 0
}

// drop fails everything that was not sent, and refuses more.
func (q *later) drop(err error) {
	q.mu.Lock()
	q.gone = err
	waiting := q.queue
	if q.open != nil {
		waiting = append(waiting, q.open)
	}
	q.queue, q.open = nil, nil
	q.mu.Unlock()
	for _, b := range waiting {
		q.finish(b, 0, wire.LevelDefault, err)
	}
}
