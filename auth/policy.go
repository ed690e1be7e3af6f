package auth

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"

	"github.com/nats-io/nkeys"
)

// ErrRefused is returned for every failed login. It does not say what was wrong.
var ErrRefused = errors.New("authorization violation")

// Credentials are what a client sent to log in. Empty fields were not sent.
type Credentials struct {
	User, Password string
	Token          string
	NKey           string            // public key
	Signature      []byte            // of Nonce, made with NKey
	Nonce          string            // what this connection was told to sign
	Certificate    *x509.Certificate // verified; nil when there is none, or its names mean nothing
}

// Empty reports whether no credentials were sent. A signature without its key does not count.
func (c *Credentials) Empty() bool {
	return c.User == "" && c.Password == "" && c.Token == "" && c.NKey == ""
}

// Name returns the user's name or public nkey in the credentials, "" without one.
func (c *Credentials) Name() string {
	if c.NKey != "" {
		return c.NKey
	}
	return c.User
}

// Policy is a validated Config. It is immutable.
type Policy struct {
	config    Config
	users     map[string]*user
	everybody *user // of the one login; nil when there is none
	nkeys     bool  // somebody logs in with an nkey
	decoy     string
	subjects  map[string]*user // those whose names are distinguished names, by the name and by its parts
}

// user is a User that was checked, with its permissions compiled.
type user struct {
	User
	rights *rights
}

// New validates c and returns its policy.
func New(c Config) (*Policy, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &Policy{config: c, users: map[string]*user{}, subjects: map[string]*user{}}
	if c.User != "" || c.Token != "" {
		p.everybody = &user{User: User{Name: c.User, Password: c.Password}, rights: compile(c.Default)}
		if c.User != "" {
			p.users[c.User] = p.everybody
		}
	}
	for _, u := range c.Users {
		rights := u.Permissions
		if rights == nil {
			rights = c.Default
		}
		p.users[u.key()] = &user{User: u, rights: compile(rights)}
		p.nkeys = p.nkeys || u.NKey != ""
		p.addSubject(p.users[u.key()])
		if isHash(u.Password) {
			p.decoy = u.Password // a wrong name takes as long as a wrong password
		}
	}
	return p, nil
}

// addSubject notes a user whose name is the subject of a certificate. Of two that are alike the first
// counts.
func (p *Policy) addSubject(u *user) {
	d, ok := parseName(u.Name)
	if !ok {
		return
	}
	for _, key := range []string{d.exact(), shuffled + d.anyOrder()} {
		if p.subjects[key] == nil {
			p.subjects[key] = u
		}
	}
}

// shuffled tells a name's parts in any order from the name.
const shuffled = "~"

// Required reports whether a connection must log in before it may do anything.
func (p *Policy) Required() bool {
	return p != nil && !p.config.Empty() && p.config.NoAuthUser == ""
}

// Open reports whether everybody may do everything.
func (p *Policy) Open() bool { return p == nil || p.config.Empty() }

// NKeys reports whether any user logs in with an nkey, which needs a nonce.
func (p *Policy) NKeys() bool { return p != nil && p.nkeys }

// NewNonce returns what a connection signs with its nkey.
func NewNonce() string {
	b := make([]byte, 11)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Login returns the principal with these credentials, or ErrRefused. Checking a hash takes tens of
// milliseconds.
func (p *Policy) Login(c *Credentials) (*Principal, error) {
	if p.Open() {
		return nil, nil //nolint:nilnil // nobody in particular, who may do everything
	}
	u, ok := p.check(c)
	if !ok {
		return nil, ErrRefused
	}
	who := &Principal{user: u}
	if u.key() == "" {
		who.token = p.config.Token
	}
	return who, nil
}

// check finds the user of the credentials. What is said counts before what a certificate says, and
// that before the user of those who say nothing. Beside a token, the name of no user is only a name.
// As in NATS, an nkey and its signature count only when some user has an nkey.
func (p *Policy) check(c *Credentials) (*user, bool) {
	switch {
	case c.NKey != "" && p.nkeys:
		u := p.users[c.NKey]
		return u, u != nil && u.NKey != "" && signed(c)
	case c.Token != "" && p.config.Token != "" && p.users[c.User] == nil:
		return p.everybody, matches(p.config.Token, c.Token)
	case c.User != "":
		u := p.users[c.User]
		if u == nil || u.NKey != "" || u.Password == "" {
			_ = matches(p.decoy, c.Password)
			return nil, false
		}
		return u, matches(u.Password, c.Password)
	case c.Token != "":
		return nil, false
	}
	if u := p.certified(c.Certificate); u != nil {
		return u, true
	}
	u := p.users[p.config.NoAuthUser]
	return u, u != nil && p.config.NoAuthUser != "" && c.Password == ""
}

// signed reports whether the credentials sign the nonce.
func signed(c *Credentials) bool {
	key, err := nkeys.FromPublicKey(c.NKey)
	return err == nil && c.Nonce != "" && key.Verify([]byte(c.Nonce), c.Signature) == nil
}

// certified returns the user that a certificate stands for, or nil: by its mail addresses, its DNS names
// and its URIs, and then by its subject, whose parts may stand in any order when no user has them in
// the right one. All of them are compared whole.
func (p *Policy) certified(c *x509.Certificate) *user {
	if c == nil {
		return nil
	}
	for _, name := range names(c) {
		if u := p.users[name]; u != nil && u.NKey == "" {
			return u
		}
	}
	d, ok := certificateName(c.RawSubject)
	if !ok {
		return nil
	}
	if u := p.subjects[d.exact()]; u != nil {
		return u
	}
	return p.subjects[shuffled+d.anyOrder()]
}

// names returns what a certificate calls its owner besides its subject.
func names(c *x509.Certificate) []string {
	list := append([]string(nil), c.EmailAddresses...)
	list = append(list, c.DNSNames...)
	for _, u := range c.URIs {
		list = append(list, u.String())
	}
	return list
}

// Renew returns the principal of this policy for one of an earlier policy, and false when its login is no
// longer valid: the user is gone or has other credentials.
func (p *Policy) Renew(who *Principal) (*Principal, bool) {
	switch {
	case p.Open():
		return nil, true
	case who == nil:
		return nil, false
	case who.user.key() == "": // of the token
		if p.everybody == nil || p.config.Token == "" || p.config.Token != who.token {
			return nil, false
		}
		return &Principal{user: p.everybody, token: who.token}, true
	}
	u := p.users[who.user.key()]
	if u == nil || u.Password != who.user.Password {
		return nil, false
	}
	return &Principal{user: u}, true
}
