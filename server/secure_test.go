package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	var der []byte
	a.key, der = sign(t, template, template, nil)
	var err error
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func sign(t testing.TB, template, parent *x509.Certificate, with *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	if with == nil {
		with = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, with)
	require.NoError(t, err)
	return key, der
}

// issue returns a certificate for a name and, when it is not empty, a mail address.
func (a *authority) issue(serial int64, name, mail string) tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if mail != "" {
		template.EmailAddresses = []string{mail}
	}
	key, der := sign(a.t, template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(2, "localhost", "")}, MinVersion: tls.VersionTLS12}
}

func (a *authority) client() *tls.Config { return &tls.Config{RootCAs: a.pool} }

// flushNATS connects, and asks for an answer.
func flushNATS(srv *Server, opts ...nats.Option) error {
	nc, err := nats.Connect(natsURL(srv), append([]nats.Option{nats.Timeout(waitLimit)}, opts...)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	return nc.Flush()
}

func TestTLSOfNATSClients(t *testing.T) {
	a := newAuthority(t)
	secure := nats.Secure(a.client())
	t.Run("required", func(t *testing.T) {
		srv := startServer(t, Options{TLS: TLSOptions{Config: a.server()}})
		require.NoError(t, flushNATS(srv, secure))
		require.NoError(t, flushNATS(srv, nats.RootCAs(), nats.ClientTLSConfig(nil, func() (*x509.CertPool, error) { return a.pool, nil })))
		require.ErrorContains(t, flushNATS(srv), "certificate", "of an unknown authority")
		require.Eventually(t, func() bool { return srv.metrics.rejected.Load() > 0 }, waitLimit, time.Millisecond)
	})
	t.Run("large messages", func(t *testing.T) {
		srv := startServer(t, Options{TLS: TLSOptions{Config: a.server()}})
		nc, err := nats.Connect(natsURL(srv), secure, nats.Timeout(waitLimit))
		require.NoError(t, err)
		defer nc.Close()
		sub, err := nc.SubscribeSync("big")
		require.NoError(t, err)
		payload := []byte(strings.Repeat("0123456789abcdef", 60_000))
		for range 20 {
			require.NoError(t, nc.Publish("big", payload))
		}
		for range 20 {
			m, err := sub.NextMsg(waitLimit)
			require.NoError(t, err)
			require.Equal(t, payload, m.Data)
		}
	})
	t.Run("mixed", func(t *testing.T) {
		srv := startServer(t, Options{TLS: TLSOptions{Config: a.server(), Mixed: true}})
		require.NoError(t, flushNATS(srv, secure))
		require.NoError(t, flushNATS(srv))
		p := login(t, srv)
		p.publish(p.resolve("plain").Handle, 0, "x")
	})
	t.Run("first", func(t *testing.T) {
		srv := startServer(t, Options{TLS: TLSOptions{Config: a.server(), First: true}})
		require.NoError(t, flushNATS(srv, secure, nats.TLSHandshakeFirst()))
		require.Error(t, flushNATS(srv, secure, nats.Timeout(100*time.Millisecond)), "waits for a greeting")
	})
	t.Run("first with fallback", func(t *testing.T) {
		srv := startServer(t, Options{TLS: TLSOptions{Config: a.server(), First: true, Fallback: 20 * time.Millisecond}})
		require.NoError(t, flushNATS(srv, secure, nats.TLSHandshakeFirst()))
		require.NoError(t, flushNATS(srv, secure))
	})
	t.Run("client certificates", func(t *testing.T) {
		c := a.server()
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
		srv := startServer(t, Options{TLS: TLSOptions{Config: c}})
		with := a.client()
		with.Certificates = []tls.Certificate{a.issue(3, "me", "")}
		require.NoError(t, flushNATS(srv, nats.Secure(with)))
		require.Error(t, flushNATS(srv, secure))
		stranger := a.client()
		stranger.Certificates = []tls.Certificate{newAuthority(t).issue(3, "me", "")}
		require.Error(t, flushNATS(srv, nats.Secure(stranger)))
	})
	t.Run("users by certificate", func(t *testing.T) {
		c := a.server()
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
		users := auth.Config{Users: []auth.User{{Name: "ann@example.com"}, {Name: "bob", Password: "b"}, {Name: "cn = Carol"}}}
		srv := startServer(t, Options{Auth: policy(t, users), TLS: TLSOptions{Config: c, MapUsers: true}, RefusalDelay: -1})
		as := func(name, mail string) nats.Option {
			with := a.client()
			with.Certificates = []tls.Certificate{a.issue(4, name, mail)}
			return nats.Secure(with)
		}
		require.NoError(t, flushNATS(srv, as("x", "ann@example.com")))
		require.NoError(t, flushNATS(srv, as("bob", "")))
		require.NoError(t, flushNATS(srv, as("Carol", "")))
		require.ErrorIs(t, flushNATS(srv, as("carol", "")), nats.ErrAuthorization)
		require.NoError(t, flushNATS(srv, as("nobody", ""), nats.UserInfo("bob", "b")))
		require.ErrorIs(t, flushNATS(srv, as("nobody", "")), nats.ErrAuthorization)
	})
}

// readAll returns what the peer says until it closes.
func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	p := &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
	return p.closed()
}

