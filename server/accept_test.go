package server

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/wire"
)

// A connection that comes too soon is told, and may come again later. Those who are in do not notice.
func TestConnectionRate(t *testing.T) {
	start := time.Now()
	var passed atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	srv := startServer(t, Options{MaxConnectionRate: 3, Now: now})
	in := login(t, srv)
	require.NoError(t, flushNATS(srv))
	require.NoError(t, flushNATS(srv))
	require.ErrorContains(t, flushNATS(srv), "Connection throttling is active")
	require.Contains(t, connect(t, srv).closed(), "-ERR 'Connection throttling is active. Please try again later.'\r\n")
	require.EqualValues(t, 2, srv.metrics.throttled.Load())
	in.ping()
	passed.Add(int64(time.Second/3) + 1)
	require.NoError(t, flushNATS(srv))
	require.Error(t, flushNATS(srv))
	passed.Add(int64(time.Minute))
	for range 3 {
		require.NoError(t, flushNATS(srv))
	}
	require.Error(t, flushNATS(srv))
	srv.SetMaxConnectionRate(0)
	for range 10 {
		require.NoError(t, flushNATS(srv))
	}
}

// A lower limit closes the newest connections; a higher one lets them in again.
func TestSetMaxConnections(t *testing.T) {
	srv := startServer(t, Options{MaxConnections: 3})
	old := login(t, srv)
	errs := make(chan error, 16)
	nc, err := nats.Connect(natsURL(srv), nats.ReconnectWait(time.Millisecond), nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { errs <- err }))
	require.NoError(t, err)
	defer nc.Close()
	srv.SetMaxConnections(1)
	require.ErrorIs(t, receiveError(t, errs), nats.ErrMaxConnectionsExceeded)
	old.ping()
	require.Error(t, flushNATS(srv))
	srv.SetMaxConnections(0)
	require.Eventually(t, nc.IsConnected, waitLimit, time.Millisecond)
	require.NoError(t, nc.Flush())
}

// Of the connections of all event loops, the newest are closed.
func TestALowerLimitClosesTheNewestOfAllLoops(t *testing.T) {
	srv := startServer(t, Options{Loops: 2})
	peers := make([]*peer, 8)
	for i := range peers {
		peers[i] = login(t, srv)
	}
	srv.SetMaxConnections(len(peers) / 2)
	for i, p := range peers {
		if i < len(peers)/2 {
			p.ping()
			continue
		}
		f := p.read()
		require.Equal(t, wire.OpNotice, f.Op)
		_, err := p.tryRead()
		require.Error(t, err)
	}
}

// A loop that has stopped never answers, so a connection that comes during a stop is not given to one: the stop would
// wait for it for ever.
func TestAConnectionThatComesDuringAStopIsClosed(t *testing.T) {
	srv := startServer(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer peer.Close()
	conn, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, srv.Shutdown(context.Background()))
	enrolled := make(chan struct{})
	go func() {
		defer close(enrolled)
		srv.enrol(conn)
	}()
	select {
	case <-enrolled:
	case <-time.After(waitLimit):
		t.Fatal("it waits for a loop that has stopped")
	}
	_, err = peer.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, srv.connections.Load())
}
