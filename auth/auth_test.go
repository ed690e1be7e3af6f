package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
)

func policy(t *testing.T, c Config) *Policy {
	t.Helper()
	p, err := New(c)
	require.NoError(t, err)
	return p
}

func refused(t *testing.T, p *Policy, c Credentials) {
	t.Helper()
	who, err := p.Login(&c)
	require.ErrorIs(t, err, ErrRefused)
	require.Nil(t, who)
}

func accepted(t *testing.T, p *Policy, name string, c Credentials) *Principal {
	t.Helper()
	who, err := p.Login(&c)
	require.NoError(t, err)
	require.Equal(t, name, who.Name())
	return who
}

func TestNothingConfiguredLetsEverybodyIn(t *testing.T) {
	for _, p := range []*Policy{nil, policy(t, Config{})} {
		who, err := p.Login(&Credentials{User: "x", Password: "y"})
		require.NoError(t, err)
		require.True(t, p.Open())
		require.False(t, p.Required())
		require.True(t, who.MayPublish([]byte("a")) && who.MaySubscribe([]byte(">"), nil) && who.MayAdmin([]byte("a")))
		require.True(t, who.MayReceive([]byte("a"), ""))
		require.Nil(t, who.Responses())
	}
}

func TestLogins(t *testing.T) {
	bcrypted, err := HashBcrypt("secret")
	require.NoError(t, err)
	argoned, err := HashArgon2id("secret")
	require.NoError(t, err)
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	p := policy(t, Config{Users: []User{
		{Name: "plain", Password: "secret"},
		{Name: "bcrypt", Password: bcrypted},
		{Name: "argon", Password: argoned},
		{NKey: public},
		{Name: "ann@example.com"},
		{Name: "spiffe://here/ann"},
	}})
	require.True(t, p.Required())
	require.True(t, p.NKeys())
	for _, name := range []string{"plain", "bcrypt", "argon"} {
		accepted(t, p, name, Credentials{User: name, Password: "secret"})
		refused(t, p, Credentials{User: name, Password: "Secret"})
		refused(t, p, Credentials{User: name})
	}
	refused(t, p, Credentials{})
	refused(t, p, Credentials{User: "nobody", Password: "secret"})
	refused(t, p, Credentials{User: "plain", Password: strings.Repeat("x", maxSecret+1)})
	refused(t, p, Credentials{Token: "secret"})
	refused(t, p, Credentials{User: "ann@example.com"}) // by certificate only
	refused(t, p, Credentials{User: public})

	nonce := NewNonce()
	signature, err := key.Sign([]byte(nonce))
	require.NoError(t, err)
	accepted(t, p, public, Credentials{NKey: public, Nonce: nonce, Signature: signature})
	refused(t, p, Credentials{NKey: public, Nonce: NewNonce(), Signature: signature})
	refused(t, p, Credentials{NKey: public, Signature: signature})
	refused(t, p, Credentials{NKey: "plain", Nonce: nonce, Signature: signature})

	p = policy(t, Config{Users: []User{{Name: "plain", Password: "secret"}, {Name: "guest", Password: "g"}}, NoAuthUser: "guest"})
	accepted(t, p, "plain", Credentials{User: "plain", Password: "secret", NKey: public, Signature: signature}) // nobody has an nkey
	accepted(t, p, "guest", Credentials{NKey: public, Signature: signature})
	refused(t, p, Credentials{User: "plain", NKey: public, Nonce: nonce, Signature: signature})
	refused(t, p, Credentials{Password: "secret"})
}

func TestCertificates(t *testing.T) {
	p := policy(t, Config{Users: []User{{Name: "plain", Password: "secret"}, {Name: "ann@example.com"}, {Name: "spiffe://here/ann"}}})
	accepted(t, p, "ann@example.com", Credentials{Certificate: &x509.Certificate{EmailAddresses: []string{"x", "ann@example.com"}}})
	accepted(t, p, "spiffe://here/ann", Credentials{Certificate: &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "here", Path: "/ann"}}}})
	refused(t, p, Credentials{Certificate: &x509.Certificate{DNSNames: []string{"ann"}, Subject: pkix.Name{CommonName: "plain"}}})
}