func TestWhoDoesNotBeginTLSIsToldTo(t *testing.T) {
	a := newAuthority(t)
	srv := startServer(t, Options{TLS: TLSOptions{Config: a.server(), Timeout: 200 * time.Millisecond}})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", srv.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(waitLimit)))
		return conn
	}
	text := dial()
	_, err := text.Write([]byte("CONNECT {}\r\nPING\r\n"))
	require.NoError(t, err)
	require.Regexp(t, `^INFO \{.*"tls_required":true.*\}\r\n-ERR 'Secure Connection - TLS Required'\r\n$`, readAll(t, text))

	binary := dial()
	_, err = binary.Write(wire.AppendPreface(nil))
	require.NoError(t, err)
	p := &peer{t: t, conn: binary, r: bufio.NewReader(binary)}
	_, err = p.r.ReadString('\n')
	require.NoError(t, err)
	var refused wire.Error
	require.NoError(t, refused.Parse(p.read().Body))
	require.Equal(t, wire.CodeTLSRequired, refused.Code)
	require.Contains(t, refused.Detail, "rafkas://")

	silent, garbled := dial(), dial()
	require.Regexp(t, `^INFO .*\r\n$`, readAll(t, silent))
	_, err = garbled.Write([]byte("\x16\x03\x01 this is not TLS at all"))
	require.NoError(t, err)
	readAll(t, garbled)
	require.Eventually(t, func() bool { return srv.connections.Load() == 0 }, waitLimit, time.Millisecond)
}

// A broker without a certificate says so.
func TestTLSWithoutCertificate(t *testing.T) {
	srv := startServer(t, Options{})
	p := connect(t, srv)
	p.write([]byte("\x16\x03\x01\x00\x05"))
	require.Equal(t, "-ERR 'this broker has no certificate: connect without TLS'\r\n", p.closed())
	require.Error(t, srv.SetTLS(&tls.Config{}))
}

func TestSetTLSReplacesTheCertificate(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	srv := startServer(t, Options{TLS: TLSOptions{Config: a.server()}})
	old, err := nats.Connect(natsURL(srv), nats.Secure(a.client()), nats.Timeout(waitLimit))
	require.NoError(t, err)
	defer old.Close()
	require.NoError(t, srv.SetTLS(b.server()))
	require.Error(t, flushNATS(srv, nats.Secure(a.client())))
	require.NoError(t, flushNATS(srv, nats.Secure(b.client())))
	require.NoError(t, old.Flush(), "open connections stay")
	require.Error(t, srv.SetTLS(nil))
}

