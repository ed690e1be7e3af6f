package server

import (
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// tally counts messages and their bytes. It never decreases, unlike the sum of the counters of topics, which are lost when
// a topic is deleted.
type tally struct{ messages, bytes atomic.Uint64 }

// amount is a number of messages and their bytes.
type amount struct{ messages, bytes uint64 }

func (a *amount) add(messages, bytes int) {
	a.messages += uint64(messages)
	a.bytes += uint64(bytes)
}

func (t *tally) add(a amount) {
	if a.messages > 0 {
		t.messages.Add(a.messages)
		t.bytes.Add(a.bytes)
	}
}

// turnCount counts what a loop does in its current turn. It is added to the metrics at the end of the turn, so that counting
// needs neither the clock nor an atomic operation for each message.
type turnCount struct {
	requested  uint64 // publishes that arrived
	publishes  uint64 // publishes that were acknowledged
	requests   uint64 // other requests
	deliveries uint64 // times that messages were handed out
	received   uint64 // bytes of clients
	published  amount
	delivered  amount
	sent       amount // to live subjects
	passed     amount // to live subscriptions

	// Publishes whose acknowledgement had to wait are counted in runs, because those that arrived together are
	// usually acknowledged together.
	arrived  int64  // when the current run arrived, in ns since 1970
	released uint64 // publishes of the current run
}

// settle adds the counts of the turn, which took the given time so far, to m.
func (c *turnCount) settle(m *metrics, took time.Duration) {
	m.response.observe(took, c.requests+c.publishes)
	m.publish.observe(took, c.publishes)
	m.consume.observe(took, c.deliveries)
	if c.requested > 0 {
		m.requests[wire.OpPublish].Add(c.requested)
	}
	if c.received > 0 {
		m.bytesIn.Add(c.received)
	}
	m.published.add(c.published)
	m.delivered.add(c.delivered)
	m.sent.add(c.sent)
	m.passed.add(c.passed)
	*c = turnCount{}
}

// settleTurn adds the counts so far of the turn that began at start to the metrics.
func (l *loop) settleTurn(start time.Time) {
	if l.turn != (turnCount{}) {
		l.endRun()
		l.turn.settle(&l.srv.metrics, l.srv.opts.Now().Sub(start))
	}
}

// acknowledged counts a publish whose acknowledgement a had to wait for its level.
func (l *loop) acknowledged(a ack) {
	if a.level <= wire.LevelMemory {
		l.turn.publishes++
		return
	}
	if a.arrived != l.turn.arrived {
		l.endRun()
		l.turn.arrived = a.arrived
	}
	l.turn.released++
}

func (l *loop) endRun() {
	c := &l.turn
	l.srv.metrics.publish.observe(time.Duration(l.clock.UnixNano()-c.arrived), c.released)
	c.released = 0
}

// delivered counts messages that are handed to a consumer.
func (l *loop) delivered(p *partition.Partition, messages, bytes int) {
	p.CountDelivered(messages, bytes)
	l.turn.deliveries++
	l.turn.delivered.add(messages, bytes)
}
