package auth

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"

	"github.com/nats-io/nkeys"
)

// ErrRefused is returned for every failed login. It does not tell the reason, so that nobody learns
// which users exist.
var ErrRefused = errors.New("authorization violation")

// Credentials are what a client sent to log in. Fields that were not sent are empty.
type Credentials struct {
	User, Password string
	Token          string
	NKey           string            // public user nkey
	Signature      []byte            // of Nonce, with the private key of NKey
	Nonce          string            // what the broker asked this connection to sign
	Certificate    *x509.Certificate // verified; nil when there is none, or when its names must not log in
}

// Empty reports whether no credentials were sent. A signature without its key is ignored.
func (c *Credentials) Empty() bool {
	return c.User == "" && c.Password == "" && c.Token == "" && c.NKey == ""
}

// Name returns the public nkey or the user name that was sent, or "".
func (c *Credentials) Name() string {
	if c.NKey != "" {
		return c.NKey
	}
	return c.User
}

// Policy is a validated Config. It is immutable. A nil Policy lets everybody do everything.
type Policy struct {
	config    Config
	users     map[string]*user
	everybody *user            // of the single login or token; nil when there is none
	nkeys     bool             // some user has an nkey
	decoy     string           // a hash to check when the user does not exist
	subjects  map[string]*user // users named by a distinguished name: by dn.exact, and by shuffled and dn.anyOrder
}

// user is a validated User with compiled permissions.
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
			p.decoy = u.Password // so that an unknown name takes as long as a wrong password
		}
	}
	return p, nil
}

// addSubject adds a user whose name is a distinguished name. Of two equal names the first counts.
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

// shuffled marks keys of Policy.subjects that ignore the order of parts.
const shuffled = "~"

// Required reports whether a connection must log in before anything else.
func (p *Policy) Required() bool {
	return p != nil && !p.config.Empty() && p.config.NoAuthUser == ""
}

// Open reports whether everybody may do everything.
func (p *Policy) Open() bool { return p == nil || p.config.Empty() }

// NKeys reports whether some user has an nkey, so that connections need a nonce.
func (p *Policy) NKeys() bool { return p != nil && p.nkeys }

// NewNonce returns a random nonce for a connection to sign.
func NewNonce() string {
	b := make([]byte, 11)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Login returns the principal that the credentials identify, or ErrRefused. When everybody may do
// everything, it returns a nil Principal and no error. To check a hash takes tens of milliseconds.
func (p *Policy) Login(c *Credentials) (*Principal, error) {
	if p.Open() {
		return nil, nil //nolint:nilnil // a nil Principal may do everything
	}
	who := p.check(c)
	if who == nil {
		return nil, ErrRefused
	}
	return who, nil
}

// check returns the principal of the credentials, or nil. Credentials that were sent take precedence over a
// certificate, and that over NoAuthUser. Next to a token, a name that is not a user's is ignored.
// As in NATS, an nkey and its signature are ignored unless some user has an nkey.
func (p *Policy) check(c *Credentials) *Principal {
	switch {
	case c.NKey != "" && p.nkeys:
		u := p.users[c.NKey]
		return provided(u != nil && u.NKey != "" && signed(c), &Principal{user: u})
	case c.Token != "" && p.config.Token != "" && p.users[c.User] == nil:
		return provided(matches(p.config.Token, c.Token), &Principal{user: p.everybody, token: p.config.Token})
	case c.User != "":
		u := p.users[c.User]
		if u == nil || u.NKey != "" || u.Password == "" {
			_ = matches(p.decoy, c.Password)
			return nil
		}
		return provided(matches(u.Password, c.Password), &Principal{user: u})
	case c.Token != "":
		return nil
	}
	if u := p.certified(c.Certificate); u != nil {
		return &Principal{user: u, certificate: c.Certificate}
	}
	u := p.users[p.config.NoAuthUser]
	return provided(u != nil && p.config.NoAuthUser != "" && c.Password == "", &Principal{user: u, guest: true})
}

// provided returns who if ok, and else nil.
func provided(ok bool, who *Principal) *Principal {
	if !ok {
		return nil
	}
	return who
}

// signed reports whether the signature is valid for the nonce.
func signed(c *Credentials) bool {
	key, err := nkeys.FromPublicKey(c.NKey)
	return err == nil && c.Nonce != "" && key.Verify([]byte(c.Nonce), c.Signature) == nil
}

// certified returns the user whom a certificate identifies, or nil. It compares, in this order:
// mail addresses, DNS names, URIs, the subject, and the subject with its parts in any order. Names
// must be equal as a whole.
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

// names returns the names in a certificate other than its subject.
func names(c *x509.Certificate) []string {
	list := append([]string(nil), c.EmailAddresses...)
	list = append(list, c.DNSNames...)
	for _, u := range c.URIs {
		list = append(list, u.String())
	}
	return list
}

// Renew returns the principal under this policy for a principal of an earlier policy. It returns
// false when the login is not valid any more: the user does not exist or has other credentials, the certificate
// identifies another one, or who sends no credentials is another one.
func (p *Policy) Renew(who *Principal) (*Principal, bool) {
	switch {
	case p.Open():
		return nil, true
	case who == nil:
		return nil, false
	case who.user.key() == "": // a login by token
		if p.everybody == nil || p.config.Token == "" || p.config.Token != who.token {
			return nil, false
		}
		return &Principal{user: p.everybody, token: who.token}, true
	}
	name := who.user.key()
	u := p.users[name]
	switch {
	case u == nil || u.Password != who.user.Password:
		return nil, false
	case who.guest && p.config.NoAuthUser != name:
		return nil, false
	case who.certificate != nil && p.certified(who.certificate) != u:
		return nil, false
	}
	return &Principal{user: u, certificate: who.certificate, guest: who.guest}, true
}
