package client

import (
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Scheduled messages have lanes of their own, one beside the lane of each partition. This file holds
// what is different about them. A batch is a request with items; an item is a time and the messages
// that are due then. The answer holds ids instead of offsets.

const (
	// maxItems bounds the items of one request.
	maxItems = 1000
	// scheduleHead is the largest size of a request before its items.
	scheduleHead = wire.HeaderBytes + 2 + 2 + 3*8 + 2
)

// items are the items of a batch of scheduled messages. The batch's builder holds the messages of
// the last item. Its packed field holds the encoded others, after room for the head of the request.
type items struct {
	last     wire.ScheduleItem // the last item, without its batch
	kind     batchKind         // of the messages of last
	closed   int               // how many items come before last
	messages int               // how many messages they have
}

// isLater reports whether m is scheduled.
func (m *Message) isLater() bool { return m.Delay != 0 || !m.At.IsZero() || m.Cron != "" }

// schedule returns when m is to be published, as an item without its batch.
func (t *topic) schedule(m *Message) (it wire.ScheduleItem, err error) {
	switch {
	case m.Delay != 0 && !m.At.IsZero(), m.Cron != "" && (m.Delay != 0 || !m.At.IsZero()):
		return it, t.invalid("Delay, At and Cron exclude each other")
	case m.Zone != "" && m.Cron == "":
		return it, t.invalid("a time zone is for Cron, and Cron is not set")
	case m.Delay < 0 || wholeMs(m.Delay) > wire.MaxScheduleMs:
		return it, t.invalid("a delay of %v, it must be between 0 and ten years", m.Delay)
	case len(m.Cron) > wire.MaxCronBytes || len(m.Zone) > wire.MaxCronBytes:
		return it, t.tooLarge("cron expression has", max(len(m.Cron), len(m.Zone)), wire.MaxCronBytes)
	case m.Cron != "":
		return wire.ScheduleItem{Kind: wire.ScheduleCron, Spec: []byte(m.Cron), Zone: []byte(m.Zone)}, nil
	case m.Delay != 0:
		return wire.ScheduleItem{Kind: wire.ScheduleDelay, Ms: wholeMs(m.Delay)}, nil
	}
	at := m.At.UnixMilli()
	if m.At.After(time.UnixMilli(at)) {
		at++ // round up, so that the message is not early
	}
	return wire.ScheduleItem{Kind: wire.ScheduleAt, Ms: at}, nil
}

// forLater returns the lane of scheduled messages to the same partition. Its numbering is separate.
func (l *lane) forLater() *lane {
	if q := l.later.Load(); q != nil {
		return q
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.later.Load()
	if q == nil {
		q = newLane(l.topic, l.partition, wire.OpSchedule)
		q.gone = l.gone
		l.later.Store(q)
	}
	return q
}

// isLater reports whether the messages of b are scheduled.
func (b *batch) isLater() bool { return b.lane.op == wire.OpSchedule }

// begin starts an item, unless the message to be added next can join the last one.
func (b *batch) begin(it *wire.ScheduleItem, kind batchKind) {
	i := &b.items
	if b.builder.Count() > 0 {
		if it.Kind != wire.ScheduleCron && it.Kind == i.last.Kind && it.Ms == i.last.Ms && kind == i.kind {
			return
		}
		b.closeItem()
	}
	i.last, i.kind = *it, kind
	b.describe(kind)
}

// closeItem encodes the last item.
func (b *batch) closeItem() {
	if len(b.packed) == 0 {
		var head [scheduleHead]byte
		b.packed = append(b.packed, head[:]...)
	}
	it := b.items.last
	it.Batch = b.builder.Bytes()
	b.packed = it.Append(b.packed)
	b.items.closed++
	b.items.messages += b.builder.Count()
	b.builder.Reset()
}