func TestTheOneLogin(t *testing.T) {
	p := policy(t, Config{Token: "t0ken"})
	accepted(t, p, "", Credentials{Token: "t0ken"})
	refused(t, p, Credentials{Token: "t0ke"})
	accepted(t, p, "", Credentials{Token: "t0ken", User: "who"}) // as NATS clients may say it
	refused(t, p, Credentials{Token: "t0ke", User: "who"})
	refused(t, p, Credentials{Password: "t0ken"})
	p = policy(t, Config{Token: "t0ken", Users: []User{{Name: "u", Password: "p"}}})
	refused(t, p, Credentials{Token: "t0ken", User: "u"})
	accepted(t, p, "u", Credentials{Token: "t0ken", User: "u", Password: "p"})
	refused(t, p, Credentials{User: "t0ken", Password: "t0ken"})
	p = policy(t, Config{User: "ann", Password: "pw", NoAuthUser: "ann"})
	accepted(t, p, "ann", Credentials{User: "ann", Password: "pw"})
	accepted(t, p, "ann", Credentials{})
	refused(t, p, Credentials{User: "ann", Password: "p"})
	require.False(t, p.Required())
	require.False(t, p.Open())
}

func TestPermissions(t *testing.T) {
	p := policy(t, Config{Users: []User{{Name: "u", Password: "p", Permissions: &Permissions{
		Publish:   Rule{Allow: []string{"orders.>", "log"}, Deny: []string{"orders.secret.*"}},
		Subscribe: Rule{Allow: []string{"orders.>", "jobs workers", "all w.*"}, Deny: []string{"orders.secret.>", "orders.eu q"}},
		Admin:     []string{"orders.*"},
	}}}})
	who := accepted(t, p, "u", Credentials{User: "u", Password: "p"})
	for subject, want := range map[string]bool{
		"orders.eu": true, "log": true, "orders": false, "orders.secret.x": false, "orders.secret.x.y": true, "other": false,
	} {
		require.Equal(t, want, who.MayPublish([]byte(subject)), subject)
	}
	for _, c := range []struct {
		pattern, queue string
		want           bool
	}{
		{"orders.eu", "", true},
		{"orders.*", "", true},
		{"orders.>", "any", true},
		{">", "", false},
		{"orders", "", false},
		{"orders.secret.x", "", false},
		{"orders.secret.>", "", false},
		{"orders.secret.x", "q", false},
		{"jobs", "", false},
		{"jobs", "workers", true},
		{"jobs", "others", false},
		{"all", "w.1", true},
		{"all", "x.1", false},
		{"orders.eu", "q", false},
		{"orders.eu", "r", true},
	} {
		require.Equal(t, c.want, who.MaySubscribe([]byte(c.pattern), []byte(c.queue)), "%+v", c)
	}
	require.True(t, who.filters())
	require.False(t, who.MayReceive([]byte("orders.secret.x"), ""), "orders.> overlaps what is denied")
	require.True(t, who.MayReceive([]byte("orders.eu"), ""))
	require.False(t, who.MayReceive([]byte("orders.eu"), "q"), "denied to the queue group")
	require.True(t, who.MayReceive([]byte("orders.eu"), "r"))
	require.True(t, who.MayAdmin([]byte("orders.eu")))
	require.False(t, who.MayAdmin([]byte("log")))
}

func TestDefaultPermissions(t *testing.T) {
	p := policy(t, Config{
		Default: &Permissions{Publish: Rule{Allow: []string{"a"}}},
		Users:   []User{{Name: "u", Password: "p"}, {Name: "own", Password: "p", Permissions: &Permissions{}}},
	})
	require.False(t, accepted(t, p, "u", Credentials{User: "u", Password: "p"}).MayPublish([]byte("b")))
	own := accepted(t, p, "own", Credentials{User: "own", Password: "p"})
	require.True(t, own.MayPublish([]byte("b")))
	require.False(t, own.MayAdmin([]byte("b")))
}

