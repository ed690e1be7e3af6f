package server

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// publish serves PUB and HPUB: it sends the message to live subscribers and, when a topic is bound to the subject, appends
// it to the topic. It never creates a topic, because a subject may be an inbox.
func (t *text) publish(m *message, now time.Time) {
	if t.pedantic && !subject.Literal(m.Subject) {
		t.fail(errPublishTo)
	}
	if !t.s.mayPublish(m.Subject) {
		t.forbidPublish(m.Subject)
		return
	}
	if len(m.Reply) > 0 && t.s.loop.srv.registry.Bound(m.Subject) != nil && !t.s.mayPublish(m.Reply) {
		t.forbidPublish(m.Reply) // the ack would go there
		return
	}
	t.carryOut(m, now)
}

// carryOut does what publish has found to be allowed.
func (t *text) carryOut(m *message, now time.Time) {
	l := t.s.loop
	var stored stored
	topic := l.srv.registry.Bound(m.Subject)
	if topic != nil {
		var ok bool
		if stored, ok = t.store(topic, m, now); !ok {
			return
		}
	}
	t.ok()
	if !t.echo {
		m.from = t
	}
	l.turn.sent.add(1, len(m.Payload))
	if answered := l.serveSystem(t, m); t.noResponders && topic == nil && !answered && len(m.Reply) > 0 {
		m.asker = t
	}
	receivers := l.route(m)
	t.allowance -= receivers * deliverWork
	switch {
	case topic != nil && len(m.Reply) > 0:
		l.awaitStored(stored, m, &t.held, now)
	case receivers == 0 && m.asker != nil:
		l.noResponder(m)
	}
}

// stored is where a message was appended.
type stored struct {
	p           *partition.Partition
	base, index uint64
	duplicate   bool // its message id was known
	later       bool // it was scheduled: base is its id, and p the companion log
}

// stallInterval is how often a publish that was refused because the disk is too slow is tried again.
const stallInterval = retryInterval

// stall pauses the session and tries the message again later. Refusing the message would drop it, as nobody would be told.
func (t *text) stall(m *message, now time.Time) {
	later := message{Live: wire.Live{
		Subject: slices.Clone(m.Subject), Reply: slices.Clone(m.Reply),
		Header: slices.Clone(m.Header), Payload: slices.Clone(m.Payload),
	}}
	t.s.pause()
	t.s.loop.timers.add(&timed{at: now.Add(stallInterval), expire: func(now time.Time) {
		t.after(now, nil, func(now time.Time) error {
			t.carryOut(&later, now) // it was allowed, and that may have used up a reply
			return nil
		})
	}})
}

// store appends a message to a topic. It returns false when that failed or has to wait, and has handled that then.
func (t *text) store(topic *partition.Topic, m *message, now time.Time) (s stored, ok bool) {
	l := t.s.loop
	if t.held > l.srv.opts.MaxInFlightBytes {
		t.stall(m, now)
		return s, false
	}
	s, err := t.s.loop.storeMessage(topic, m, now)
	switch {
	case errors.Is(err, wire.CodeBusy):
		t.stall(m, now)
		return s, false
	case err != nil:
		t.refuseStore(topic, m, asWireError(err))
		return s, false
	}
	if level := topic.Config().Level; level > wire.LevelMemory {
		l.flush(s.p, level)
		if !s.later {
			t.remember(s)
		}
	}
	return s, true
}

// storeLive appends a message to the topic that its subject is bound to.
func (b *binary) storeLive(topic *partition.Topic, m *message, now time.Time) error {
	l := b.s.loop
	if b.held > l.srv.opts.MaxInFlightBytes {
		return wire.Errorf(wire.CodeBusy, "%d bytes of this connection wait for the disk", b.held)
	}
	if len(m.Reply) > 0 && !b.s.mayPublish(m.Reply) { // the ack would go there
		return wire.Errorf(wire.CodeForbidden, "user %q may not publish to %q", b.s.who.Name(), m.Reply)
	}
	s, err := l.storeMessage(topic, m, now)
	if err != nil {
		b.s.giveBack(m.Reply)
		return err
	}
	if level := topic.Config().Level; level > wire.LevelMemory {
		l.flush(s.p, level)
	}
	if len(m.Reply) > 0 {
		l.awaitStored(s, m, &b.held, now)
	}
	return nil
}

// remember notes where a person's publishes are, for commands that show them; see seeOwn.
func (t *text) remember(s stored) {
	if !t.friendly() {
		return
	}
	if t.recent == nil {
		t.recent = map[*partition.Partition]uint64{}
	}
	t.recent[s.p] = s.index
}

// storedBytes is about the memory of an answer that waits. Messages without a payload wait, too.
const storedBytes = 256

