package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/wire"
)

// A segment whose footer was cleared is named, and is no damage.
func TestVerifyNamesSegmentsWithoutAFooter(t *testing.T) {
	dir := t.TempDir()
	s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 1 << 20, SegmentBytes: 4 << 10})
	require.NoError(t, err)
	l, err := s.OpenLog(wire.Identity{Topic: [16]byte{1}}, log.Config{})
	require.NoError(t, err)
	for range 5 {
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: wire.AppendPayload(nil, make([]byte, 2000))})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	names, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.seg"))
	require.NoError(t, err)
	require.Greater(t, len(names), 2)
	verify := func(want, said string) {
		t.Helper()
		var out, errs bytes.Buffer
		c := newCLI(nil, &out, &errs, func(string) (string, bool) { return "", false })
		cmd := c.verifyCommand()
		require.NoError(t, cmd.RunE(cmd, []string{dir}))
		require.Regexp(t, want, out.String())
		require.Regexp(t, said, errs.String())
	}
	verify(`torn +0\nunsealed +0\n`, `^$`)
	f, err := os.OpenFile(names[1], os.O_RDWR, 0)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	const footer = 96 + 40
	_, err = f.WriteAt(make([]byte, footer), info.Size()-footer)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	verify(`torn +1\nunsealed +1\ndamaged +0`, `^note: .*/`+filepath.Base(names[1])+` has no footer at byte \d+: its records are intact`)
}

func TestVerifyFindsStateThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 1 << 20})
	require.NoError(t, err)
	for i, state := range []string{"", "this is no state of anybody"} {
		id := wire.Identity{Topic: [16]byte{1}, Partition: uint32(i)}
		l, err := s.OpenLog(id, log.Config{State: func() ([]byte, uint64) { return []byte(state), 1 }})
		require.NoError(t, err)
		_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: wire.AppendPayload(nil, []byte("entry"))})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	r, err := log.Verify(dir)
	require.NoError(t, err)
	require.True(t, r.OK(), "every checksum is right")
	bad, err := damagedStates(dir)
	require.NoError(t, err)
	require.Len(t, bad, 1)
	require.Equal(t, uint32(1), bad[0].Partition)
	require.Contains(t, bad[0].Damage, "consumer state")
}

// What a newer version wrote is not called damaged: a backup in its place would lose what the directory has.
func TestVerifyDoesNotCallANewerFormatDamaged(t *testing.T) {
	for name, id := range map[string]wire.Identity{
		"topics":    {},
		"consumers": {Topic: [16]byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 1 << 20})
			require.NoError(t, err)
			states := map[string]string{"topics": `{"version":2}`, "consumers": "RP\xff"}
			l, err := s.OpenLog(id, log.Config{State: func() ([]byte, uint64) { return []byte(states[name]), 1 }})
			require.NoError(t, err)
			_, _, err = l.Append(log.Batch{Kind: wire.KindState, Term: 1, Payload: wire.AppendPayload(nil, []byte("entry"))})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			var out, errs bytes.Buffer
			c := newCLI(nil, &out, &errs, func(string) (string, bool) { return "", false })
			cmd := c.verifyCommand()
			err = cmd.RunE(cmd, []string{dir})
			require.ErrorIs(t, err, log.ErrVersion)
			f, ok := errors.AsType[*failure](err)
			require.True(t, ok)
			require.Equal(t, newerHint, f.hint)
			require.Empty(t, out.String())
		})
	}
}

// Topics have their names in the output of rafka inspect, beside their ids.
func TestInspectNamesTopics(t *testing.T) {
	dir := t.TempDir()
	s, err := log.Open(log.Options{Dir: dir, MemoryBytes: 1 << 20})
	require.NoError(t, err)
	r, err := partition.Open(s, true, partition.Options{})
	require.NoError(t, err)
	topic, err := r.Create("orders", 2, nil)
	require.NoError(t, err)
	_, err = topic.Partition(1).Commit("audit", 0, 0, time.Now())
	require.NoError(t, err)
	r.Close()
	require.NoError(t, s.Close())

	inspect := func(output string) string {
		t.Helper()
		var out bytes.Buffer
		c := newCLI(nil, &out, nil, func(string) (string, bool) { return "", false })
		cmd := c.inspectCommand()
		c.output = output
		require.NoError(t, cmd.RunE(cmd, []string{dir}))
		return out.String()
	}
	id := uuid.UUID(topic.ID()).String()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err == nil { // Linux
		cmd := newCLI(nil, full, nil, func(string) (string, bool) { return "", false }).inspectCommand()
		require.ErrorIs(t, cmd.RunE(cmd, []string{dir}), syscall.ENOSPC)
		require.NoError(t, full.Close())
	}
	require.Contains(t, inspect("table"), "  "+id+"/1 (orders)")
	require.Contains(t, inspect("jsonl"), `"topic":"`+id+`","name":"orders","partition":1`)
}
