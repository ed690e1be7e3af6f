package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// A publish that must become durable is handed to the flusher, which takes all that came meanwhile in
// one round, while the loop serves others. For a connection that sends one message after the other,
// waiting for each, the two hand-overs between loop and flusher cost about as much as half a flush. So a
// loop on which nobody else is active makes the round itself.

const (
	// soloTurns is how often in a row bytes came from one connection before it counts as the only one
	// that is active: another one waits for at most one round, and then for none.
	soloTurns = 16
	// slowRound ends waiting for the device until it was the only one for as long again.
	slowRound = 2 * time.Millisecond
)

// flush is a partition to be flushed at the end of the turn.
type flush struct {
	p     *partition.Partition
	level wire.Level
}

// flush asks for p to be flushed to a level when the turn ends.
func (l *loop) flush(p *partition.Partition, level wire.Level) {
	for i := len(l.flushes) - 1; i >= 0; i-- {
		if l.flushes[i].p == p {
			l.flushes[i].level = max(l.flushes[i].level, level)
			return
		}
	}
	l.flushes = append(l.flushes, flush{p, level})
}

// startFlushes hands the flushes of this turn to the flusher.
func (l *loop) startFlushes() {
	for i, f := range l.flushes {
		f.p.Flush(f.level)
		l.flushes[i] = flush{}
	}
	l.flushes = l.flushes[:0]
}

// noteReader counts how often in a row bytes came from s.
func (l *loop) noteReader(s *session) {
	if l.reader != s {
		l.reader, l.solo, l.streamed = s, 0, time.Time{}
	}
	l.solo++
}

// mayWait reports whether the loop may wait for the device: one connection that is the only one active
// waits for one acknowledgement, and nothing has arrived meanwhile.
func (l *loop) mayWait() bool {
	return len(l.flushes) == 1 && l.pending == 1 && l.solo >= soloTurns && l.awaited != nil && !l.awaited()
}

// flushHere makes the round of this turn's flush, unless the flusher is at one. What became durable is
// acknowledged at the end of this turn.
func (l *loop) flushHere() {
	f := l.flushes[0]
	l.flushes[0] = flush{}
	l.flushes = l.flushes[:0]
	start := time.Now()
	f.p.FlushHere(f.level)
	if time.Since(start) > slowRound {
		l.solo = 0
	}
}
