package server

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

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
