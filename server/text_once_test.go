package server

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// Headers of a NATS client's message name it and bound its life, as those of the Go client do.
func TestTextMessagesHaveIDsAndTimesToLive(t *testing.T) {
	srv := startServer(t, Options{})
	_, err := srv.registry.Create("orders", 1, []wire.Setting{{Key: "dedupe_window", Value: "1h"}})
	require.NoError(t, err)
	nc := natsClient(t, srv)
	ask := func(header, value, answer string) {
		t.Helper()
		m := nats.NewMsg("orders")
		m.Data = []byte("hello")
		m.Header.Set(header, value)
		r, err := nc.RequestMsg(m, waitLimit)
		require.NoError(t, err)
		require.Contains(t, string(r.Data), answer)
	}
	ask("Nats-Msg-Id", "a", `"offset":0,"level":"memory"}`)
	ask("Nats-Msg-Id", "b", `"offset":1,"level":"memory"}`)
	ask("Nats-Msg-Id", "a", `"offset":0,"level":"memory","duplicate":true}`)
	ask("rafka-id", "b", `"offset":1,"level":"memory","duplicate":true}`)
	ask("rafka-ttl", "1ms", `"offset":2,`)
	ask("Nats-TTL", "3600", `"offset":3,`)
	for _, bad := range []string{"-1", "0", "soon", "1us", "99999999999999999999"} {
		ask("rafka-ttl", bad, `"name":"INVALID"`)
	}

	p := login(t, srv)
	handle := p.resolve("orders").Handle
	require.Eventually(t, func() bool {
		values, entries := p.fetch(wire.Fetch{Handle: handle, MaxBytes: 1 << 20})
		return len(values) == 3 && entries.Next == 4
	}, waitLimit, time.Millisecond, "one is over its time to live")
}
