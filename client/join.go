package client

import "github.com/rafka-mq/rafka/wire"

// A batch that grows takes room from the budget ahead, for messages of the usual kind: with only a key and a
// value, at the client's level. Such a message joins the batch with one lock and one copy. There is nothing to hand
// over then, because every change of what can be handed over hands it over: an answer, a timer, a new connection.

const (
	// aheadFrom is how many messages a batch has before it takes room ahead.
	aheadFrom = 16
	// aheadShare is the part of what a batch has taken that it takes ahead: little enough that publishing does not
	// block noticeably earlier.
	aheadShare = 8
)

// join adds m to an open batch that has room for it, and reports whether it did.
func (t *topic) join(m *Message, done func(Receipt, error)) bool {
	if !m.isPlain() || m.TTL != 0 || m.isLater() || m.Level != wire.LevelDefault {
		return false
	}
	l, err := t.place(m)
	return err == nil && l.roomy.Load() && l.join(m, t.info.Load().maxMessage, done)
}

// join is topic.join for a message whose lane is chosen; limit bounds its size.
func (l *lane) join(m *Message, limit int, done func(Receipt, error)) bool {
	size := len(m.Key) + len(m.Value) + messageBytes
	l.mu.Lock()
	b := l.open
	fits := b != nil && size <= b.ahead && size <= limit && len(m.Key) <= wire.MaxKeyBytes
	if !fits || b.builder.Count() == wire.MaxBatchRecords || l.p.closing.Load() {
		l.mu.Unlock()
		return false
	}
	b.ahead -= size
	l.addPlainLocked(m)
	b.account(b.builder.Count()-1, 0, done)
	if b.builder.Count()%keylessRun == 0 {
		l.topic.moveOn(l.partition)
	}
	l.mu.Unlock()
	return true
}

// takeAheadLocked takes room for more messages like those in the open batch, unless it still has about half of
// that: others do not use it, and shall not take a few bytes each.
func (l *lane) takeAheadLocked(limit int) {
	b := l.open
	if l.op != wire.OpPublish || b.count() < aheadFrom || b.batchKind != l.p.usual {
		return
	}
	more := min(b.size/aheadShare, limit-b.builder.Size()) - b.ahead
	if more > b.ahead && l.p.budget.try(more) {
		b.ahead += more
		b.size += more
		l.roomy.Store(true)
	}
}
