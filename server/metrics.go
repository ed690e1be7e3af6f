package server

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// metrics are the server's counters other than those of partitions. They may be read from any goroutine.
type metrics struct {
	opened         atomic.Uint64 // connections
	closed         atomic.Uint64
	refused        atomic.Uint64 // connections over the limit
	throttled      atomic.Uint64 // connections over the limit per second
	rejected       atomic.Uint64 // connections with an unknown protocol
	acceptErrors   atomic.Uint64
	timeouts       atomic.Uint64
	slowConsumers  atomic.Uint64
	malformed      atomic.Uint64
	authFailures   atomic.Uint64 // logins refused
	denials        atomic.Uint64 // requests without the permission
	panics         atomic.Uint64
	bytesIn        atomic.Uint64
	bytesOut       atomic.Uint64
	published      tally // appended by clients
	delivered      tally // handed to consumers
	sent           tally // to live subjects
	passed         tally // to live subscriptions
	binarySessions atomic.Int64
	textSessions   atomic.Int64
	subscriptions  atomic.Int64
	workers        atomic.Int64 // connections that have leased from a queue

	failedPublishes atomic.Uint64
	failures        [64]atomic.Uint64  // error replies by code; codes over the end count as the last
	requests        [128]atomic.Uint64 // by operation

	publish   histogram // from a publish's bytes to its acknowledgement
	consume   histogram // from a fetch, lease or move of a partition to the entries
	response  histogram // of requests that are answered in the turn in which they arrived
	fsync     histogram // of flushes to the device
	scheduled histogram // from the due time of a scheduled message to its publish

	rates rates
}

// failed counts an error reply.
func (m *metrics) failed(op wire.Op, c wire.Code) {
	m.failures[min(int(c), len(m.failures)-1)].Add(1)
	if op == wire.OpPublish {
		m.failedPublishes.Add(1)
	}
}

// sumFailures returns how many error replies had one of the codes.
func (m *metrics) sumFailures(codes ...wire.Code) (n uint64) {
	for _, c := range codes {
		n += m.failures[c].Load()
	}
	return n
}

// connectionErrors returns the number of connections that failed or were refused.
func (m *metrics) connectionErrors() uint64 {
	return m.refused.Load() + m.throttled.Load() + m.rejected.Load() + m.acceptErrors.Load() + m.timeouts.Load() +
		m.slowConsumers.Load() + m.malformed.Load() + m.panics.Load()
}

// rateWindow is the number of sweeps over which a throughput is averaged.
const rateWindow = 5

// rates are messages per second over the last sweeps. The sweep goroutine writes, the collector reads.
type rates struct {
	published, consumed atomic.Uint64 // bits of a float64

	samples []rateSample // owned by the sweep goroutine
}

type rateSample struct {
	at                  time.Time
	published, consumed uint64
}

// sample notes the totals of now and computes the rates since the oldest sample kept.
func (m *metrics) sample(now time.Time) {
	r := &m.rates
	last := rateSample{now, m.published.messages.Load(), m.delivered.messages.Load()}
	r.samples = append(r.samples, last)
	if len(r.samples) > rateWindow+1 {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
	oldest := r.samples[0]
	if took := now.Sub(oldest.at).Seconds(); took > 0 {
		r.published.Store(math.Float64bits(float64(last.published-oldest.published) / took))
		r.consumed.Store(math.Float64bits(float64(last.consumed-oldest.consumed) / took))
	}
}

// read returns messages published and consumed per second.
func (r *rates) read() (published, consumed float64) {
	return math.Float64frombits(r.published.Load()), math.Float64frombits(r.consumed.Load())
}
