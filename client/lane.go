package client

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// lane carries messages to one partition. It has an open batch that fills, sealed batches that
// wait, and batches in flight. It keeps the order: a batch is sent only after those before it, and
// one that was refused is sent again only while no batch after it can have been stored.
type lane struct {
	p         *producer
	topic     *topic
	partition uint16
	op        wire.Op    // OpPublish, or OpSchedule for scheduled messages
	codec     wire.Codec // compresses its batches

	mu      sync.Mutex // guards the fields below and the batches
	open    *batch
	queue   []*batch // sealed batches, in order
	flight  []*batch // sent batches, in order; a refused one stays until it is known whether it can be sent again
	ending  []*batch // ended batches whose callbacks are running
	paused  bool     // nothing is sent until a timer calls resume
	pauser  pauser
	linger  *time.Timer
	headers wire.Headers  // memory for encoding headers
	gone    error         // why the topic was dropped, or nil
	stream  wire.Producer // the number of the next message; with ID 0 messages are not numbered
	gap     bool          // a number will never be stored, so the numbering must begin again
	starved *conn         // the connection that will kick the lane when it has room, or nil
	usual   int           // size of the latest sealed batch, in bytes

	later atomic.Pointer[lane] // the lane of scheduled messages; nil before the first one; set under mu
	roomy atomic.Bool          // the open batch may have room ahead; set under mu
}

func newLane(t *topic, partition uint16, op wire.Op) *lane {
	l := &lane{p: t.p, topic: t, partition: partition, op: op, pauser: newPauser(), stream: t.p.stream}
	if op == wire.OpPublish {
		l.codec = t.p.c.opts.Codec
	}
	return l
}

// add copies m into the open batch and sends what can be sent. it says when m is published; nil
// means now. done, unless nil, is called with the outcome. If w is not nil, the caller waits for
// the outcome with it. add returns false, and does nothing, when the topic was dropped; the caller
// looks it up again. A struct in place of the parameters makes PublishAsync 5 ns slower, of 50.
func (l *lane) add(m *Message, it *wire.ScheduleItem, kind batchKind, size int, alone bool, w *waiter, done func(Receipt, error)) bool {
	l.mu.Lock()
	if l.gone != nil || l.p.closing.Load() {
		l.mu.Unlock()
		return false
	}
	l.addLocked(m, it, kind, size, alone, done)
	cn := l.handOverLocked()
	if cn != nil && w != nil {
		l.assignLocked(w, cn)
	}
	l.mu.Unlock()
	transmit(cn, w)
	return true
}

// assignLocked tells w which answer the message added last will get, so that its caller can read
// it. It does so only if the message was sent and nothing else of the lane is in progress.
func (l *lane) assignLocked(w *waiter, cn *conn) {
	if l.open != nil || len(l.queue) > 0 || len(l.flight) != 1 {
		return
	}
	if b := l.flight[0]; (b.atomic || b.count() == 1) && b.level != wire.LevelNone {
		w.conn, w.id = cn, b.id
	}
}

// transmit makes a connection write what was queued on it; nil means nothing was queued. A caller
// that waits for the outcome with w writes at once. Without w the writer does: when PublishAsync
// wrote single messages itself, p90 of an open loop of 50,000 messages a second rose from 0.22 to
// 0.39 ms.
func transmit(cn *conn, w *waiter) {
	switch {
	case cn == nil:
	case w == nil:
		cn.wakeWriter()
	default:
		cn.push()
		if w.conn == nil { // the caller will not read the answer: the writer recalls the reader
			cn.wakeWriter()
		}
	}
}

func (l *lane) addLocked(m *Message, it *wire.ScheduleItem, kind batchKind, size int, alone bool, done func(Receipt, error)) {
	// A batch with an ID that the broker knows is split. Only numbered batches stay in order then.
	alone = alone || it == nil && kind.ids && (l.stream.ID == 0 || kind.level == wire.LevelNone)
	limit := l.topic.info.Load().maxBatch
	if l.open != nil && (alone || !l.open.fits(size, limit, kind)) {
		l.closeOpenLocked()
	}
	if l.open == nil {
		l.open = l.p.batches.get(l, kind, l.usual)
		l.startLingerLocked()
	}
	if it != nil {
		l.open.begin(it, kind)
	}
	l.addToOpenLocked(m)
	l.open.account(l.open.count()-1, size, done)
	switch {
	case alone:
		l.closeOpenLocked()
		return
	case l.open.count()%keylessRun == 0:
		l.topic.moveOn(l.partition)
	}
	l.takeAheadLocked(limit)
}

