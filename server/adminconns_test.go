package server

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func listConnections(t *testing.T, srv *Server, query string) (c connections) {
	t.Helper()
	status, body := get(t, srv, "/connz"+query)
	require.Equal(t, http.StatusOK, status, body)
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	require.False(t, c.Incomplete)
	return c
}

func TestConnectionsAreDescribed(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0", Loops: 2})
	require.Empty(t, listConnections(t, srv, "").Connections)

	b := login(t, srv)
	h := b.resolve("orders").Handle
	sub := wire.Subscribe{Handle: h, Credit: 1}
	b.call(wire.OpSubscribe, 0, sub.Append)
	poll := wire.Fetch{Handle: h, MinBytes: 1, MaxBytes: 1, MaxWaitMs: 60_000}
	b.send(wire.OpFetch, 0, poll.Append)
	b.call(wire.OpPing, 0, nil)
	nats := connect(t, srv)
	nats.write([]byte("CONNECT {\"name\":\"radio\",\"verbose\":false}\r\nSUB news 1\r\nSUB sports 2\r\nPING\r\n"))
	line, err := nats.r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "PONG\r\n", line)
	silent := connect(t, srv)

	all := listConnections(t, srv, "")
	require.Equal(t, int64(3), all.Total)
	require.Zero(t, all.Next)
	require.Len(t, all.Connections, 3)
	binary, text, none := all.Connections[0], all.Connections[1], all.Connections[2]
	for _, c := range []*connection{&binary, &text, &none} {
		require.Positive(t, c.Open)
		require.Positive(t, c.Sent, "the greeting at least")
		c.Open, c.Idle, c.Sent, c.Received = 0, 0, 0, min(c.Received, 1)
	}
	want := connection{ID: 1, Remote: b.conn.LocalAddr().String(), Protocol: "binary", Name: "test", Received: 1, Waiting: 1, Subscriptions: 1}
	require.Equal(t, want, binary)
	want = connection{ID: 2, Remote: nats.conn.LocalAddr().String(), Protocol: "text", Name: "radio", Received: 1, Subscriptions: 2}
	require.Equal(t, want, text)
	require.Equal(t, connection{ID: 3, Remote: silent.conn.LocalAddr().String()}, none)
}

func TestConnectionsComeInPages(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0", Loops: 3})
	for range 10 {
		connect(t, srv)
	}
	in, err := srv.Dial(t.Context()) // has a loop of its own
	require.NoError(t, err)
	greet(t, in)
	var ids []uint64
	for after, pages := uint64(0), 0; pages == 0 || after != 0; pages++ {
		require.Less(t, pages, 4)
		page := listConnections(t, srv, "?limit=3&after="+jsonNumber(after))
		require.Equal(t, int64(11), page.Total)
		for _, c := range page.Connections {
			ids = append(ids, c.ID)
		}
		after = page.Next
	}
	require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, ids)
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?after=x", "?limit=99999999999999999999"} {
		status, _ := get(t, srv, "/connz"+query)
		require.Equal(t, http.StatusBadRequest, status, query)
	}
	require.Len(t, listConnections(t, srv, "?limit=18446744073709551615").Connections, 11)
}

func jsonNumber(n uint64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// TestAStuckLoopDoesNotStopConnz blocks one loop for longer than /connz waits.
func TestAStuckLoopDoesNotStopConnz(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0", Loops: 2})
	connect(t, srv)
	connect(t, srv)
	release := make(chan struct{})
	defer close(release)
	require.True(t, srv.loops[0].loop.post(jobFunc(func(time.Time) { <-release })))
	status, body := get(t, srv, "/connz")
	require.Equal(t, http.StatusOK, status)
	var c connections
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	require.True(t, c.Incomplete)
	require.Len(t, c.Connections, 1)
}
