package auth

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"hash/maphash"

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
	secrets   []string         // the passwords of all users; see decoy
	seed      maphash.Seed     // of decoy
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
	p := &Policy{config: c, users: map[string]*user{}, subjects: map[string]*user{}, seed: maphash.MakeSeed()}
	if c.User != "" || c.Token != "" {
		p.everybody = &user{User: User{Name: c.User, Password: c.Password}, rights: compile(c.Default)}
		if c.User != "" {
			p.users[c.User] = p.everybody
			p.secrets = append(p.secrets, c.Password)
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
		if u.Password != "" {
			p.secrets = append(p.secrets, u.Password)
		}
	}
	return p, nil
}

// decoy returns a password to check for a name that has none, so that this takes as long as for one that has. A name always
// gets the same one, as if it were a user's.
func (p *Policy) decoy(name string) string {
	if len(p.secrets) == 0 {
		return ""
	}
	return p.secrets[maphash.String(p.seed, name)%uint64(len(p.secrets))]
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
		u, valid := p.users[c.NKey], signed(c) // an unknown key takes as long as a wrong signature
		return provided(valid && u != nil && u.NKey != "", &Principal{user: u})
	case c.Token != "" && p.config.Token != "" && p.users[c.User] == nil:
		return provided(matches(p.config.Token, c.Token), &Principal{user: p.everybody, token: p.config.Token})
	case c.User != "":
		u := p.users[c.User]
		if u == nil || u.NKey != "" || u.Password == "" {
			_ = matches(p.decoy(c.User), c.Password)
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
// false when the login is not valid any more: the user does not exist, or what the login used is not the user's any more,
// be it the password, the certificate or the right to send no credentials.
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
	u, valid := p.users[name], false
	switch {
	case u == nil:
	case who.guest:
		valid = p.config.NoAuthUser == name
	case who.certificate != nil:
		valid = p.certified(who.certificate) == u
	default:
		valid = u.Password == who.user.Password
	}
	return provided(valid, &Principal{user: u, certificate: who.certificate, guest: who.guest}), valid
}