// addAll is add for messages that form one atomic batch, whose outcome w receives.
func (l *lane) addAll(ms []*Message, kind batchKind, size int, w *waiter) bool {
	l.mu.Lock()
	if l.gone != nil || l.p.closing.Load() {
		l.mu.Unlock()
		return false
	}
	if l.open != nil {
		l.closeOpenLocked()
	}
	l.open = l.p.batches.get(l, kind, l.usual)
	l.open.atomic = true
	for _, m := range ms {
		l.addToOpenLocked(m)
	}
	l.open.account(0, size, w.fn)
	l.closeOpenLocked()
	cn := l.handOverLocked()
	if cn != nil {
		l.assignLocked(w, cn)
	}
	l.mu.Unlock()
	transmit(cn, w)
	return true
}

// addToOpenLocked copies m into the open batch.
func (l *lane) addToOpenLocked(m *Message) {
	if m.isPlain() {
		l.addPlainLocked(m)
		return
	}
	l.headers = m.appendHeaders(l.headers[:0])
	l.open.builder.Add(m.record(l.headers))
}

func (l *lane) addPlainLocked(m *Message) {
	l.open.builder.AddPlain(m.Key, m.Value)
	if l.codec == wire.CodecNone {
		l.open.builder.SumAhead()
	}
}

// farRoundTrip is the round trip from which a broker counts as distant. Below, messages that wait for the batch in flight
// make better batches, and hardly wait.
const farRoundTrip = 8 * time.Millisecond

// lingerLocked returns how long the open batch waits for more messages, or 0 when it waits for what is in flight. With a
// distant broker that would take half of a round trip in the mean, so as many batches as may be in flight share one.
func (l *lane) lingerLocked() time.Duration {
	if d := l.p.c.opts.Linger; d > 0 {
		return d
	}
	bd := l.topic.binding.Load()
	if bd == nil {
		return 0
	}
	if trip := bd.conn.roundTrip(); trip >= farRoundTrip {
		return trip / maxNumberedInFlight
	}
	return 0
}

func (l *lane) startLingerLocked() {
	d := l.lingerLocked()
	switch {
	case d == 0:
	case l.linger == nil:
		l.linger = time.AfterFunc(d, l.lingered)
	default:
		l.linger.Reset(d)
	}
}

func (l *lane) lingered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil {
		l.open.due = true
		l.sendLocked()
	}
}

// closeOpenLocked seals the open batch. Messages without a key then go to the next partition.
func (l *lane) closeOpenLocked() {
	l.open.seal(l.codec)
	l.usual = l.open.builder.Size()
	l.queue = append(l.queue, l.open)
	l.open = nil
	l.roomy.Store(false)
	l.topic.moveOn(l.partition)
}

// kick sends what can be sent.
func (l *lane) kick() {
	l.mu.Lock()
	l.starved = nil
	l.sendLocked()
	later := l.later.Load()
	l.mu.Unlock()
	if later != nil {
		later.kick()
	}
}

var errOtherTopic error = wire.Errorf(wire.CodeTopicDeleted, "the topic was deleted and created again")

// sendLocked sends what can be sent.
func (l *lane) sendLocked() { transmit(l.handOverLocked(), nil) }

// handOverLocked queues what can be sent on the connection. It returns the connection if it queued
// anything.
func (l *lane) handOverLocked() (cn *conn) {
	for (len(l.queue) > 0 || l.openIsDueLocked()) && !l.paused && len(l.flight) < l.p.c.opts.MaxInFlight && !l.refusedLocked() {
		bd := l.topic.binding.Load()
		if bd == nil {
			return cn
		}
		if len(l.queue) == 0 {
			l.closeOpenLocked()
		}
		if l.gap && !l.queue[0].uncertain {
			if len(l.flight) > 0 {
				return cn // wait: what is in flight will be refused because of the gap
			}
			l.renumberLocked()
		}
		b := l.queue[0]
		if b.uncertain && b.topicID != bd.ID {
			l.queue = slices.Delete(l.queue, 0, 1)
			l.ending, l.gap = append(l.ending, b), true
			go l.finish(b, answer{err: errOtherTopic})
			continue
		}
		l.stampLocked(b, bd)
		b.binding = bd
		if !bd.conn.sendBatch(l, b, bd.Handle) {
			return cn
		}
		b.refused = nil
		l.queue = slices.Delete(l.queue, 0, 1)
		l.flight = append(l.flight, b)
		cn = bd.conn
	}
	return cn
}

// openIsDueLocked reports whether the open batch is sent although it is not full.
func (l *lane) openIsDueLocked() bool {
	if l.open == nil {
		return false
	}
	if l.open.due && l.lingerLocked() > 0 {
		return true
	}
	return len(l.flight) == 0 && l.p.c.opts.Linger == 0
}

