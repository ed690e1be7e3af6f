package server

import (
	"encoding/json"
	"time"
)

// Stats is the answer to the stats operation, to the text verb STATS and to /varz.
type Stats struct {
	Name        string  `json:"name"`
	Version     string  `json:"version"`
	Uptime      float64 `json:"uptime_seconds"`
	Connections int64   `json:"connections"`
	Topics      int     `json:"topics"`
	Partitions  int     `json:"partitions"`
	Published   uint64  `json:"published_messages"`
	Delivered   uint64  `json:"delivered_messages"`
	BytesIn     uint64  `json:"published_bytes"`
	BytesOut    uint64  `json:"delivered_bytes"`
	Stored      uint64  `json:"stored_messages"`
	StoredBytes int64   `json:"stored_bytes"`
}

// Stats returns what the broker counts.
func (srv *Server) Stats(now time.Time) Stats {
	st := Stats{
		Name: srv.opts.Name, Version: srv.opts.Version, Uptime: now.Sub(srv.started).Seconds(),
		Connections: srv.connections.Load(),
	}
	for _, t := range srv.registry.Topics() {
		st.Topics++
		for _, p := range t.Partitions() {
			s := p.Stats()
			st.Partitions++
			st.Published += s.PublishedMessages
			st.Delivered += s.DeliveredMessages
			st.BytesIn += s.PublishedBytes
			st.BytesOut += s.DeliveredBytes
			st.Stored += s.Log.Records
			st.StoredBytes += s.Log.Bytes
		}
	}
	return st
}

func (srv *Server) statsJSON(now time.Time) []byte {
	body, err := json.Marshal(srv.Stats(now))
	if err != nil {
		panic("server: statistics cannot be encoded: " + err.Error())
	}
	return body
}
