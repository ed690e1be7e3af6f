package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// connection is a client connection in /connz.
type connection struct {
	ID            uint64  `json:"id"`
	Remote        string  `json:"remote"`
	Protocol      string  `json:"protocol"` // "binary" or "text"; "" before the first byte
	Name          string  `json:"name"`     // chosen by the client
	User          string  `json:"user"`
	Open          float64 `json:"open_seconds"`
	Idle          float64 `json:"idle_seconds"` // since the client last sent something
	Received      uint64  `json:"received_bytes"`
	Sent          uint64  `json:"sent_bytes"`
	Pending       int     `json:"pending_bytes"`   // output that the client has not read yet
	InFlight      int     `json:"in_flight_bytes"` // publishes that wait for the disk
	Waiting       int     `json:"waiting"`         // requests that wait for records
	Subscriptions int     `json:"subscriptions"`
}

// connections is the response to /connz.
type connections struct {
	Total       int64        `json:"total"` // open now
	Connections []connection `json:"connections"`
	Next        uint64       `json:"next,omitempty"`       // "after" of the next page; absent on the last one
	Incomplete  bool         `json:"incomplete,omitempty"` // an event loop was too busy to answer
}

const (
	// connLimit is the default number of connections that /connz lists, and maxConnLimit the highest: an event
	// loop serves nobody while it describes its connections.
	connLimit    = 1000
	maxConnLimit = 10_000
	// connWait is how long /connz, and a lower limit of connections, wait for event loops.
	connWait = 2 * time.Second
)

// conns lists at most limit connections with ids above after, in the order of ids.
func (a *admin) conns(w http.ResponseWriter, r *http.Request) {
	limit, err := queryNumber(r, "limit", connLimit)
	after, err2 := queryNumber(r, "after", 0)
	if err != nil || err2 != nil || limit == 0 {
		a.text(w, http.StatusBadRequest, "usage: /connz?limit=1000&after=ID\n")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), connWait)
	defer cancel()
	a.json(w, a.srv.describeConnections(ctx, after, int(min(limit, maxConnLimit))))
}

// queryNumber returns a numeric parameter of the request's query.
func queryNumber(r *http.Request, name string, fallback uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// describeConnections asks every loop for its connections with ids above after.
func (srv *Server) describeConnections(ctx context.Context, after uint64, limit int) connections {
	var mu sync.Mutex // guards list, to which a late loop may still add
	list := []connection{}
	srv.onLoops(ctx, func(l *loop, now time.Time) int {
		found := l.describeSessions(after, limit, now)
		mu.Lock()
		defer mu.Unlock()
		list = append(list, found...)
		return 0
	})
	mu.Lock()
	defer mu.Unlock()
	c := connections{Total: srv.connections.Load(), Connections: slices.Clone(list), Incomplete: ctx.Err() != nil}
	slices.SortFunc(c.Connections, func(a, b connection) int { return cmp.Compare(a.ID, b.ID) })
	if len(c.Connections) > limit {
		c.Connections = c.Connections[:limit]
		c.Next = c.Connections[limit-1].ID
	}
	return c
}

// describeSessions returns the first sessions with ids above after: at most limit and one more, so that the caller knows
// whether there are more.
func (l *loop) describeSessions(after uint64, limit int, now time.Time) []connection {
	found := make([]*session, 0, len(l.sessions))
	for s := range l.sessions {
		if s.id > after && !s.closed {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	found = found[:min(len(found), limit+1)]
	list := make([]connection, len(found))
	for i, s := range found {
		s.describe(&list[i], now)
	}
	return list
}

func (s *session) describe(c *connection, now time.Time) {
	*c = connection{
		ID: s.id, Remote: s.t.RemoteAddr().String(), Name: s.name, User: s.who.Name(),
		Open: ageOf(s.opened, now), Idle: ageOf(s.lastRead, now),
		Received: s.received, Sent: s.sent, Pending: s.t.OutboundBuffered(),
	}
	if s.proto != nil {
		s.proto.describe(c)
	}
}

func (b *binary) describe(c *connection) {
	c.Protocol, c.InFlight, c.Waiting, c.Subscriptions = "binary", b.held, len(b.polls), len(b.subs)
}

func (t *text) describe(c *connection) {
	c.Protocol, c.InFlight, c.Subscriptions = "text", t.held, t.subs.len()
}
