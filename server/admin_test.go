package server

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// get asks the admin server.
func get(t *testing.T, srv *Server, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get("http://" + srv.AdminAddr().String() + path)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(b)
}

// scrape returns the sum of each metric over its labels.
func scrape(t *testing.T, srv *Server) map[string]float64 {
	t.Helper()
	status, body := get(t, srv, "/metrics")
	require.Equal(t, http.StatusOK, status)
	sums := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value := line[:strings.IndexAny(line, "{ ")], line[strings.LastIndexByte(line, ' ')+1:]
		v, err := strconv.ParseFloat(value, 64)
		require.NoError(t, err, line)
		sums[name] += v
	}
	return sums
}

// TestTheSeedsMetricsMove drives every one of the 18 metrics of the first Rafka.
func TestTheSeedsMetricsMove(t *testing.T) {
	now := time.Now()
	srv := startServer(t, Options{Dir: t.TempDir(), Admin: "127.0.0.1:0"})
	before := scrape(t, srv)
	p := login(t, srv)
	h := p.resolve("orders").Handle
	for range 50 {
		p.publish(h, 0, "hello")
	}
	p.fetch(wire.Fetch{Handle: h, MaxBytes: 1 << 20})
	sub := wire.Subscribe{Handle: h, Credit: 1 << 20}
	p.send(wire.OpSubscribe, 0, sub.Append)
	require.Equal(t, wire.OpSubscribe|wire.OpReply, p.read().Op)
	require.Equal(t, wire.OpDeliver, p.read().Op)
	p.refused(wire.CodeCorruptBatch, wire.OpPublish, 0, publishBody(h, 0, []byte("not a batch")))
	p.refused(wire.CodePartitionNotFound, wire.OpPublish, 0, publishBody(h, 9, batchOf("x")))
	bad := connect(t, srv)
	bad.write([]byte("\x00"))
	bad.closed()
	srv.metrics.failed(wire.OpPublish, wire.CodeStorageFull) // a full disk is too much for this test
	require.Eventually(t, func() bool {
		m := scrape(t, srv)
		return m["rafka_publish_throughput_messages_per_second"] > 0 && m["rafka_consume_throughput_messages_per_second"] > 0
	}, waitLimit, 50*time.Millisecond)

	after := scrape(t, srv)
	for _, name := range []string{
		"rafka_messages_published_total", "rafka_messages_consumed_total", "rafka_messages_failed_total",
		"rafka_publish_latency_seconds_count", "rafka_consume_latency_seconds_count", "rafka_broker_response_latency_seconds_count",
		"rafka_publish_throughput_messages_per_second", "rafka_consume_throughput_messages_per_second",
		"rafka_active_connections", "rafka_active_topics", "rafka_active_consumers",
		"rafka_storage_messages_total", "rafka_storage_bytes_total", "rafka_storage_oldest_message_age_seconds",
		"rafka_connection_errors_total", "rafka_partition_errors_total", "rafka_storage_errors_total",
	} {
		require.Contains(t, before, name)
		require.Greater(t, after[name], before[name], name)
	}
	require.NotEqual(t, before["rafka_memory_usage_bytes"], after["rafka_memory_usage_bytes"])
	require.Equal(t, 50.0, after["rafka_messages_published_total"])
	require.Equal(t, 100.0, after["rafka_messages_consumed_total"], "fetched and pushed")
	require.Equal(t, 50.0, after["rafka_publish_latency_seconds_count"])
	require.Less(t, after["rafka_storage_oldest_message_age_seconds"], time.Since(now).Seconds()+1)
}

func TestLagIsTold(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0"})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a", "b", "c")
	m := wire.Commit{Handle: h, Group: []byte("audit"), Offsets: []wire.PartitionOffset{{Offset: 1}}}
	p.call(wire.OpCommit, 0, m.Append)
	require.Equal(t, 2.0, scrape(t, srv)["rafka_group_lag_messages"])
	require.Eventually(t, func() bool { return scrape(t, srv)["rafka_group_lag_seconds"] > 0 }, waitLimit, time.Millisecond)
	_, body := get(t, srv, "/metrics")
	require.Contains(t, body, "\nrafka_group_members{group=\"audit\"} 0\n", "an alert can see that nobody reads")
	_, body = get(t, srv, "/groupz")
	var groups []wire.GroupInfo
	require.NoError(t, json.Unmarshal([]byte(body), &groups))
	require.Equal(t, uint64(2), groups[0].Lag)
}

func TestEveryPageAnswers(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0"})
	login(t, srv).resolve("orders")
	_, index := get(t, srv, "/")
	for _, path := range []string{
		"/healthz", "/readyz", "/livez", "/metrics", "/varz", "/connz", "/topicz", "/groupz",
		"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/goroutine",
	} {
		status, body := get(t, srv, path)
		require.Equal(t, http.StatusOK, status, path)
		require.NotEmpty(t, body, path)
		require.True(t, strings.HasPrefix(path, "/debug") || strings.Contains(index, path), path)
	}
	for _, path := range []string{"/varz", "/connz", "/topicz", "/groupz"} {
		_, body := get(t, srv, path)
		require.True(t, json.Valid([]byte(body)), path)
	}
	_, body := get(t, srv, "/topicz")
	require.Contains(t, body, `"orders"`)
	require.Contains(t, body, `"partitions":[{"partition":0,"first":0,"next":0,"visible":0,"bytes":0,"status":"ok"}]`)
	status, _ := get(t, srv, "/nothing")
	require.Equal(t, http.StatusNotFound, status)
	r, err := http.Post("http://"+srv.AdminAddr().String()+"/varz", "text/plain", nil)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)
}

func TestTheAdminServerHasTimeouts(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0"})
	h := srv.admin.http
	require.NotNil(t, h.ErrorLog)
	for _, d := range []time.Duration{h.ReadTimeout, h.ReadHeaderTimeout, h.WriteTimeout, h.IdleTimeout} {
		require.Positive(t, d)
	}
	require.NotEqual(t, http.Handler(http.DefaultServeMux), h.Handler)
}

func TestAnAdminAddressInUseFailsTheStart(t *testing.T) {
	first := startServer(t, Options{Admin: "127.0.0.1:0"})
	srv, err := New(Options{Listen: "127.0.0.1:0", Admin: first.AdminAddr().String()})
	require.NoError(t, err)
	require.ErrorContains(t, srv.Start(), "listen for admin HTTP")
}
