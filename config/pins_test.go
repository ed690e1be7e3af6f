package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// selfSigned writes a new certificate and its key, and returns the files and the sum of the public key.
func selfSigned(t *testing.T) (cert, key, sum string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "x"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	publicDER, err := x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	hash := sha256.Sum256(publicDER)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", keyDER), hex.EncodeToString(hash[:])
}

// shake lets a client with a certificate connect to a server, and returns what the server says.
func shake(t *testing.T, server *tls.Config, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	a, b := net.Pipe()
	defer func() { require.NoError(t, b.Close()) }()
	go func() {
		client := tls.Client(a, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
		_, _ = client.Read(make([]byte, 1)) // until the server has judged
		_ = a.Close()
	}()
	conn := tls.Server(b, server)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn.Handshake()
}

func TestPinnedCertificates(t *testing.T) {
	cert, key, _ := selfSigned(t)
	one, oneKey, oneSum := selfSigned(t)
	two, twoKey, twoSum := selfSigned(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	var both []byte
	for _, path := range []string{one, two} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		both = append(both, b...)
	}
	require.NoError(t, os.WriteFile(ca, both, 0o600))
	f := func(pinned string) *tls.Config {
		t.Helper()
		c, err := parse(t, "tls: {cert: "+cert+", key: "+key+", ca: "+ca+", verify: true"+pinned+"}")
		require.NoError(t, err)
		require.NoError(t, c.Validate())
		server, err := c.TLS.LoadTLS()
		require.NoError(t, err)
		return server
	}
	all := f("")
	require.NoError(t, shake(t, all, one, oneKey))
	require.NoError(t, shake(t, all, two, twoKey))
	pinned := f(", pinned_certs: [" + strings.ToUpper(oneSum) + "]")
	require.NoError(t, shake(t, pinned, one, oneKey))
	require.ErrorIs(t, shake(t, pinned, two, twoKey), errNotPinned)
	pinned = f(", pinned_certs: ['" + oneSum + "', '" + twoSum + "']")
	require.NoError(t, shake(t, pinned, two, twoKey))
	require.ErrorIs(t, pins{}.verify(tls.ConnectionState{}), errNotPinned)
}

func TestWrongPinsAreRefused(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		c, err := parse(t, yml)
		require.NoError(t, err)
		require.ErrorContains(t, c.Validate(), want)
	}
	sum := strings.Repeat("a", 64)
	f("tls: {cert: a, key: b, pinned_certs: ["+sum+"]}", "needs tls.verify")
	f("tls: {cert: a, key: b, verify: true, pinned_certs: [abcd]}", "64 hexadecimal digits")
	f("tls: {cert: a, key: b, verify: true, pinned_certs: ["+sum+"x]}", "64 hexadecimal digits")
	_, err := parse(t, "tls: {pinned_certs: {a: b}}")
	require.Error(t, err)
}
