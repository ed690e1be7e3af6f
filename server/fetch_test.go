package server

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/wire"
)

// Old records that are in the page cache do not wait for a worker, if the connection is the only active one.
func TestAFetchThatGoesOnReadsFromThePageCache(t *testing.T) {
	o := Options{Dir: t.TempDir(), Loops: 1, Listen: "127.0.0.1:0"}
	first, err := New(o)
	require.NoError(t, err)
	require.NoError(t, first.Start())
	p := login(t, first)
	h := p.resolve("orders").Handle
	for i := range 200 {
		p.publish(h, 0, fmt.Sprint(i)+strings.Repeat(".", 1000))
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	require.NoError(t, first.Shutdown(ctx))
	skipWithoutPageCache(t, o.Dir)

	srv := startServer(t, o)
	p = login(t, srv)
	h = p.resolve("orders").Handle
	var next uint64
	fetch := func() {
		t.Helper()
		records, e := p.fetch(wire.Fetch{Handle: h, From: wire.Position{Kind: wire.PositionOffset, Value: next}, MaxBytes: 16 << 10, MinBytes: 1})
		require.NotEmpty(t, records)
		require.True(t, strings.HasPrefix(records[0], fmt.Sprint(next)+"."))
		require.Greater(t, e.Next, next)
		next = e.Next
	}
	fetch() // finds the place in the file
	for range soloTurns {
		p.send(wire.OpPing, 0, nil)
		p.read()
	}
	l := srv.loops[0].loop
	others := func(wait bool) { l.post(jobFunc(func(time.Time) { l.awaited = func() bool { return wait } })) }
	release := occupy(t, srv)
	others(false)
	fetch()
	fetch()
	others(true)
	p.send(wire.OpFetch, 0, (&wire.Fetch{Handle: h, From: wire.Position{Kind: wire.PositionOffset, Value: next}, MaxBytes: 16 << 10}).Append)
	p.send(wire.OpPing, 0, nil)
	require.Equal(t, wire.OpPing|wire.OpReply, p.read().Op, "the fetch waits for a worker")
	release()
	require.Equal(t, wire.OpFetch|wire.OpReply, p.read().Op)
}

// skipWithoutPageCache skips a test where the system cannot read from the page cache only.
func skipWithoutPageCache(t *testing.T, dir string) {
	t.Helper()
	name := dir + "/probe"
	require.NoError(t, os.WriteFile(name, []byte("probe"), 0o600))
	defer os.Remove(name)
	f, err := log.OS.Open(name, false, false)
	require.NoError(t, err)
	defer f.Close()
	cached, ok := f.(interface {
		ReadCached(b []byte, pos int64) bool
	})
	if !ok || !cached.ReadCached(make([]byte, 1), 0) {
		t.Skip("this file system cannot be asked for what is in memory")
	}
}
