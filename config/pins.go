package config

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
)

// pins are the public keys of the clients that may connect: the SHA-256 sums of the subject public
// key info of their certificates, in DER.
type pins map[[sha256.Size]byte]bool

func parsePins(digits []string) (pins, error) {
	p := make(pins, len(digits))
	for _, d := range digits {
		sum, err := hex.DecodeString(d)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("tls.pinned_certs: %q is not a SHA-256 sum in 64 hexadecimal digits", d)
		}
		p[[sha256.Size]byte(sum)] = true
	}
	return p, nil
}

var errNotPinned = errors.New("the key of the certificate is not one of tls.pinned_certs")

// verify refuses a connection whose peer has another key. It runs for resumed sessions, too.
func (p pins) verify(c tls.ConnectionState) error {
	if len(c.PeerCertificates) == 0 || !p[sha256.Sum256(c.PeerCertificates[0].RawSubjectPublicKeyInfo)] {
		return errNotPinned
	}
	return nil
}
