package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/config"
)

// tlsFiles are the PEM files of a client.
type tlsFiles struct{ ca, cert, key string }

// identify sets how the client logs in.
func (c *cli) identify(o *client.Options) (err error) {
	o.User, o.Token = c.user, c.token
	if c.user != "" { // a shell may have RAFKA_PASSWORD for other commands
		o.Password = c.password
	}
	if c.nkey != "" {
		if err := identifyByNKey(o, c.nkey); err != nil {
			return unusable(err, "--nkey names a file that holds the seed of a user's nkey: it begins with SU")
		}
	}
	o.TLS, err = c.tls.load()
	return err
}

// unusable is the failure for a file that a flag names in vain. The hint says what it has to hold.
func unusable(err error, hint string) *failure {
	return &failure{exit: exitUsage, name: "USAGE", err: err, hint: hint}
}

// identifyByNKey makes the client log in with the nkey whose seed is in a file.
func identifyByNKey(o *client.Options, path string) error {
	seed, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the nkey: %w", err)
	}
	key, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		key, err = nkeys.FromSeed(bytes.TrimSpace(seed))
	}
	if err == nil {
		o.NKey, err = key.PublicKey()
	}
	if err != nil || !nkeys.IsValidPublicUserKey(o.NKey) {
		return fmt.Errorf("read the nkey: %s does not hold the seed of a user's nkey", path)
	}
	o.SignNonce = key.Sign
	return nil
}

// load returns nil when no file is given; the scheme of the address then decides about TLS.
func (f *tlsFiles) load() (*tls.Config, error) {
	if (f.cert == "") != (f.key == "") {
		return nil, &failure{exit: exitUsage, name: "USAGE", err: errors.New("--tls-cert and --tls-key go together"), hint: "give both, or neither"}
	}
	if f.ca == "" && f.cert == "" {
		return nil, nil //nolint:nilnil // the address decides
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pool, err := config.LoadCertPool(f.ca)
		if err != nil {
			return nil, unusable(err, "--tls-ca names a PEM file with the certificate of the authority that signed the broker's")
		}
		c.RootCAs = pool
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			err = fmt.Errorf("read the certificate %s and its key %s: %w", f.cert, f.key, err)
			return nil, unusable(err, "--tls-cert and --tls-key name PEM files with a certificate and its private key")
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}