func TestSetTLSTimeoutAppliesToNewConnections(t *testing.T) {
	a := newAuthority(t)
	srv := startServer(t, Options{TLS: TLSOptions{Config: a.server(), Timeout: time.Nanosecond}})
	require.Error(t, flushNATS(srv, nats.Secure(a.client())))
	srv.SetTLSTimeout(0)
	require.NoError(t, flushNATS(srv, nats.Secure(a.client())))
}

// The greeting says what is asked of clients now.
func TestSetTLSChangesTheGreeting(t *testing.T) {
	a := newAuthority(t)
	config := a.server()
	srv := startServer(t, Options{TLS: TLSOptions{Config: config}})
	f := func(want bool) {
		t.Helper()
		conn, err := net.Dial("tcp", srv.Addr().String())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, `"tls_required":true`)
		require.Equal(t, want, strings.Contains(line, `"tls_verify":true`), line)
	}
	f(false)
	both := config.Clone()
	both.ClientAuth, both.ClientCAs = tls.RequireAndVerifyClientCert, a.pool
	require.NoError(t, srv.SetTLS(both))
	f(true)
	require.NoError(t, srv.SetTLS(config))
	f(false)
}

// tlsText opens a TLS connection for the text protocol and sends it something.
func tlsText(t *testing.T, srv *Server, a *authority, says string) *tls.Conn {
	conn, err := net.Dial("tcp", srv.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	greeting := make([]byte, 1)
	for greeting[0] != '\n' {
		_, err = conn.Read(greeting)
		require.NoError(t, err)
	}
	config := a.client()
	config.ServerName = "localhost"
	c := tls.Client(conn, config)
	require.NoError(t, c.SetDeadline(time.Now().Add(waitLimit)))
	_, err = c.Write([]byte(says))
	require.NoError(t, err)
	return c
}

// Who asks for something and says that nothing more will come is answered.
func TestTLSPeerThatStopsSendingIsAnswered(t *testing.T) {
	a := newAuthority(t)
	srv := startServer(t, Options{TLS: TLSOptions{Config: a.server()}})
	for range 20 {
		c := tlsText(t, srv, a, quietProgram+"PING\r\n")
		require.NoError(t, c.CloseWrite())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "PONG\r\n", string(got))
	}
}

// Subscribers on TLS connections share the memory of the messages that are on their way to them. Nobody gets another
// message's bytes, though connections end at any time.
func TestTLSFanOutWhileSubscribersEnd(t *testing.T) {
	const messages, size, stay, leave = 300, 100_000, 4, 12
	a := newAuthority(t)
	srv := startServer(t, Options{TLS: TLSOptions{Config: a.server()}})
	var subscribers sync.WaitGroup
	subscribe := func(most int) {
		c := tlsText(t, srv, a, quietProgram+"SUB big 1\r\nPING\r\n")
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "PONG\r\n", line)
		subscribers.Go(func() {
			defer func() { _ = c.NetConn().Close() }() // without a word
			got := make([]byte, len(fmt.Sprintf("MSG big 1 %d\r\n\r\n", size))+size)
			for i := range most {
				if _, err := io.ReadFull(r, got); !assert.NoError(t, err) {
					return
				}
				payload := got[len(got)-2-size : len(got)-2]
				assert.Equal(t, size, bytes.Count(payload, []byte{byte(i)}), "message %d", i)
			}
		})
	}
	for range stay {
		subscribe(messages)
	}
	for i := range leave {
		subscribe(messages * i / leave)
	}
	publisher := tlsText(t, srv, a, quietProgram)
	for i := range messages {
		_, err := fmt.Fprintf(publisher, "PUB big %d\r\n%s\r\n", size, bytes.Repeat([]byte{byte(i)}, size))
		require.NoError(t, err)
	}
	subscribers.Wait()
	require.Zero(t, srv.metrics.panics.Load())
}

