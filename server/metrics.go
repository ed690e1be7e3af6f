package server

import (
	"sync/atomic"

	"github.com/rafka-mq/rafka/wire"
)

// metrics are what the server counts outside partitions. All counters may be read at any time.
type metrics struct {
	opened         atomic.Uint64 // connections
	closed         atomic.Uint64
	refused        atomic.Uint64 // connections over the limit
	rejected       atomic.Uint64 // connections with a protocol that is not ours
	acceptErrors   atomic.Uint64
	timeouts       atomic.Uint64
	slowConsumers  atomic.Uint64
	malformed      atomic.Uint64
	panics         atomic.Uint64
	bytesOut       atomic.Uint64
	binarySessions atomic.Int64
	textSessions   atomic.Int64
	subscriptions  atomic.Int64

	failures [64]atomic.Uint64 // error replies by code; codes over the end count as the last
}

// failed counts an error reply.
func (m *metrics) failed(c wire.Code) {
	m.failures[min(int(c), len(m.failures)-1)].Add(1)
}
