package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log/faultfs"
	"github.com/rafka-mq/rafka/wire"
)

// metricNames returns the metrics named in a text.
func metricNames(text string) map[string]bool {
	found := map[string]bool{}
	for _, n := range regexp.MustCompile(`\brafka_[a-z_]+`).FindAllString(text, -1) {
		found[n] = true
	}
	return found
}

// operationsPage returns the page that documents metrics.
func operationsPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	return string(page)
}

// TestEveryMetricIsDocumented compares the source with the operations page, both ways.
func TestEveryMetricIsDocumented(t *testing.T) {
	files, err := filepath.Glob("collector*.go")
	require.NoError(t, err)
	var source strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		source.Write(text)
	}
	require.Equal(t, metricNames(source.String()), metricNames(operationsPage(t)))
}

// TestTheMetricsTableIsWhatAScrapeSays compares names, kinds and descriptions.
func TestTheMetricsTableIsWhatAScrapeSays(t *testing.T) {
	srv := startServer(t, Options{Dir: t.TempDir(), Admin: "127.0.0.1:0"})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a")
	p.refused(wire.CodePartitionNotFound, wire.OpPublish, 0, publishBody(h, 9, batchOf("x")))
	m := wire.Commit{Handle: h, Group: []byte("audit"), Offsets: []wire.PartitionOffset{{}}}
	p.call(wire.OpCommit, 0, m.Append)
	j := wire.JoinGroup{Group: "readers", Member: "m", Topics: []string{"orders"}}
	p.call(wire.OpJoinGroup, 0, j.Append)
	_, body := get(t, srv, "/metrics")
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (rafka_\w+) (\w+)$`).FindAllStringSubmatch(body, -1) {
		kinds[m[1]] = m[2]
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^# HELP (rafka_\w+) (.*)$`).FindAllStringSubmatch(body, -1) {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", m[1], kinds[m[1]], m[2]))
	}
	rows := regexp.MustCompile("(?m)^\\| `rafka_.*$").FindAllString(operationsPage(t), -1)
	require.ElementsMatch(t, want, rows)
	require.Contains(t, body, "\ngo_goroutines ")
	require.Contains(t, body, "\nprocess_")
	require.Positive(t, scrape(t, srv)["rafka_storage_fsync_duration_seconds_count"])

	// promtool check metrics says the same.
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	require.NoError(t, err)
	var names []string
	for _, p := range problems {
		names = append(names, p.Metric)
	}
	require.ElementsMatch(t, []string{"rafka_storage_messages_total", "rafka_storage_bytes_total"}, names, problems)
}

// A group and a queue of the same name have series each.
func TestAGroupAndAQueueOfOneNameAreTwo(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0"})
	p := login(t, srv)
	h := p.resolve("orders").Handle
	p.publish(h, 0, "a", "b", "c")
	m := wire.Commit{Handle: h, Group: []byte("work"), Offsets: []wire.PartitionOffset{{Offset: 2}}}
	require.Zero(t, p.call(wire.OpCommit, 0, m.Append).Flags)
	require.Zero(t, p.call(wire.OpOpenQueue, 0, (&wire.OpenQueue{Handle: h, Group: "work"}).Append).Flags)
	_, body := get(t, srv, "/metrics")
	lags := regexp.MustCompile(`(?m)^rafka_group_lag_messages\{.*$`).FindAllString(body, -1)
	require.ElementsMatch(t, []string{
		`rafka_group_lag_messages{group="work",mode="group",topic="orders"} 1`,
		`rafka_group_lag_messages{group="work",mode="queue",topic="orders"} 3`,
	}, lags)
}

// TestALongListOfTopicsIsCut checks that what a scrape leaves out is counted.
func TestALongListOfTopicsIsCut(t *testing.T) {
	srv := startServer(t, Options{Admin: "127.0.0.1:0", MemoryBytes: 64 << 20})
	for i := range 11 {
		_, err := srv.registry.Create(fmt.Sprint("topic-", i), 100, nil)
		require.NoError(t, err)
	}
	for i := range maxSeries {
		_, err := srv.registry.Topic("topic-0").Partition(0).Commit(fmt.Sprint("group-", i), 0, 0, time.Now())
		require.NoError(t, err)
	}
	_, err := srv.registry.Topic("topic-1").Partition(0).Commit("one-more", 0, 0, time.Now())
	require.NoError(t, err)
	status, body := get(t, srv, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `rafka_metrics_series_suppressed{kind="partition"} 100`)
	require.Contains(t, body, `rafka_metrics_series_suppressed{kind="topic"} 0`)
	require.Contains(t, body, `rafka_metrics_series_suppressed{kind="group"} 1`)
	require.Equal(t, maxSeries, strings.Count(body, "\nrafka_partition_end_offset{"))
	require.Equal(t, 1100.0, scrape(t, srv)["rafka_partitions"])
}

// TestTheOldestMessageIsKnownAfterARestart reopens a data directory: what is old is on the disk only.
func TestTheOldestMessageIsKnownAfterARestart(t *testing.T) {
	disk := faultfs.New()
	now := time.Now()
	clock := func() time.Time { return now }
	srv := startServer(t, Options{Dir: "/data", FS: disk, Now: clock})
	p := login(t, srv)
	p.publish(p.resolve("orders").Handle, 0, "old")
	shutdown(t, srv)
	later := now.Add(time.Hour)
	srv = startServer(t, Options{Dir: "/data", FS: disk.Clone(), Admin: "127.0.0.1:0", Now: func() time.Time { return later }})
	for range 2 {
		require.InDelta(t, 3600, scrape(t, srv)["rafka_storage_oldest_message_age_seconds"], 1)
	}
}