// Shutdown does not wait for those who have not begun.
func TestShutdownCutsHandshakesOff(t *testing.T) {
	a := newAuthority(t)
	srv, err := New(Options{Listen: "127.0.0.1:0", TLS: TLSOptions{Config: a.server(), Timeout: time.Hour}})
	require.NoError(t, err)
	require.NoError(t, srv.Start())
	conn, err := net.Dial("tcp", srv.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	require.NoError(t, ctx.Err())
}

// A reload cuts off clients whose certificate is not accepted any more, or that it identifies as another user.
func TestSetTLSCutsOffCertificatesThatAreNotAccepted(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	asking := func(trusted *x509.CertPool) *tls.Config {
		c := a.server()
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, trusted
		return c
	}
	both := x509.NewCertPool()
	both.AddCert(a.cert)
	both.AddCert(b.cert)
	mapped := func(name string) *auth.Policy {
		return policy(t, auth.Config{Users: []auth.User{{Name: "ann@a"}, {Name: name}}})
	}
	srv := startServer(t, Options{Auth: mapped("bob@b"), TLS: TLSOptions{Config: asking(both), MapUsers: true, First: true}})
	log := func(from *authority, name string) *peer {
		c := a.client()
		c.Certificates, c.ServerName = []tls.Certificate{from.issue(3, "client", name)}, "localhost"
		conn, err := tls.Dial("tcp", srv.Addr().String(), c)
		require.NoError(t, err)
		p := greet(t, conn)
		p.hello()
		return p
	}
	ann, bob := log(a, "ann@a"), log(b, "bob@b")
	require.NoError(t, srv.SetTLS(asking(both)))
	ann.ping()
	bob.ping()
	srv.SetAuth(mapped("client")) // a DNS name in both certificates, behind the mail address
	require.Contains(t, bob.closed(), "no longer valid")
	ann.ping()
	bob = log(b, "bob@b")
	require.NoError(t, srv.SetTLS(asking(a.pool)))
	require.Contains(t, bob.closed(), "certificate is no longer accepted")
	ann.ping()
	pinned := asking(a.pool)
	pinned.VerifyConnection = func(tls.ConnectionState) error { return x509.ErrUnsupportedAlgorithm }
	require.NoError(t, srv.SetTLS(pinned))
	require.Contains(t, ann.closed(), "certificate is no longer accepted")
}

// A handshake that began before a change of the certificates does not escape it.
func TestSetTLSAppliesToConnectionsThatAreBeginning(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	c := a.server()
	srv := startServer(t, Options{TLS: TLSOptions{Config: c}})
	s := newSession(newLoop(srv), 1)
	s.tls = &secured{by: c}
	strict := b.server()
	strict.ClientAuth = tls.RequireAndVerifyClientCert
	require.NoError(t, srv.SetTLS(strict))
	srv.connections.Add(1)
	s.open(&memTransport{}, time.Now())
	require.True(t, s.closed)
	s.ended(time.Now())
}

// lockedLog is a log that several goroutines write to.
type lockedLog struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Write(b)
}

func (l *lockedLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.said.String(), what)
}

// Who begins TLS and sends nonsense does not fill the log.
func TestFailedHandshakesDoNotFillTheLog(t *testing.T) {
	log := &lockedLog{}
	srv := startServer(t, Options{TLS: TLSOptions{Config: newAuthority(t).server()}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	const n = 100
	for range n {
		conn, err := net.Dial("tcp", srv.Addr().String())
		require.NoError(t, err)
		_, err = conn.Write([]byte("\x16\x03\x01\x00\x05nonsense"))
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, conn)
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return srv.metrics.rejected.Load() == n }, waitLimit, time.Millisecond)
	require.NotZero(t, log.count("TLS handshake failed"))
	require.Less(t, log.count("TLS handshake failed"), n)
}
