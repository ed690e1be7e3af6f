package server

import (
	"encoding/json"
	"time"
)

// Stats is the reply to the stats operation, the text verb STATS and /varz. Counters start at 0 with the broker.
type Stats struct {
	Name        string  `json:"name"`
	Version     string  `json:"version"`
	Uptime      float64 `json:"uptime_seconds"`
	Connections int64   `json:"connections"` // open now
	Topics      int     `json:"topics"`
	Partitions  int     `json:"partitions"`
	Published   uint64  `json:"published_messages"` // appended by clients
	Delivered   uint64  `json:"delivered_messages"` // handed to consumers
	BytesIn     uint64  `json:"published_bytes"`    // of batches
	BytesOut    uint64  `json:"delivered_bytes"`    // of entries
	Stored      uint64  `json:"stored_messages"`    // now
	StoredBytes int64   `json:"stored_bytes"`       // now

	Subscriptions int64  `json:"subscriptions"`           // push and live ones, open now
	Sent          uint64 `json:"live_messages"`           // published to subjects
	Passed        uint64 `json:"live_delivered_messages"` // handed to live subscriptions
}

// Stats returns the broker's counters, without those of the current turn of each event loop.
func (srv *Server) Stats(now time.Time) Stats {
	m, s := &srv.metrics, srv.survey()
	return Stats{
		Name: srv.opts.Name, Version: srv.opts.Version, Uptime: now.Sub(srv.started).Seconds(),
		Connections: srv.connections.Load(), Topics: len(s.topics), Partitions: s.partitions,
		Published: m.published.messages.Load(), BytesIn: m.published.bytes.Load(),
		Delivered: m.delivered.messages.Load(), BytesOut: m.delivered.bytes.Load(),
		Stored: s.log.records, StoredBytes: s.log.bytes,
		Subscriptions: m.subscriptions.Load(), Sent: m.sent.messages.Load(), Passed: m.passed.messages.Load(),
	}
}

// statsJSON returns the statistics. It looks at every partition, which takes milliseconds when there are 10,000, so it is
// not called on an event loop.
func (srv *Server) statsJSON(now time.Time) []byte {
	body, err := json.Marshal(srv.Stats(now))
	if err != nil {
		panic("server: statistics cannot be encoded: " + err.Error())
	}
	return body
}