func TestResponses(t *testing.T) {
	p := policy(t, Config{Users: []User{{Name: "u", Password: "p", Permissions: &Permissions{Responses: &Responses{}}}}})
	who := accepted(t, p, "u", Credentials{User: "u", Password: "p"})
	require.False(t, who.MayPublish([]byte("inbox")))
	now := time.Unix(1, 0)
	var r Replies
	require.False(t, r.Take([]byte("inbox"), now))
	r.Note([]byte("inbox"), who.Responses(), now)
	require.True(t, r.Take([]byte("inbox"), now))
	require.False(t, r.Take([]byte("inbox"), now))
	r.Note([]byte("late"), who.Responses(), now)
	require.False(t, r.Take([]byte("late"), now.Add(defaultResponseTTL+1)))
	r.Note([]byte("ever"), &Responses{Max: -1, TTL: -1}, now)
	for range 3 {
		require.True(t, r.Take([]byte("ever"), now.AddDate(1, 0, 0)))
	}
	many := &Responses{Max: -1, TTL: time.Second}
	for range maxReplies + 10 {
		r.Note([]byte(NewNonce()), many, now)
	}
	require.LessOrEqual(t, len(r.until), maxReplies)

	r = Replies{}
	long := strings.Repeat("x", 4<<10)
	size := func() (n int) {
		for to := range r.until {
			n += len(to)
		}
		return n
	}
	for i := range 10_000 {
		to := []byte(long + strconv.Itoa(i))
		r.Note(to, many, now)
		r.Note(to, many, now)
		require.True(t, r.Take(to, now), "the last one is known")
		if i%3 == 0 {
			require.False(t, r.Take(to, now.Add(2*time.Second)))
		}
	}
	require.LessOrEqual(t, size(), maxReplyBytes)
	require.Equal(t, size(), r.bytes)
	used := &Responses{Max: 1, TTL: -1}
	r = Replies{}
	r.Note([]byte("kept"), used, now)
	for range 2 * maxReplies {
		to := []byte(NewNonce())
		r.Note(to, used, now)
		require.True(t, r.Take(to, now))
	}
	require.True(t, r.Take([]byte("kept"), now), "what is used up goes first")
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	for _, c := range []struct {
		want   string
		config Config
	}{
		{"needs a password", Config{User: "u"}},
		{"not both", Config{User: "u", Password: "p", Token: "t"}},
		{"without a name", Config{Users: []User{{}}}},
		{"is there twice", Config{Users: []User{{Name: "u"}, {Name: "u"}}}},
		{"is there twice", Config{User: "u", Password: "p", Users: []User{{Name: "u"}}}},
		{"is malformed", Config{Users: []User{{Name: "u", Password: "$argon2id$v=19$m=1"}}}},
		{"is malformed", Config{Token: "$2a$10$short"}},
		{"looks like a hash of the kind $6$", Config{Users: []User{{Name: "u", Password: "$6$c2FsdA$c29tZXRoaW5n"}}}},
		{"looks like a hash of the kind $argon2i$", Config{Token: "$argon2i$v=19$m=8,t=1,p=1$c2FsdA$c29tZXRoaW5n"}},
		{"looks like a hash of the kind $2z$", Config{Token: "$2z$10$vI8aWBnW3fID.ZQ4/zo1G.q1lRps.9cGLcZEiGDMVr5yUP1KUOYTa"}},
		{"too long to check", Config{Token: "$2a$17$vI8aWBnW3fID.ZQ4/zo1G.q1lRps.9cGLcZEiGDMVr5yUP1KUOYTa"}},
		{"too long to check", Config{Token: "$argon2id$v=19$m=1048577,t=1,p=1$c2FsdHNhbHQ$c29tZXRoaW5nc29tZXRoaW5n"}},
		{"too long to check", Config{Token: "$argon2id$v=19$m=1048576,t=5,p=1$c2FsdHNhbHQ$c29tZXRoaW5nc29tZXRoaW5n"}},
		{"not a user", Config{Token: "t", NoAuthUser: "x"}},
		{"not a public user nkey", Config{Users: []User{{NKey: "UABC"}}}},
		{"no name", Config{Users: []User{{NKey: "UABC", Name: "u"}}}},
		{"is not a subject", Config{Token: "t", Default: &Permissions{Publish: Rule{Deny: []string{"a..b"}}}}},
		{"is not a subject", Config{Token: "t", Default: &Permissions{Subscribe: Rule{Allow: []string{"a b c"}}}}},
		{"control character", Config{Users: []User{{Name: "u\n"}}}},
	} {
		_, err := New(c.config)
		require.ErrorContains(t, err, c.want)
	}
}

