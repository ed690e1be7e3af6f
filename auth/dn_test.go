package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseName(t *testing.T) {
	same := func(a, b string) {
		t.Helper()
		left, ok := parseName(a)
		require.True(t, ok, a)
		right, ok := parseName(b)
		require.True(t, ok, b)
		require.Equal(t, left.exact(), right.exact())
	}
	differ := func(a, b string) {
		t.Helper()
		left, ok := parseName(a)
		require.True(t, ok, a)
		right, ok := parseName(b)
		require.True(t, ok, b)
		require.NotEqual(t, left.exact(), right.exact())
	}
	same("CN=ann,O=Example", "cn = ann , o=Example")
	same("CN=ann,O=Example", "2.5.4.3=ann,2.5.4.10=Example")
	same("DC=a+O=b,DC=org", "O=b+DC=a,DC=org")
	same(`CN=a\,b`, `CN=a\2Cb`)
	same(`CN=\ a\ `, `CN=\20a\20`)
	same("CN=a b", "CN=a b ")
	same("CN=a=b", `CN=a\=b`)
	same("CN=", "CN= ")
	same("CN=\u00e9", `CN=\C3\A9`)
	differ("CN=ann,O=Example", "CN=Ann,O=Example")
	differ("CN=ann,O=Example", "O=Example,CN=ann")
	differ("CN=a,CN=b", "CN=a+CN=b")
	differ(`CN=a\,O\=b`, "CN=a,O=b")
	differ(`CN=a\+O\=b`, "CN=a+O=b")
	differ("CN=a,DC=b", "CN=a")
	differ(`CN=a\22`, "CN=a")
	for _, s := range []string{
		"", "ann", "ann@example.com", "=a", "CN=a,", "CN=a+", ",CN=a", "CN=#0403", "CN=a\"", "CN=a;O=b", "CN=<a>", `CN=\`, `CN=\x`,
		`CN=\4`, "spiffe://here/ann?a=b", "C N=a", "CN=a\x00",
	} {
		_, ok := parseName(s)
		require.False(t, ok, s)
	}
}

// rawSubject encodes parts, the most general first as in a certificate. A part is types and values in
// turn.
func rawSubject(t *testing.T, parts ...[]string) []byte {
	var seq pkix.RDNSequence
	for _, p := range parts {
		var set pkix.RelativeDistinguishedNameSET
		for i := 0; i < len(p); i += 2 {
			var id asn1.ObjectIdentifier
			for dotted, name := range attributeNames {
				if name == p[i] {
					id = oid(t, dotted)
				}
			}
			set = append(set, pkix.AttributeTypeAndValue{Type: id, Value: p[i+1]})
		}
		seq = append(seq, set)
	}
	raw, err := asn1.Marshal(seq)
	require.NoError(t, err)
	return raw
}

func oid(t *testing.T, dotted string) (id asn1.ObjectIdentifier) {
	for _, n := range splitInts(t, dotted) {
		id = append(id, n)
	}
	return id
}

func splitInts(t *testing.T, dotted string) (list []int) {
	n := 0
	for _, c := range dotted + "." {
		if c == '.' {
			list, n = append(list, n), 0
			continue
		}
		require.True(t, c >= '0' && c <= '9')
		n = n*10 + int(c-'0')
	}
	return list
}

// What the certificates of nats-server's tests have as subjects, and users that they stand for.
func TestUsersBySubject(t *testing.T) {
	place := [][]string{{"C", "US"}, {"ST", "CA"}, {"L", "Los Angeles"}, {"O", "NATS"}, {"OU", "NATS"}, {"CN", "localhost"}}
	in := func(dcs ...string) Credentials {
		parts := place
		for _, dc := range dcs {
			parts = append(parts[:len(parts):len(parts)], []string{"DC", dc})
		}
		return Credentials{Certificate: &x509.Certificate{RawSubject: rawSubject(t, parts...)}}
	}
	const (
		general  = "CN=localhost,OU=NATS,O=NATS,L=Los Angeles,ST=CA,C=US"
		ordered  = "DC=foo2,DC=foo1," + general
		shuffled = general + ",DC=foo1,DC=foo2"
		spaced   = "DC=foo2, DC=foo1, CN=localhost, OU=NATS, O=NATS, L=Los Angeles, ST=CA, C=US"
	)
	users := func(names ...string) *Policy {
		c := Config{}
		for _, n := range names {
			c.Users = append(c.Users, User{Name: n})
		}
		return policy(t, c)
	}
	accepted(t, users(ordered), ordered, in("foo1", "foo2"))
	accepted(t, users(shuffled), shuffled, in("foo1", "foo2"))
	accepted(t, users(spaced), spaced, in("foo1", "foo2"))
	accepted(t, users(shuffled, spaced, general), spaced, in("foo1", "foo2"))
	accepted(t, users(ordered, shuffled, general), general, in())
	refused(t, users(ordered, shuffled, general), in("foo3", "foo4"))
	refused(t, users(general), in("foo1", "foo2"))
	refused(t, users(ordered), in("foo1"))
	refused(t, users(ordered), in("foo1", "foo2", "foo2"))

	several := Credentials{Certificate: &x509.Certificate{RawSubject: rawSubject(t,
		[]string{"DC", "org"}, []string{"DC", "OpenSSL"}, []string{"DC", "DEV", "O", "users"}, []string{"CN", "John Doe"})}}
	for _, name := range []string{"CN=John Doe,DC=DEV+O=users,DC=OpenSSL,DC=org", "CN=John Doe,O=users+DC=DEV,DC=OpenSSL,DC=org"} {
		accepted(t, users(name), name, several)
	}
	refused(t, users("CN=John Doe,DC=DEV,DC=OpenSSL,DC=org", "CN=John Doe,DC=DEV,O=users,DC=OpenSSL,DC=org"), several)

	refused(t, users("CN="), Credentials{Certificate: &x509.Certificate{RawSubject: []byte{0x30, 0}}})
	refused(t, users("CN=a"), Credentials{Certificate: &x509.Certificate{RawSubject: []byte("no DER")}})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"CN=ann,O=Example", `CN=a\,b+DC=\C3\A9`, `CN=\ a\ , 2.5.4.10 = b `, "CN=#04", `\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseName(s)
		if !ok {
			return
		}
		require.NotEmpty(t, d)
		again, ok := parseName(s + "+CN=x,DC=y")
		require.True(t, ok)
		require.Len(t, again, len(d)+1)
		require.NotEqual(t, d.exact(), again.exact())
	})
}
