package server

import (
	"time"

	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// A publish that must become durable is usually handed to the flusher, which makes everything that arrives meanwhile
// durable in one round, while the loop serves other connections. For a connection that waits for each message before it
// sends the next, the two hand-overs between loop and flusher take about half as long as a flush. So a loop with only
// one active connection runs the round itself.

const (
	// soloTurns is how many times in a row input must come from one connection before it counts as the only
	// active one. When another one becomes active, it waits for at most one round.
	soloTurns = 16
	// slowRound is the duration of a round after which the loop runs none until the connection has been the only
	// active one for soloTurns again.
	slowRound = 2 * time.Millisecond
)

// activity says from whom input came last.
type activity struct {
	reader   *session  // whose input came last
	solo     int       // how many times in a row input came from reader
	streamed time.Time // when reader's last input was full of messages; see streams
}

// flush is a partition to be flushed at the end of a turn.
type flush struct {
	p     *partition.Partition
	level wire.Level
}

// recentFlushes is how many of the last flushes are searched for another one of the partition. To flush it twice costs
// less than to look through all partitions of a change that affects thousands.
const recentFlushes = 64

// flush requests a flush of p to a level at the end of the turn.
func (l *loop) flush(p *partition.Partition, level wire.Level) {
	for i := len(l.flushes) - 1; i >= max(0, len(l.flushes)-recentFlushes); i-- {
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

// noteReader counts how many times in a row input came from s.
func (l *loop) noteReader(s *session) {
	if l.reader != s {
		l.reader, l.solo, l.streamed = s, 0, time.Time{}
	}
	l.solo++
}

// mayWait reports whether the loop may wait for the device: the only active connection waits for one acknowledgement.
func (l *loop) mayWait() bool { return len(l.flushes) == 1 && l.pending == 1 && l.alone() }

// alone reports whether one connection is the only active one, and no other input has arrived.
func (l *loop) alone() bool { return l.solo >= soloTurns && l.awaited != nil && !l.awaited() }

// flushHere runs the round for this turn's flush, unless the flusher is running one. What became durable is acknowledged
// at the end of this turn.
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