func TestErrorsDoNotShowSeeds(t *testing.T) {
	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err := key.Seed()
	require.NoError(t, err)
	private, err := key.PrivateKey()
	require.NoError(t, err)
	for _, secret := range []string{string(seed), string(seed[:20]), string(private)} {
		for _, u := range []User{{NKey: secret}, {NKey: secret, Name: "u", Password: "p"}} {
			_, err := New(Config{Users: []User{u}})
			require.ErrorContains(t, err, "the public key belongs here")
			require.NotContains(t, err.Error(), secret)
		}
	}
}

func TestRenew(t *testing.T) {
	c := Config{Token: "t", Users: []User{{Name: "a", Password: "1"}, {Name: "b", Password: "1"}, {Name: "c", Password: "1"}}}
	p := policy(t, c)
	token := accepted(t, p, "", Credentials{Token: "t"})
	a := accepted(t, p, "a", Credentials{User: "a", Password: "1"})
	b := accepted(t, p, "b", Credentials{User: "b", Password: "1"})
	gone := accepted(t, p, "c", Credentials{User: "c", Password: "1"})
	next := policy(t, Config{Token: "t", Users: []User{{Name: "a", Password: "1", Permissions: &Permissions{}}, {Name: "b", Password: "2"}}})
	who, ok := next.Renew(a)
	require.True(t, ok)
	require.False(t, who.MayAdmin([]byte("x")), "the new permissions")
	_, ok = next.Renew(b)
	require.False(t, ok, "another password")
	_, ok = next.Renew(gone)
	require.False(t, ok)
	_, ok = next.Renew(token)
	require.True(t, ok)
	_, ok = policy(t, Config{Token: "u"}).Renew(token)
	require.False(t, ok)
	_, ok = next.Renew(nil)
	require.False(t, ok, "who was nobody must log in now")
	_, ok = policy(t, Config{}).Renew(a)
	require.True(t, ok)
}

// A connection whose login did not use the password stays when that changes.
func TestRenewLooksAtWhatTheLoginUsed(t *testing.T) {
	cert := &x509.Certificate{DNSNames: []string{"a"}}
	config := func(password, guest string) Config {
		return Config{Users: []User{{Name: "a", Password: password}, {Name: "b", Password: "1"}}, NoAuthUser: guest}
	}
	p := policy(t, config("1", "a"))
	certified := accepted(t, p, "a", Credentials{Certificate: cert})
	typed := accepted(t, p, "a", Credentials{Certificate: cert, User: "a", Password: "1"})
	guest := accepted(t, p, "a", Credentials{})
	f := func(c Config, stays ...bool) {
		t.Helper()
		for i, who := range []*Principal{certified, typed, guest} {
			fresh, ok := policy(t, c).Renew(who)
			require.Equal(t, stays[i], ok, i)
			require.Equal(t, ok, fresh != nil)
		}
	}
	f(config("1", "a"), true, true, true)
	f(config("2", "a"), true, false, true)
	f(config("", "a"), true, false, true)
	f(config("1", "b"), true, true, false)
	f(Config{Users: []User{{Name: "b", Password: "1"}}}, false, false, false)
}

