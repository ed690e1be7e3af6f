package server

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A connection within the process has nothing to encrypt, whatever sockets have to do.
func TestConnectionsWithinTheProcessNeedNoTLS(t *testing.T) {
	srv := startServer(t, Options{TLS: TLSOptions{Config: &tls.Config{Certificates: []tls.Certificate{{}}}}})
	conn, err := srv.Dial(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	require.NoError(t, err)
	var greeting info
	require.NoError(t, json.Unmarshal(line[len("INFO "):], &greeting))
	require.False(t, greeting.TLS)
	require.False(t, greeting.TLSOffered)
}
