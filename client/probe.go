package client

import (
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// ping asks for an answer, and notes how long it takes.
func (cn *conn) ping() {
	start := time.Now()
	cn.ask(wire.OpPing, 0, nil, func(_ *frame, err error) {
		took := time.Since(start)
		if before := cn.roundTrip(); err == nil && (before == 0 || took < before) {
			cn.trip.Store(int64(took))
		}
	})
}

// roundTrip returns the shortest round trip of a ping so far, or 0 before the first.
func (cn *conn) roundTrip() time.Duration { return time.Duration(cn.trip.Load()) }

// probeLoop pings the broker at an interval. A connection on which nothing arrived since the last
// ping is dead, unless that ping is still waiting behind other output that moves.
func (cn *conn) probeLoop() {
	every := cn.c.opts.PingInterval
	if idle := time.Duration(cn.hello.IdleMs) * time.Millisecond; idle > 0 {
		every = min(every, max(idle/3, time.Millisecond))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	next := time.Now().Add(refreshEvery)
	var seen motion
	cn.moves(&seen)
	for {
		if time.Now().After(next) {
			next = time.Now().Add(refreshEvery)
			cn.c.producer.refresh(cn)
		}
		cn.ping()
		select {
		case <-tick.C:
		case <-cn.down:
			return
		}
		if !cn.moves(&seen) {
			cn.c.stalled(Stall{What: "ping", For: every})
			cn.fail(fmt.Errorf("no answer to a ping within %v", every))
			return
		}
		if waited := cn.oldestPublish(); waited > every {
			cn.c.stalled(Stall{What: "publish", For: waited})
		}
	}
}

// oldestPublish returns how long the oldest unanswered publish has waited.
func (cn *conn) oldestPublish() time.Duration {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	var oldest time.Time
	for _, r := range cn.pending {
		if r.batch != nil && (oldest.IsZero() || r.batch.sentAt.Before(oldest)) {
			oldest = r.batch.sentAt
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return time.Since(oldest)
}
