package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// ErrInsecure is returned by Validate for a broker without logins that would listen beyond the
// loopback address.
var ErrInsecure = errors.New("everybody who reaches this address could read, change and delete everything")

// validateSecurity checks the settings of logins and TLS.
func (c *Config) validateSecurity() error {
	if _, err := auth.New(c.Auth); err != nil {
		return err
	}
	t := &c.TLS
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return errors.New("tls.cert and tls.key go together")
	case t.Cert == "" && (t.CA != "" || t.Verify || t.VerifyAndMap || t.AllowNonTLS || t.HandshakeFirst != "false"):
		return errors.New("tls settings without tls.cert and tls.key: there is no TLS")
	case t.AllowNonTLS && (t.Verify || t.VerifyAndMap):
		return errors.New("tls.allow_non_tls lets clients in without the certificate that tls.verify asks for")
	case t.VerifyAndMap && len(c.Auth.Users) == 0:
		return errors.New("tls.verify_and_map needs users to map certificates to")
	case len(t.PinnedCerts) > 0 && !t.Verify && !t.VerifyAndMap:
		return errors.New("tls.pinned_certs needs tls.verify: clients show no certificates without")
	}
	if _, err := parsePins(t.PinnedCerts); err != nil {
		return err
	}
	if c.Server.Insecure || !c.Auth.Empty() || t.Verify || t.VerifyAndMap || isLoopback(c.ListenAddr()) {
		return nil
	}
	return fmt.Errorf("listen on %s: %w", c.ListenAddr(), ErrInsecure)
}

// isLoopback reports whether an address is reachable from this machine only.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// LoadTLS reads the files that t names. It returns nil when TLS is off.
func (t *TLS) LoadTLS() (*tls.Config, error) {
	if t.Cert == "" {
		return nil, nil //nolint:nilnil // no TLS is a configuration, too
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s and its key %s: %w", t.Cert, t.Key, err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if t.Verify || t.VerifyAndMap {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	pinned, err := parsePins(t.PinnedCerts)
	if err != nil {
		return nil, err
	}
	if len(pinned) > 0 {
		c.VerifyConnection = pinned.verify
	}
	if t.CA == "" {
		return c, nil
	}
	c.ClientCAs, err = LoadCertPool(t.CA)
	return c, err
}

// LoadCertPool reads a PEM file of certificate authorities.
func LoadCertPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities: no certificate in %s", path)
	}
	return pool, nil
}

// autoFallback is how long "auto" waits for a client to begin TLS, as in NATS.
const autoFallback = 50 * time.Millisecond

// First reports whether TLS begins before the greeting. If it does, fallback is how long to wait
// for the client to begin TLS before the greeting is sent in the clear; 0 means for ever.
func (t *TLS) First() (first bool, fallback time.Duration) {
	switch t.HandshakeFirst {
	case "", "false":
		return false, 0
	case "true":
		return true, 0
	case "auto":
		return true, autoFallback
	}
	fallback, _ = wire.ParseDuration(t.HandshakeFirst) // Set has checked it
	return true, fallback
}
