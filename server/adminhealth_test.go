package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// answers waits until a page answers with a status and a text.
func answers(t *testing.T, srv *Server, path string, status int, text string) {
	t.Helper()
	last := ""
	require.Eventually(t, func() bool {
		got, body := get(t, srv, path)
		last = fmt.Sprint(got, " ", body)
		return got == status && strings.Contains(body, text)
	}, waitLimit, time.Millisecond, "%s: %s", path, &last)
}

func TestAFailedPartitionIsListedAndLeavesTheRestReady(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk, Admin: "127.0.0.1:0"})
	p := login(t, srv)
	orders, other := p.resolve("orders").Handle, p.resolve("other").Handle
	p.publish(other, 0, "before")
	answers(t, srv, "/readyz", http.StatusOK, "ok\n")
	disk.Fail(func(op faultfs.Op, _ string) error {
		if op == faultfs.OpSync {
			return faultfs.ErrInjected
		}
		return nil
	})
	p.refused(wire.CodeStorage, wire.OpPublish, 0, publishBody(orders, 0, batchOf("lost")))
	disk.Fail(nil)

	answers(t, srv, "/readyz", http.StatusOK, "degraded: orders/0 is read-only after a storage failure\n")
	answers(t, srv, "/healthz", http.StatusOK, "ok\n")
	_, body := get(t, srv, "/readyz")
	require.NotContains(t, body, "other")
	p.publish(other, 0, "after")
	p.refused(wire.CodeReadOnly, wire.OpPublish, 0, publishBody(orders, 0, batchOf("refused")))
	m := scrape(t, srv)
	require.Equal(t, 1.0, m["rafka_storage_read_only_partitions"])
	require.Positive(t, m["rafka_storage_write_errors_total"])
	require.Greater(t, m["rafka_storage_errors_total"], m["rafka_storage_write_errors_total"])
	require.Equal(t, 2.0, m["rafka_messages_failed_total"])
}

func TestScheduledMessagesThatCannotBeReadAreTold(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk})
	p := login(t, srv)
	h := p.resolve("jobs").Handle
	m := wire.Schedule{Handle: h, Items: []wire.ScheduleItem{{Kind: wire.ScheduleDelay, Ms: 1 << 30, Batch: batchOf("later")}}}
	p.call(wire.OpSchedule, 0, m.Append)

	disk = disk.Clone()
	s, err := log.Open(log.Options{Dir: "/data", FS: disk, MemoryBytes: 1 << 20})
	require.NoError(t, err)
	const companion = 1 << 31
	l, err := s.OpenLog(wire.Identity{Topic: srv.registry.Topic("jobs").ID(), Partition: companion}, log.Config{})
	require.NoError(t, err)
	_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: wire.AppendPayload(nil, []byte{0xff})})
	require.NoError(t, err)
	require.NoError(t, s.Close())

	srv = startServer(t, Options{Dir: "/data", FS: disk, Admin: "127.0.0.1:0"})
	answers(t, srv, "/readyz", http.StatusOK, "degraded: scheduled messages of jobs/0 cannot be read\n")
	require.Equal(t, 1.0, scrape(t, srv)["rafka_storage_read_only_partitions"])
}

func TestAFullDiskIsTold(t *testing.T) {
	disk := faultfs.New()
	srv := startServer(t, Options{Dir: "/data", FS: disk, Admin: "127.0.0.1:0"})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "before")
	disk.SetCapacity(1)
	value := strings.Repeat("v", 1<<20-100)
	require.Eventually(t, func() bool {
		f := p.call(wire.OpPublish, 0, publishBody(h, 0, batchOf(value)))
		return f.Flags&wire.FlagError != 0
	}, waitLimit, time.Millisecond)
	answers(t, srv, "/readyz", http.StatusOK, "degraded: the disk is full")
	answers(t, srv, "/healthz", http.StatusOK, "ok\n")
	require.Equal(t, 1.0, scrape(t, srv)["rafka_storage_full"])
	require.Equal(t, wire.StatusFull, srv.registry.Topics()[0].Info().Partitions[0].Status)
	disk.SetCapacity(0)
	answers(t, srv, "/readyz", http.StatusOK, "ok\n")
	require.Eventually(t, func() bool { _, body := get(t, srv, "/readyz"); return body == "ok\n" }, waitLimit, time.Millisecond)
	require.Equal(t, wire.StatusOK, srv.registry.Topics()[0].Info().Partitions[0].Status)
}

func TestABrokerThatStopsIsNotReady(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0"})
	answers(t, srv, "/readyz", http.StatusOK, "ok\n")
	srv.accepting.Store(false) // what a shutdown does first
	answers(t, srv, "/readyz", http.StatusServiceUnavailable, "shutting down")
	answers(t, srv, "/healthz", http.StatusOK, "ok\n")
	answers(t, srv, "/livez", http.StatusOK, "ok\n")
}