// To check a name that does not exist takes as long as to check one that does.
func TestUnknownNamesTakeAsLong(t *testing.T) {
	hash, err := HashBcrypt("x")
	require.NoError(t, err)
	require.Equal(t, hash, policy(t, Config{User: "me", Password: hash}).decoy("you"), "of a single login, too")
	p := policy(t, Config{Users: []User{{Name: "a", Password: hash}, {Name: "b", Password: "plain"}, {Name: "certificate"}}})
	seen := map[string]int{}
	for i := range 1000 {
		name := strconv.Itoa(i)
		seen[p.decoy(name)]++
		require.Equal(t, p.decoy(name), p.decoy(name))
	}
	require.Len(t, seen, 2)
	require.Greater(t, seen[hash], 300)
	require.Greater(t, seen["plain"], 300)
	require.Empty(t, policy(t, Config{Users: []User{{Name: "certificate"}}}).decoy("x"))
}

func TestWarnings(t *testing.T) {
	hash, err := HashBcrypt("x")
	require.NoError(t, err)
	c := Config{Users: []User{{Name: "a", Password: hash}}}
	require.Empty(t, c.Warnings())
	c.Users = append(c.Users, User{Name: "b", Password: "x"})
	require.Len(t, c.Warnings(), 1)
}

// Secrets that only begin with a dollar are plain text, and so are hashes at the bounds.
func TestSecretsThatAreAccepted(t *testing.T) {
	for _, secret := range []string{
		"$", "$ecret", "$6$", "$US $5 $10", "a$6$b$c", "$$a$b", "$UP$a$b", "$2a$16$vI8aWBnW3fID.ZQ4/zo1G.q1lRps.9cGLcZEiGDMVr5yUP1KUOYTa",
		"$argon2id$v=19$m=1048576,t=4,p=1$c2FsdHNhbHQ$c29tZXRoaW5nc29tZXRoaW5n",
		"$argon2id$v=19$m=8,t=500000,p=1$c2FsdHNhbHQ$c29tZXRoaW5nc29tZXRoaW5n",
	} {
		require.NoError(t, checkSecret(secret), secret)
	}
}

func FuzzHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c29tZXRoaW5nc29tZXRoaW5n", "x")
	f.Add("$2a$04$abc", "x")
	f.Fuzz(func(_ *testing.T, secret, said string) {
		if h, err := parseArgon2id(secret); err == nil && (h.memory > 1024 || h.time > 2) {
			return // right, and slow
		}
		if isBcrypt(secret) {
			return
		}
		if checkSecret(secret) == nil {
			matches(secret, said)
		}
	})
}

// What a user may do is said as it was configured, with the defaults filled in.
func TestPermissionsOfAPrincipal(t *testing.T) {
	given := Permissions{
		Publish:   Rule{Allow: []string{"a", "b.>"}, Deny: []string{"b.secret"}},
		Subscribe: Rule{Allow: []string{">"}, Deny: []string{"jobs workers.*"}},
		Responses: &Responses{Max: 3, TTL: time.Second},
		Admin:     []string{"a"},
	}
	p := policy(t, Config{
		Users: []User{
			{Name: "given", Password: "p", Permissions: &given},
			{Name: "answers", Password: "p", Permissions: &Permissions{Responses: &Responses{}}},
			{Name: "default", Password: "p"},
		},
		Default: &Permissions{Publish: Rule{Deny: []string{"x"}}},
	})
	of := func(user string) *Permissions {
		return accepted(t, p, user, Credentials{User: user, Password: "p"}).Permissions()
	}
	require.Equal(t, &given, of("given"))
	require.Equal(t, &Permissions{
		Publish: Rule{Deny: []string{">"}}, Responses: &Responses{Max: defaultResponses, TTL: defaultResponseTTL},
	}, of("answers"))
	require.Equal(t, &Permissions{Publish: Rule{Deny: []string{"x"}}}, of("default"))
	var nobody *Principal
	require.Nil(t, nobody.Permissions())
}
