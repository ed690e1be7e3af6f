package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// certificate returns one for 127.0.0.1, and who trusts it.
func certificate() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s.TLS.Certificates[0], pool
}

func TestLoginsOverTLS(t *testing.T) {
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	users, err := auth.New(auth.Config{Users: []auth.User{
		{Name: "ann", Password: "pw", Permissions: &auth.Permissions{Publish: auth.Rule{Allow: []string{"hers"}}}}, {NKey: public},
	}})
	require.NoError(t, err)
	cert, pool := certificate()
	for name, o := range map[string]server.TLSOptions{
		"none":  {},
		"TLS":   {Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
		"first": {Config: &tls.Config{Certificates: []tls.Certificate{cert}}, First: true},
		"mixed": {Config: &tls.Config{Certificates: []tls.Certificate{cert}}, Mixed: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := servertest.Start(t, servertest.Options{Server: server.Options{
				Listen: "127.0.0.1:0", Auth: users, TLS: o, RefusalDelay: -1,
			}})
			f := func(options client.Options, code wire.Code) {
				t.Helper()
				if name == "TLS" || name == "first" {
					options.TLS = &tls.Config{RootCAs: pool}
				}
				c, err := client.Dial(within(t), b.Addr, options)
				if code != 0 {
					require.ErrorIs(t, err, code)
					return
				}
				require.NoError(t, err)
				defer func() { require.NoError(t, c.Close(within(t))) }()
				_, err = c.Publish(within(t), &client.Message{Topic: "hers", Value: []byte("x")})
				require.NoError(t, err)
				if options.User == "ann" {
					_, err = c.Publish(within(t), &client.Message{Topic: "other", Value: []byte("x")})
					require.ErrorIs(t, err, wire.CodeForbidden)
				}
			}
			f(client.Options{User: "ann", Password: "pw"}, 0)
			f(client.Options{User: "ann", Password: "no"}, wire.CodeUnauthenticated)
			f(client.Options{}, wire.CodeUnauthenticated)
			f(client.Options{NKey: public, SignNonce: key.Sign}, 0)
			f(client.Options{NKey: public, SignNonce: func([]byte) ([]byte, error) { return make([]byte, 64), nil }}, wire.CodeUnauthenticated)
		})
	}
}

func TestAClientThatWantsTLSIsToldThatThereIsNone(t *testing.T) {
	b := servertest.Start(t, servertest.Options{Server: server.Options{Listen: "127.0.0.1:0"}})
	_, err := client.Dial(within(t), "rafkas://"+b.Addr, client.Options{RequestTimeout: time.Second})
	require.ErrorContains(t, err, "tls")
	cert, _ := certificate()
	b = servertest.Start(t, servertest.Options{Server: server.Options{
		Listen: "127.0.0.1:0", TLS: server.TLSOptions{Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
	}})
	_, err = client.Dial(within(t), b.Addr, client.Options{})
	require.ErrorContains(t, err, "rafkas://")
}
