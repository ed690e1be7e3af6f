package server

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rafka-mq/rafka/wire"
)

// errTLSRequired is the error that NATS clients get.
const errTLSRequired = "Secure Connection - TLS Required"

// defaultTLSTimeout is nats-server's.
const defaultTLSTimeout = 2 * time.Second

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// secure greets a connection and lets it begin TLS. It runs on a goroutine of the connection's own. A connection that does
// not use TLS, if that is allowed, goes to the loop g.
func (srv *Server) secure(conn net.Conn, s *session, g *gnetLoop) {
	first, err := srv.firstByte(conn, s)
	switch {
	case err != nil:
	case first == tlsHandshake:
		by := srv.tls.Load()
		secure, err := srv.handshake(conn, by)
		if err == nil {
			s.tls = &secured{secure.ConnectionState(), by}
			srv.forgetStranger(conn)
			srv.serveStream(secure, s)
			return
		}
		srv.audit.handshakes.Do(func() {
			srv.opts.Logger.Warn("TLS handshake failed", "conn", s.id, "addr", conn.RemoteAddr(), "err", err)
		})
	case srv.opts.TLS.Mixed:
		srv.forgetStranger(conn)
		srv.enrolIn(g, conn, s)
		return
	default:
		srv.refusePlain(conn, first)
	}
	srv.metrics.rejected.Add(1)
	srv.forgetStranger(conn)
	srv.connections.Add(-1)
	_ = conn.Close()
}

// firstByte greets the peer, before or after its first byte as TLSOptions.First says, and returns that byte without
// consuming it.
func (srv *Server) firstByte(conn net.Conn, s *session) (byte, error) {
	o, timeout := &srv.opts.TLS, time.Duration(srv.tlsTimeout.Load())
	patience := timeout
	if o.Mixed && srv.policy.Load().Open() {
		patience = srv.opts.IdleTimeout // a person may be typing
	}
	if o.First {
		wait := patience
		if o.Fallback > 0 {
			wait = o.Fallback
		}
		first, err := peekByte(conn, wait)
		if err == nil && first == tlsHandshake || o.Fallback == 0 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return first, err
		}
	}
	s.greeted = true
	if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(srv.appendInfo(nil, s, conn)); err != nil {
		return 0, err
	}
	return peekByte(conn, patience)
}

// peekByte waits for a byte and returns it without consuming it.
func peekByte(conn net.Conn, wait time.Duration) (byte, error) {
	rc, err := rawSocket(conn)
	if err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	var b [1]byte
	var n int
	var got error
	err = rc.Read(func(fd uintptr) bool {
		n, _, got = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK)
		return got != unix.EAGAIN && got != unix.EINTR
	})
	switch {
	case err != nil:
		return 0, err
	case got != nil:
		return 0, got
	case n == 0:
		return 0, net.ErrClosed
	}
	return b[0], nil
}

// handshake performs the TLS handshake.
func (srv *Server) handshake(conn net.Conn, by *tls.Config) (*tlsStream, error) {
	if err := conn.SetDeadline(time.Now().Add(time.Duration(srv.tlsTimeout.Load()))); err != nil {
		return nil, err
	}
	t, err := tlsServer(conn, by)
	if err != nil {
		return nil, err
	}
	return t, conn.SetDeadline(time.Time{})
}

// refusePlain tells a peer in its protocol that it has to use TLS.
func (srv *Server) refusePlain(conn net.Conn, first byte) {
	answer := []byte("-ERR '" + errTLSRequired + "'\r\n")
	if wire.IsBinary(first) {
		answer = wire.AppendError(nil, wire.OpHello, 0, wire.Errorf(wire.CodeTLSRequired, "this broker accepts only connections with TLS: rafkas://"))
	}
	_ = conn.SetDeadline(time.Now().Add(refuseTimeout))
	_, _ = conn.Write(answer)
	// Read what the peer has sent, because closing with unread input could discard the answer.
	_, _ = conn.Read(make([]byte, wire.MaxHelloBytes))
}

// SetTLS replaces the certificate and the requirements for client certificates. It closes connections whose client
// certificate is not accepted any more. It cannot turn TLS on or off.
func (srv *Server) SetTLS(c *tls.Config) error {
	if (c == nil) != (srv.opts.TLS.Config == nil) {
		return fmt.Errorf("TLS cannot be turned on or off while the broker runs")
	}
	c = srv.storeTLS(c)
	srv.postAll(func(l *loop, _ time.Time) {
		for s := range l.sessions {
			if s.tls != nil {
				s.checkCertificate(c)
			}
		}
	})
	return nil
}

// secured is the TLS of a connection.
type secured struct {
	state tls.ConnectionState
	by    *tls.Config // that has accepted it
}

// checkCertificate closes the connection if a handshake with c would refuse the peer's certificate, or that it has none.
func (s *session) checkCertificate(c *tls.Config) {
	if s.closed || s.tls.by == c {
		return
	}
	if err := accepts(c, &s.tls.state); err != nil {
		s.loop.srv.opts.Logger.Warn("client certificate no longer accepted", "conn", s.id, "addr", s.t.RemoteAddr(), "user", s.who.Name(), "err", err)
		s.expel(errAuth, wire.Errorf(wire.CodeUnauthenticated, "the client certificate is no longer accepted"))
		return
	}
	s.tls.by = c
}

// accepts checks a client's certificate as a handshake does.
func accepts(c *tls.Config, state *tls.ConnectionState) error {
	certs := state.PeerCertificates
	switch {
	case c.ClientAuth < tls.VerifyClientCertIfGiven:
	case len(certs) > 0:
		o := x509.VerifyOptions{
			Roots: c.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		for _, between := range certs[1:] {
			o.Intermediates.AddCert(between)
		}
		if _, err := certs[0].Verify(o); err != nil {
			return err
		}
	case c.ClientAuth == tls.RequireAndVerifyClientCert:
		return errors.New("no certificate")
	}
	if c.VerifyConnection == nil {
		return nil
	}
	return c.VerifyConnection(*state)
}

// storeTLS keeps a copy of c for new connections, and returns it. Small records at the start of a connection would have the
// first page of a web site shown sooner, and cost a broker time.
func (srv *Server) storeTLS(c *tls.Config) *tls.Config {
	if c != nil {
		c = c.Clone()
		c.DynamicRecordSizingDisabled = true
	}
	srv.tls.Store(c)
	return c
}

// SetTLSTimeout changes how long new connections have to begin and finish TLS. 0 means two seconds.
func (srv *Server) SetTLSTimeout(d time.Duration) {
	srv.tlsTimeout.Store(int64(cmp.Or(d, defaultTLSTimeout)))
}