// awaitStored answers on the reply subject when the message is as durable as its topic asks. held counts the session's
// bytes that wait.
func (l *loop) awaitStored(s stored, m *message, held *int, now time.Time) {
	size := storedBytes + len(m.Reply) + len(m.Header) + len(m.Payload)
	*held += size
	l.awaitLevel(s.p, ack{
		to: &storedAck{l: l, held: held, reply: slices.Clone(m.Reply), duplicate: s.duplicate, later: s.later},
		op: wire.OpPublish, level: s.p.Topic().Config().Level,
		index: s.index, base: s.base, count: 1, held: size,
		arrived: now.UnixNano(),
	})
}

// storeMessage appends a message as a record to the partition of its key or, without a key, of its subject. A message with
// a time is scheduled instead.
func (l *loop) storeMessage(topic *partition.Topic, m *message, now time.Time) (s stored, err error) {
	if l.draining {
		return s, wire.Errorf(wire.CodeShutdown, "the broker is shutting down")
	}
	rec := wire.Record{Value: m.Payload}
	var when *moment
	if len(m.Header) > 0 {
		if rec.Key, rec.Headers, err = parseHeader(m.Header); err != nil {
			return s, err
		}
		if when, rec.Headers, err = momentOf(rec.Headers); err != nil {
			return s, err
		}
	}
	place := rec.Key
	if place == nil {
		place = m.Subject
	}
	s.p = topic.Place(place)
	if string(m.Subject) != topic.Name() {
		rec.Subject = m.Subject
	}
	if err := s.p.Err(); err != nil {
		return s, err
	}
	l.builder.Reset()
	l.builder.Add(rec)
	if err := traits(&l.builder, rec.Headers); err != nil {
		return s, err
	}
	batch, err := builtBatch(&l.builder, topic.Config().MaxRecord)
	if err != nil {
		return s, err
	}
	if when != nil {
		m.later, s.later = true, true
		s.base, s.p, s.index, err = when.schedule(s.p, l.builder.Bytes())
		return s, err
	}
	if s.base, s.index, s.duplicate, err = s.p.Publish(&batch, now.UnixMilli()); err == nil && !s.duplicate {
		l.turn.published.add(1, len(l.builder.Bytes()))
	}
	return s, err
}

// builtBatch returns the builder's batch after checking it.
func builtBatch(b *wire.BatchBuilder, maxRecord int) (wire.Batch, error) {
	if b.Size() > wire.MaxFrameBytes { // such a record is no part of a valid batch
		return wire.Batch{}, batchError(wire.ErrRecordTooLarge, maxRecord)
	}
	batch, err := wire.ViewBatch(b.Bytes())
	if err == nil {
		err = batch.Validate(maxRecord)
	}
	if err != nil {
		return wire.Batch{}, batchError(err, maxRecord)
	}
	return batch, nil
}

var crlf = []byte("\r\n")

// refuseStore reports that a topic refused a message: on the reply subject or, without one, to a person.
func (t *text) refuseStore(topic *partition.Topic, m *message, e *wire.Error) {
	t.s.loop.srv.metrics.failed(wire.OpPublish, e.Code)
	if len(m.Reply) > 0 {
		t.ok()
		t.s.loop.route(newMessage(m.Reply, storeFailed(topic.Name(), e)))
		return
	}
	if t.friendly() {
		t.failError(e)
		return
	}
	t.ok()
}

// storedAck answers a publish to a topic on its reply subject.
type storedAck struct {
	l         *loop
	held      *int
	reply     []byte
	duplicate bool
	later     bool
}

func (k *storedAck) acknowledged(p *partition.Partition, a ack, err error) {
	*k.held -= a.held
	m, l := newMessage(k.reply, nil), k.l
	if err != nil {
		m.Payload = storeFailed(p.Topic().Name(), asWireError(err))
	} else {
		l.acknowledged(a)
		m.Payload = appendStored(nil, p, a.base, a.level, k.duplicate, k.later)
	}
	l.route(m)
}

// appendStored appends the JSON of a publish that reached its level. Names need no escaping.
func appendStored(dst []byte, p *partition.Partition, offset uint64, level wire.Level, duplicate, later bool) []byte {
	dst = append(append(dst, `{"topic":"`...), p.Topic().Name()...)
	dst = strconv.AppendUint(append(dst, `","partition":`...), uint64(p.Number()), 10)
	what := `,"offset":`
	if later {
		what = `,"schedule":`
	}
	dst = strconv.AppendUint(append(dst, what...), offset, 10)
	dst = append(append(dst, `,"level":"`...), level.String()...)
	if duplicate {
		return append(dst, `","duplicate":true}`...)
	}
	return append(dst, `"}`...)
}

// storeError is the JSON of a publish that failed.
type storeError struct {
	Topic string `json:"topic"`
	Error struct {
		Code    wire.Code `json:"code"`
		Name    string    `json:"name"`
		Message string    `json:"message"`
	} `json:"error"`
}

func storeFailed(topic string, e *wire.Error) []byte {
	var s storeError
	s.Topic, s.Error.Code, s.Error.Name, s.Error.Message = topic, e.Code, e.Code.String(), e.Detail
	body, err := json.Marshal(s)
	if err != nil {
		panic("server: error cannot be encoded: " + err.Error())
	}
	return body
}