func (l *lane) refusedLocked() bool {
	return len(l.flight) > 0 && slices.ContainsFunc(l.flight, wasRefused)
}

func wasRefused(b *batch) bool { return b.refused != nil }

// answered takes the outcome of an attempt to send b, from the broker or because the connection
// ended.
func (l *lane) answered(b *batch, a answer) {
	if sent, cut := lost(a.err); cut && sent && b.level == wire.LevelNone {
		a = answer{level: wire.LevelNone} // it was written, and this level promises no more
	}
	used := b.binding // b may be recycled below
	l.mu.Lock()
	again := l.againLocked(b, a.err)
	if !again && a.err != nil && b.producer.ID != 0 {
		l.gap = true
	}
	unbound := stale(a.err) && l.topic.binding.CompareAndSwap(used, nil)
	var given []*batch
	if again {
		b.refused = a.err
	} else {
		given = l.removeLocked(b, a.err)
	}
	pause, gone := l.requeueLocked(), l.gone
	if gone != nil {
		given = append(given, l.queue...)
		l.queue = nil
	}
	l.ending = append(l.ending, given...)
	if !again {
		l.ending = append(l.ending, b)
	}
	l.sendLocked()
	l.mu.Unlock()

	for _, o := range given {
		why := gone
		if o.refused != nil {
			why = l.why(o, o.refused, gone)
		}
		l.finish(o, answer{err: why})
	}
	if !again {
		a.err = l.why(b, a.err, gone)
		l.finish(b, a)
	}
	if unbound {
		l.topic.rebind(used)
	}
	if pause > 0 {
		time.AfterFunc(pause, l.resume)
	}
}

// againLocked reports whether b must be sent again: it was certainly not stored, or its number lets
// the broker recognize it.
func (l *lane) againLocked(b *batch, err error) bool {
	if l.gone != nil || err == nil {
		return false
	}
	if sent, cut := lost(err); cut {
		if !sent || b.producer.ID == 0 {
			return !sent
		}
		now := time.Now()
		if !b.uncertain {
			b.uncertain, b.giveUp = true, now.Add(l.p.c.opts.RequestTimeout)
		}
		p, left := b.producer, b.giveUp.Sub(now)
		time.AfterFunc(left, func() { l.giveUpOn(b, p, err) })
		return left > 0
	}
	switch code := wire.CodeOf(err); {
	case stale(err):
		first := !b.rebound
		b.rebound = true
		return first
	case code == wire.CodeDuplicate && !b.isLater():
		return b.count() > 1 && !b.atomic // its messages are sent one by one
	case code == wire.CodeOutOfSequence:
		b.uncertain = false // it was not stored, else the broker would have recognized it
		l.gap = l.gap || l.flight[0] == b
	case code == wire.CodeStorageFull || code == wire.CodeLimit || !retryLater(err):
		return false
	}
	now := time.Now()
	if b.giveUp.IsZero() {
		b.giveUp = now.Add(l.p.c.opts.RequestTimeout)
	}
	return now.Before(b.giveUp)
}

// removeLocked takes b out of flight. If b was stored, or may have been, refused batches before it
// can only be sent again out of order. They are removed too, and returned.
func (l *lane) removeLocked(b *batch, err error) (overtaken []*batch) {
	at := slices.Index(l.flight, b)
	if stored := err == nil || unknown(err); stored {
		l.pauser = newPauser()
		for _, o := range l.flight[:at] {
			if wasRefused(o) {
				overtaken = append(overtaken, o)
			}
		}
	}
	l.flight = slices.DeleteFunc(l.flight, func(o *batch) bool { return o == b || slices.Contains(overtaken, o) })
	return overtaken
}

// unknown reports whether a batch whose attempt ended with err may have been stored.
func unknown(err error) bool {
	if sent, cut := lost(err); cut {
		return sent
	}
	we, ok := errors.AsType[*wire.Error](err)
	return ok && we.Retry == wire.RetryUnknown
}

// requeueLocked puts the batches in flight back into the queue when all of them were refused. It
// returns how long to pause before sending them, when the broker asked for that.
func (l *lane) requeueLocked() time.Duration {
	if len(l.flight) == 0 {
		return 0
	}
	busy := false
	for _, b := range l.flight {
		if !wasRefused(b) {
			return 0
		}
		busy = busy || retryLater(b.refused)
	}
	l.queue = slices.Insert(l.queue, 0, l.partsLocked()...)
	l.flight = l.flight[:0]
	if !busy {
		return 0
	}
	l.paused = true
	return l.pauser.step()
}

