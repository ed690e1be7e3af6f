package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
)

func policy(t *testing.T, c auth.Config) *auth.Policy {
	t.Helper()
	p, err := auth.New(c)
	require.NoError(t, err)
	return p
}

// works says that a login is good for a round trip.
func works(t *testing.T, b *servertest.Broker, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc := connect(t, b, opts...)
	sub := subscribe(t, nc, "own")
	require.NoError(t, nc.Publish("own", nil))
	next(t, sub)
	return nc
}

func refused(t *testing.T, b *servertest.Broker, opts ...nats.Option) {
	t.Helper()
	_, err := nats.Connect("nats://"+b.Addr, append(opts, nats.Timeout(patience))...)
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

func TestLoginsOfEachKind(t *testing.T) {
	bcrypt, err := auth.HashBcrypt("b-secret")
	require.NoError(t, err)
	argon, err := auth.HashArgon2id("a-secret")
	require.NoError(t, err)
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	b := broker(t, server.Options{RefusalDelay: -1, Auth: policy(t, auth.Config{
		Token: "t-secret",
		Users: []auth.User{{Name: "plain", Password: "p-secret"}, {Name: "bcrypt", Password: bcrypt}, {Name: "argon", Password: argon}, {NKey: public}},
	})})
	require.True(t, works(t, b, nats.Token("t-secret")).AuthRequired())
	works(t, b, nats.UserInfo("plain", "p-secret"))
	works(t, b, nats.UserInfo("bcrypt", "b-secret"))
	works(t, b, nats.UserInfo("argon", "a-secret"))
	works(t, b, nats.Nkey(public, key.Sign))
	nc, err := nats.Connect("nats://plain:p-secret@" + b.Addr)
	require.NoError(t, err)
	nc.Close()
	nc, err = nats.Connect("nats://t-secret@" + b.Addr)
	require.NoError(t, err)
	nc.Close()

	refused(t, b)
	refused(t, b, nats.Token("x"))
	refused(t, b, nats.UserInfo("plain", "x"))
	refused(t, b, nats.UserInfo("bcrypt", bcrypt))
	refused(t, b, nats.UserInfo("argon", "x"))
	refused(t, b, nats.UserInfo("nobody", "p-secret"))
	other, err := nkeys.CreateUser()
	require.NoError(t, err)
	refused(t, b, nats.Nkey(public, other.Sign))
}

// Who may not publish or subscribe is told, and stays connected; who is asked may answer.
func TestPermissions(t *testing.T) {
	b := broker(t, server.Options{Auth: policy(t, auth.Config{NoAuthUser: "guest", Users: []auth.User{
		{Name: "guest", Password: "x"},
		{Name: "service", Password: "x", Permissions: &auth.Permissions{
			Subscribe: auth.Rule{Allow: []string{"ask.>"}, Deny: []string{"ask.secret"}}, Responses: &auth.Responses{Max: 1},
		}},
	}})})
	errs := make(chan error, 10)
	service := connect(t, b, nats.UserInfo("service", "x"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	guest := connect(t, b)
	_, err := service.Subscribe("ask.>", func(m *nats.Msg) {
		_ = m.Respond([]byte("first"))
		_ = m.Respond([]byte("second"))
	})
	require.NoError(t, err)
	require.NoError(t, service.Flush())
	m, err := guest.Request("ask.time", nil, patience)
	require.NoError(t, err)
	require.Equal(t, "first", string(m.Data))
	require.ErrorContains(t, <-errs, "Permissions Violation for Publish to", "one answer is allowed")
	_, err = guest.Request("ask.secret", nil, patience)
	require.ErrorIs(t, err, nats.ErrNoResponders)
	_, err = service.SubscribeSync("other")
	require.NoError(t, err)
	require.ErrorIs(t, <-errs, nats.ErrPermissionViolation)
	require.True(t, service.IsConnected())
}

// What is denied to a queue group is kept from its members, whatever they subscribed to, and from nobody else.
func TestSubjectsDeniedToAQueueGroup(t *testing.T) {
	b := broker(t, server.Options{Loops: 2, Auth: policy(t, auth.Config{Users: []auth.User{
		{Name: "reader", Password: "x", Permissions: &auth.Permissions{
			Subscribe: auth.Rule{Allow: []string{">"}, Deny: []string{"admin.secret workers", "admin.key work.*"}},
		}},
		{Name: "root", Password: "x"},
	}})})
	reader, root := connect(t, b, nats.UserInfo("reader", "x")), connect(t, b, nats.UserInfo("root", "x"))
	group := func(nc *nats.Conn, name string) *nats.Subscription {
		sub, err := nc.QueueSubscribeSync("admin.*", name)
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
		return sub
	}
	workers, prod, auditors, everybody := group(reader, "workers"), group(reader, "work.prod"), group(reader, "auditors"), subscribe(t, reader, "admin.*")
	f := func(sub *nats.Subscription, want ...string) {
		t.Helper()
		for _, s := range want {
			require.Equal(t, s, next(t, sub).Subject)
		}
		nothing(t, reader, sub)
	}
	publish := func() {
		for _, s := range []string{"admin.secret", "admin.key", "admin.x"} {
			require.NoError(t, root.Publish(s, nil))
		}
		require.NoError(t, root.Flush())
	}
	publish()
	f(workers, "admin.key", "admin.x")
	f(prod, "admin.secret", "admin.x")
	f(auditors, "admin.secret", "admin.key", "admin.x")
	f(everybody, "admin.secret", "admin.key", "admin.x")

	other := group(root, "workers") // gets what the first one may not have
	for range 10 {
		publish()
	}
	for secrets := 0; secrets < 10; {
		if next(t, other).Subject == "admin.secret" {
			secrets++
		}
	}
}

// A client is told who it is, in the form that nats-server gives it.
func TestUserInfo(t *testing.T) {
	b := broker(t, server.Options{Auth: policy(t, auth.Config{Users: []auth.User{
		{Name: "dlc", Password: "x", Permissions: &auth.Permissions{
			Publish:   auth.Rule{Allow: []string{"$SYS.REQ.>"}, Deny: []string{"$SYS.REQ.ACCOUNT.>"}},
			Subscribe: auth.Rule{Allow: []string{"_INBOX.>"}}, Responses: &auth.Responses{},
		}},
		{Name: "other", Password: "x", Permissions: &auth.Permissions{Publish: auth.Rule{Allow: []string{"orders"}}}},
	}})})
	m, err := connect(t, b, nats.UserInfo("dlc", "x")).Request("$SYS.REQ.USER.INFO", nil, patience)
	require.NoError(t, err)
	var answer struct {
		Server struct{ ID, Ver string }
		Data   struct {
			User, Account string
			Permissions   map[string]struct {
				Allow, Deny []string
				Max         int
				TTL         time.Duration
			}
			Expires time.Duration
		}
		Error any
	}
	require.NoError(t, json.Unmarshal(m.Data, &answer))
	require.Equal(t, "dlc", answer.Data.User)
	require.Equal(t, "$G", answer.Data.Account)
	require.Equal(t, []string{"$SYS.REQ.>"}, answer.Data.Permissions["publish"].Allow)
	require.Equal(t, []string{"$SYS.REQ.ACCOUNT.>"}, answer.Data.Permissions["publish"].Deny)
	require.Equal(t, []string{"_INBOX.>"}, answer.Data.Permissions["subscribe"].Allow)
	require.Equal(t, 1, answer.Data.Permissions["responses"].Max)
	require.Equal(t, 2*time.Minute, answer.Data.Permissions["responses"].TTL)
	require.Zero(t, answer.Data.Expires)
	require.Nil(t, answer.Error)
	require.NotEmpty(t, answer.Server.ID)

	errs := make(chan error, 1)
	other := connect(t, b, nats.UserInfo("other", "x"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	require.NoError(t, other.PublishRequest("$SYS.REQ.USER.INFO", "_INBOX.x", nil))
	require.ErrorIs(t, <-errs, nats.ErrPermissionViolation)
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	pair := a.issue(a.cert)
	a.key, _ = pair.PrivateKey.(*ecdsa.PrivateKey)
	var err error
	a.cert, err = x509.ParseCertificate(pair.Certificate[0])
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// issue signs a certificate; the first one signs itself.
func (a *authority) issue(c *x509.Certificate) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	with := a.key
	if with == nil {
		with = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, with)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) client(dns string) tls.Certificate {
	return a.issue(&x509.Certificate{DNSNames: []string{dns}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func TestTLSOfEachKind(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	trust := nats.Secure(&tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS12})
	with := func(c tls.Certificate) nats.Option {
		return nats.Secure(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12})
	}
	fails := func(b *servertest.Broker, opts ...nats.Option) {
		t.Helper()
		nc, err := nats.Connect("nats://"+b.Addr, append(opts, nats.Timeout(patience))...)
		if err == nil {
			nc.Close()
		}
		require.Error(t, err)
	}
	t.Run("begun behind INFO", func(t *testing.T) {
		b := broker(t, server.Options{TLS: server.TLSOptions{Config: config}})
		nc := works(t, b, trust)
		require.True(t, nc.TLSRequired())
		_, err := nc.TLSConnectionState()
		require.NoError(t, err)
		fails(b, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12})) // an authority that it does not know
	})
	t.Run("begun first", func(t *testing.T) {
		b := broker(t, server.Options{TLS: server.TLSOptions{Config: config, First: true}})
		works(t, b, trust, nats.TLSHandshakeFirst())
	})
	t.Run("begun first or behind INFO", func(t *testing.T) {
		b := broker(t, server.Options{TLS: server.TLSOptions{Config: config, First: true, Fallback: 20 * time.Millisecond}})
		works(t, b, trust, nats.TLSHandshakeFirst())
		works(t, b, trust)
	})
	t.Run("or not at all", func(t *testing.T) {
		b := broker(t, server.Options{TLS: server.TLSOptions{Config: config, Mixed: true}})
		works(t, b, trust)
		works(t, b)
	})
	t.Run("of both sides", func(t *testing.T) {
		mutual := config.Clone()
		mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
		b := broker(t, server.Options{TLS: server.TLSOptions{Config: mutual}})
		works(t, b, with(a.client("anybody")))
		fails(b, trust)
		fails(b, with(newAuthority(t).client("anybody")))
	})
	t.Run("as a login", func(t *testing.T) {
		mutual := config.Clone()
		mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
		b := broker(t, server.Options{RefusalDelay: -1, TLS: server.TLSOptions{Config: mutual, MapUsers: true}, Auth: policy(t, auth.Config{Users: []auth.User{
			{Name: "billing.example.com", Permissions: &auth.Permissions{Publish: auth.Rule{Allow: []string{"own"}}}},
		}})})
		errs := make(chan error, 10)
		nc := works(t, b, with(a.client("billing.example.com")), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
		require.NoError(t, nc.Publish("other", nil))
		require.ErrorIs(t, <-errs, nats.ErrPermissionViolation)
		refused(t, b, with(a.client("billing.example.com.evil")))
	})
}
