package server

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/netip"
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

// Clients that are sent away are not sent back.
func TestAnAdvertisedAddressIsWhereToConnect(t *testing.T) {
	srv := startServer(t, Options{Advertise: "broker.example:4999"})
	f := func(lame bool, want []string) {
		t.Helper()
		var greeting info
		require.NoError(t, json.Unmarshal(append(srv.newGreeting(srv.tls.Load(), lame, false, false), `"x":0}`...), &greeting))
		require.Equal(t, "broker.example", greeting.Host)
		require.Equal(t, 4999, greeting.Port)
		require.Equal(t, want, greeting.URLs)
	}
	f(false, []string{"broker.example:4999"})
	f(true, nil)
}

// What nats-server always says, clients may take for granted: nats-core for Python does not connect without
// one of these.
func TestTheGreetingHasWhatNATSAlwaysSays(t *testing.T) {
	srv := startServer(t, Options{})
	conn, err := srv.Dial(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	require.NoError(t, err)
	var greeting map[string]any
	require.NoError(t, json.Unmarshal(line[len("INFO "):], &greeting))
	for _, key := range []string{
		"server_id", "server_name", "version", "proto", "go", "host", "port", "headers", "max_payload", "client_id", "client_ip",
	} {
		require.Contains(t, greeting, key)
	}
	require.NotEmpty(t, greeting["go"])
	require.NotEmpty(t, greeting["server_name"])
}

// Clients may refuse fields that they do not know: nats.php throws for each one that nats-server did not send when
// it was written. The fields that only a program with protocol 1 gets are not among these.
func TestTheGreetingHasNothingThatNATSDoesNotSay(t *testing.T) {
	srv := startServer(t, Options{
		Advertise: "broker.example:4999",
		TLS: TLSOptions{Config: &tls.Config{
			Certificates: []tls.Certificate{{}}, ClientAuth: tls.RequireAndVerifyClientCert,
		}},
	})
	known := []string{
		"headers", "max_payload", "port", "proto", "go", "host", "server_id", "server_name", "version", "connect_urls",
		"ws_connect_urls", "auth_required", "cluster_dynamic", "jetstream", "ldm", "tls_available", "tls_required", "tls_verify",
		"client_id", "client_ip", "cluster", "domain", "git_commit", "ip", "nonce", "xkey", "api_lvl",
	}
	f := func(lame, inProcess, required bool) {
		t.Helper()
		line := append(srv.newGreeting(srv.tls.Load(), lame, inProcess, required), `"client_id":1,"nonce":"x","client_ip":"::1"}`...)
		var greeting map[string]any
		require.NoError(t, json.Unmarshal(line, &greeting))
		for key := range greeting {
			require.Contains(t, known, key)
		}
		require.Equal(t, !inProcess, greeting["tls_verify"] == true)
	}
	for i := range 8 {
		f(i&1 != 0, i&2 != 0, i&4 != 0)
	}
}

// A greeting says where its connection comes from, and makes no garbage of it.
func TestTheHostOfAnAddress(t *testing.T) {
	f := func(want string, a net.Addr) {
		t.Helper()
		require.Equal(t, "at "+want, string(appendHost([]byte("at "), a)))
	}
	for host, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "::ffff:10.1.2.3": "10.1.2.3", "::1": "::1", "fe80::1%eth0": "fe80::1%eth0",
	} {
		f(want, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 4222)))
	}
	f("127.0.0.1", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4222})
	f("pipe", &net.UnixAddr{Name: "pipe"})
	f("", nil)
	if !raceEnabled {
		dst, from := make([]byte, 0, 64), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = appendHost(dst[:0], from) }))
	}
}