// partsLocked returns the batches in flight. A batch with an ID that the broker knows is replaced
// by one batch for each of its messages.
func (l *lane) partsLocked() (bs []*batch) {
	for _, b := range l.flight {
		if wire.CodeOf(b.refused) == wire.CodeDuplicate {
			bs = append(bs, b.split()...)
			l.p.batches.put(b)
		} else {
			bs = append(bs, b)
		}
	}
	return bs
}

func (l *lane) resume() {
	l.mu.Lock()
	l.paused = false
	l.sendLocked()
	l.mu.Unlock()
}

// explain turns the error of a batch into one for the user.
func (l *lane) explain(b *batch, err error) error {
	if err == nil {
		return nil
	}
	said := explain(err, l.op, l.topic.name, int(l.partition))
	if unknown(err) || b.uncertain {
		return &unknownError{said}
	}
	return said
}

// why is explain for a batch of a lane that may be gone. A stale handle then says less than the reason for that.
func (l *lane) why(b *batch, err, gone error) error {
	if stale(err) && !b.uncertain && isPlacedElsewhere(gone) {
		return gone
	}
	return l.explain(b, err)
}

// finish ends a batch that is in l.ending. The caller holds no lock.
func (l *lane) finish(b *batch, a answer) {
	if b.uncertain && a.err != nil && !errors.Is(a.err, ErrUnknownOutcome) {
		a.err = &unknownError{a.err}
	}
	l.p.budget.release(b.size)
	b.settle(a)
	l.mu.Lock()
	at := slices.Index(l.ending, b)
	l.ending = slices.Delete(l.ending, at, at+1)
	l.mu.Unlock()
	for _, f := range b.flushes {
		f.finished()
	}
	l.p.batches.put(b)
}

// waitFor adds every unfinished batch to f, and sends the open one.
func (l *lane) waitFor(f *flush) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range slices.Concat(l.ending, l.flight, l.queue) {
		f.add(b)
	}
	if l.open != nil {
		f.add(l.open)
		l.open.due = true
		l.sendLocked()
	}
	if later := l.later.Load(); later != nil {
		later.waitFor(f)
	}
}

// busy reports whether messages wait to be sent.
func (l *lane) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	later := l.later.Load()
	return l.open != nil || len(l.queue) > 0 || later != nil && later.busy()
}

// ended reports whether the lane was dropped, and the callbacks of all its messages have returned.
func (l *lane) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil || l.open != nil || len(l.queue)+len(l.flight)+len(l.ending) > 0 {
		return false
	}
	later := l.later.Load()
	return later == nil || later.ended()
}

// drop ends everything that was not sent, and refuses more. Batches in flight still get their
// answers.
func (l *lane) drop(err error) {
	l.mu.Lock()
	l.gone = err
	if l.open != nil {
		l.closeOpenLocked()
	}
	waiting, later := l.queue, l.later.Load()
	l.queue = nil
	l.ending = append(l.ending, waiting...)
	l.mu.Unlock()
	if later != nil {
		later.drop(err)
	}
	for _, b := range waiting {
		l.finish(b, answer{err: err})
	}
}

// stampLocked numbers a batch that has no number in the current stream. A batch that may have been
// stored keeps its number, by which the broker recognizes it.
func (l *lane) stampLocked(b *batch, bd *binding) {
	switch {
	case b.bytes != nil && (b.producer.ID == 0 || b.producer.Epoch == l.stream.Epoch || b.uncertain):
	case l.stream.ID == 0 || b.level == wire.LevelNone:
		b.stamp(wire.Producer{})
	default:
		b.stamp(l.stream)
		l.stream.Sequence += uint64(b.count())
	}
	if b.topicID == ([16]byte{}) {
		b.topicID = bd.ID
	}
}

// renumberLocked begins the numbering again after a gap.
func (l *lane) renumberLocked() {
	l.gap = false
	l.stream.Epoch++
	l.stream.Sequence = 0
}

// giveUpOn ends a batch that may have been stored, if nothing about it is known by now. p tells it
// from a later use of the same memory.
func (l *lane) giveUpOn(b *batch, p wire.Producer, err error) {
	l.mu.Lock()
	at := slices.Index(l.queue, b)
	if at < 0 || b.producer != p || !b.uncertain {
		l.mu.Unlock()
		return
	}
	l.queue = slices.Delete(l.queue, at, at+1)
	l.ending = append(l.ending, b)
	l.gap = true
	l.mu.Unlock()
	l.finish(b, answer{err: l.explain(b, err)})
}
