package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

func TestColoursOnATerminalOnly(t *testing.T) {
	f := func(tty bool, noColor, want string) {
		t.Helper()
		c := newCLI(nil, nil, nil, func(string) (string, bool) { return noColor, noColor != "" })
		c.outTTY, c.errTTY = tty, tty
		require.Equal(t, want, c.red("x"))
		require.Equal(t, strings.ReplaceAll(want, "31", "1"), c.bold("x"))
	}
	f(true, "", "\x1b[31mx\x1b[0m")
	f(true, "1", "x")
	f(false, "", "x")
}

func TestProgressOnATerminalAndForFilesOnly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(name, []byte("0123456789"), 0o600))
	file, err := os.Open(name)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()

	var shown bytes.Buffer
	c := newCLI(nil, nil, &shown, func(string) (string, bool) { return "", false })
	require.Nil(t, c.progress(file, "x").p)
	c.errTTY = true
	require.Nil(t, c.progress(strings.NewReader("x"), "x").p)
	b := c.progress(file, "publish")
	require.NotNil(t, b.p)
	_, err = b.reader(file).Read(make([]byte, 5))
	require.NoError(t, err)
	require.Contains(t, shown.String(), "publish")
	b.finish()
}

func TestGroupsAreSummedByTopic(t *testing.T) {
	require.Equal(t, []groupRow{
		{Group: "a", Mode: "group", Topic: "x", Lag: 3, LagSeconds: 5, Partitions: 2, Members: 2, State: "active"},
		{Group: "a", Mode: "group", Topic: "y", Lag: 4, Partitions: 1, Members: 1, State: "paused"},
		{Group: "a", Mode: "queue", Topic: "x", InFlight: 1, Retrying: 2, Dead: 3, Partitions: 1, State: "open"},
		{Group: "b", Mode: "group", Topic: "x", Members: 1, State: "active"},
	}, sumGroups([]wire.GroupInfo{
		{Group: "a", Mode: "group", Topic: "x", Lag: 1, LagSeconds: 5},
		{Group: "a", Mode: "group", Topic: "y", Lag: 4, Paused: true},
		{Group: "a", Mode: "group", Topic: "x", Partition: 1, Lag: 2, LagSeconds: 1},
		{Group: "a", Mode: "queue", Topic: "x", InFlight: 1, Retrying: 2, Dead: 3},
	}, []wire.GroupMembers{
		{Group: "a", Members: []wire.GroupMember{{Topics: []string{"x", "y"}}, {Topics: []string{"x"}}}},
		{Group: "b", Members: []wire.GroupMember{{Topics: []string{"x"}}}},
	}))
}

func TestLagsAreTotalled(t *testing.T) {
	infos := []wire.GroupInfo{
		{Group: "b", Topic: "y", Lag: 1},
		{Group: "a", Topic: "x", Partition: 1, Lag: 2, LagSeconds: 9},
		{Group: "b", Topic: "x", Lag: 7, LagSeconds: 3},
		{Group: "a", Topic: "x", Lag: 1, LagSeconds: 4},
	}
	f := func(partitions bool, want ...string) {
		t.Helper()
		var got []string
		for _, r := range lags(infos, partitions) {
			p := "*"
			if r.Partition != nil {
				p = fmt.Sprint(*r.Partition)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d %g", r.Group, r.Topic, p, r.Lag, r.LagSeconds))
		}
		require.Equal(t, want, got)
	}
	f(false, "b  * 8 3", "b x * 7 3", "b y * 1 0", "a  * 3 9", "a x * 3 9")
	f(true, "b  * 8 3", "b x * 7 3", "b x 0 7 3", "b y * 1 0", "b y 0 1 0", "a  * 3 9", "a x * 3 9", "a x 0 1 4", "a x 1 2 9")
}

// The names of the fields are an interface: programs read them.
func TestTopicsAsJSON(t *testing.T) {
	row := newTopicRow(wire.TopicInfo{
		Topic: "orders", ID: [16]byte{1, 0xab},
		Partitions: []wire.PartitionInfo{
			{First: 2, Visible: 5, Next: 6, Bytes: 10},
			{First: 7, Visible: 3, Status: wire.StatusReadOnly},
			{Status: wire.StatusForeign},
		},
		Settings: []wire.Setting{{Key: "retention", Value: "7d"}},
	})
	require.Equal(t, "read-only", row.status())
	b, err := encodeJSON(row, false)
	require.NoError(t, err)
	require.Equal(t, `{"topic":"orders","id":"01ab0000000000000000000000000000","messages":3,"bytes":10,`+
		`"settings":{"retention":"7d"},"partitions":[`+
		`{"partition":0,"first":2,"next":6,"visible":5,"messages":3,"bytes":10,"status":"ok"},`+
		`{"partition":1,"first":7,"next":0,"visible":3,"messages":0,"bytes":0,"status":"read-only"},`+
		`{"partition":2,"first":0,"next":0,"visible":0,"messages":0,"bytes":0,"status":"elsewhere"}]}`+"\n", string(b))
}
