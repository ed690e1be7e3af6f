package server

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestTextClientsScheduleWithHeaders(t *testing.T) {
	srv := startServer(t, Options{})
	_, err := srv.registry.Create("orders", 1, []wire.Setting{{Key: "subjects", Value: "orders.>"}})
	require.NoError(t, err)
	nc, err := nats.Connect(natsURL(srv), nats.Timeout(waitLimit))
	require.NoError(t, err)
	defer nc.Close()
	sub, err := nc.SubscribeSync("orders.>")
	require.NoError(t, err)
	ask := func(name, value string) (answer struct {
		Schedule uint64
		Offset   *uint64
		Error    *struct{ Message string }
	},
	) {
		t.Helper()
		m := nats.NewMsg("orders.eu")
		m.Header.Set(name, value)
		m.Header.Set("color", "red")
		m.Data = []byte(value)
		reply, err := nc.RequestMsg(m, waitLimit)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(reply.Data, &answer))
		return answer
	}
	start := time.Now()
	a := ask("Rafka-Delay", "80ms")
	require.Equal(t, uint64(1), a.Schedule)
	require.Nil(t, a.Offset)
	a = ask("rafka-at", time.Now().Add(time.Hour).Format(time.RFC3339Nano))
	require.Equal(t, uint64(2), a.Schedule)
	a = ask("rafka-cron", "0 9 * * *")
	require.Equal(t, uint64(3), a.Schedule)
	for name, value := range map[string]string{"rafka-delay": "soon", "rafka-at": "10:00", "rafka-cron": "daily", "rafka-cron-tz": "UTC"} {
		require.NotNil(t, ask(name, value).Error, name)
	}
	m, err := sub.NextMsg(waitLimit)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), 79*time.Millisecond) // times are whole milliseconds
	require.Equal(t, "orders.eu", m.Subject)
	require.Equal(t, "80ms", string(m.Data))
	require.Equal(t, nats.Header{"color": []string{"red"}}, m.Header)
	require.Equal(t, uint64(1), srv.registry.Topic("orders").Partition(0).Visible())
	pending, _, err := sub.Pending()
	require.NoError(t, err)
	require.Zero(t, pending)
}

// Who may publish to a topic may not send to other subjects, by way of a record that names one and is published later.
func TestAScheduledRecordGoesToSubjectsOfItsTopicOnly(t *testing.T) {
	srv := startServer(t, Options{})
	_, err := srv.registry.Create("orders", 1, []wire.Setting{{Key: "subjects", Value: "orders.*"}})
	require.NoError(t, err)
	p := login(t, srv)
	h := p.resolve("orders").Handle
	listener := login(t, srv)
	all := listener.listen(">", "")
	for subject, want := range map[string]string{"orders.eu": "orders.eu", "": "orders", "secret": "orders", "_INBOX.1": "orders"} {
		var b wire.BatchBuilder
		b.Add(wire.Record{Value: []byte("v"), Subject: []byte(subject)})
		m := wire.Schedule{Handle: h, Items: []wire.ScheduleItem{{Kind: wire.ScheduleDelay, Batch: b.Bytes()}}}
		f := p.call(wire.OpSchedule, 0, m.Append)
		require.Zero(t, f.Flags&wire.FlagError, "%q", f.Body)
		require.Equal(t, want+`  "" v`, listener.message(all))
	}
}
