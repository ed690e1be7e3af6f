package server

import (
	"testing"

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
