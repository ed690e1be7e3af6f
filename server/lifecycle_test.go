package server

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABrokerThatDidNotStartCanBeStopped(t *testing.T) {
	first := startServer(t, Options{Listen: "127.0.0.1:0"})
	srv, err := New(Options{Listen: first.Addr().String(), Dir: t.TempDir()})
	require.NoError(t, err)
	require.ErrorContains(t, srv.Start(), "address already in use")
	require.NoError(t, srv.Shutdown(t.Context()))
	require.ErrorIs(t, srv.Start(), ErrStarted)

	srv, err = New(Options{Listen: "127.0.0.1:0", Dir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, srv.Shutdown(t.Context()), "never started")
	require.ErrorIs(t, srv.Start(), ErrStarted)
}

func TestABrokerStartsOnce(t *testing.T) {
	srv := startServer(t, Options{Listen: "127.0.0.1:0"})
	require.ErrorIs(t, srv.Start(), ErrStarted)
	login(t, srv)
}

// The limit of open files can be lower than that of connections.
func TestTooFewFilesForTheConnectionsAreSaid(t *testing.T) {
	f := func(connections int) string {
		var said bytes.Buffer
		srv := startServer(t, Options{MaxConnections: connections, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		require.NoError(t, srv.Shutdown(t.Context()))
		return said.String()
	}
	require.NotContains(t, f(10), "open files")
	require.Regexp(t, `level=WARN msg="more connections are allowed than there may be open files: .*" connections=4294967296 files=`, f(1<<32))
}

// Lame duck mode spreads the clients' return over its time, also of those that have an event loop each.
func TestLameDuckClosesOneConnectionAtATime(t *testing.T) {
	srv := startServer(t, Options{})
	var peers []*peer
	for range 3 {
		conn, err := srv.Dial(t.Context())
		require.NoError(t, err)
		p := greet(t, conn)
		p.hello()
		peers = append(peers, p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.LameDuck(ctx, 0, time.Hour)
	}()
	closed := make(chan struct{}, len(peers))
	for _, p := range peers {
		go func() {
			for err := error(nil); err == nil; {
				_, err = p.tryRead()
			}
			closed <- struct{}{}
		}()
	}
	<-closed
	open := srv.onLoops(t.Context(), func(l *loop, _ time.Time) (n int) {
		for s := range l.sessions {
			if !s.closed {
				n++
			}
		}
		return n
	})
	require.Equal(t, 2, open)
	cancel()
	<-done
}
