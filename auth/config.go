package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/rafka-mq/rafka/subject"
)

// Config says who may connect, and what they may do. The zero value lets everybody do everything.
type Config struct {
	// User and Password are a single login for everybody. Password may be a hash, as in
	// User.Password.
	User, Password string
	// Token is a single token for everybody. It may be a hash, as in User.Password.
	Token string
	// Users have logins and permissions of their own.
	Users []User
	// Default is what users without Permissions may do; nil means everything.
	Default *Permissions
	// NoAuthUser is the name of the user as whom connections without credentials are logged in; ""
	// means none.
	NoAuthUser string
}

// User is one login.
type User struct {
	// Name is sent together with the password. For a login by client certificate it is one of the
	// names in the certificate, or its subject as RFC 4514 writes it.
	Name string
	// Password is plain text, or its bcrypt ("$2a$…") or argon2id
	// ("$argon2id$v=19$m=…,t=…,p=…$salt$hash") hash. A user without a password can log in only by
	// certificate.
	Password string
	// NKey is a public user nkey ("U…"), with whose private key a login signs the connection's
	// nonce. A user with an NKey has no Name and no Password.
	NKey string
	// Permissions say what the user may do; nil means Config.Default.
	Permissions *Permissions
}

// Permissions say what a user may do. Deny overrides allow.
type Permissions struct {
	// Publish lists the subjects and topics that the user may publish to.
	Publish Rule
	// Subscribe lists the subjects and topics that the user may read. A pattern may be followed by
	// a space and a queue group; it then applies only to subscriptions in that group. Where Allow has
	// such a pattern, its patterns without a queue group do not count for members of groups.
	Subscribe Rule
	// Responses lets the user publish to the reply subjects of messages that it received. nil does
	// not.
	Responses *Responses
	// Admin lists patterns of the topics that the user may create, change, purge and delete. A user
	// with permissions but without Admin may do none of that.
	Admin []string
}

// Rule lists patterns, which may contain * and >. An empty Allow allows everything that Deny does
// not match.
type Rule struct {
	Allow, Deny []string
}

// Responses limits the answers to a reply subject.
type Responses struct {
	// Max is how many messages may be sent to one reply subject. 0 means 1, and a negative number
	// no limit.
	Max int
	// TTL is how long answers are allowed. 0 means two minutes, and a negative duration no limit.
	TTL time.Duration
}

const (
	defaultResponses   = 1
	defaultResponseTTL = 2 * time.Minute
)

// Empty reports whether no login is configured, so that everybody may do everything.
func (c *Config) Empty() bool {
	return c.User == "" && c.Password == "" && c.Token == "" && len(c.Users) == 0
}

// validate returns the first error in c.
func (c *Config) validate() error {
	if (c.User == "") != (c.Password == "") {
		return errors.New("auth: a user needs a password, and a password a user")
	}
	if c.User != "" && c.Token != "" {
		return errors.New("auth: either a user with a password or a token, not both")
	}
	names := map[string]bool{c.User: c.User != ""}
	for i := range c.Users {
		u := &c.Users[i]
		if err := u.validate(); err != nil {
			return err
		}
		if names[u.key()] {
			return fmt.Errorf("auth: user %q is there twice", u.key())
		}
		names[u.key()] = true
	}
	for _, secret := range []string{c.Password, c.Token} {
		if err := checkSecret(secret); err != nil {
			return fmt.Errorf("auth: %w", err)
		}
	}
	if c.NoAuthUser != "" && !names[c.NoAuthUser] {
		return fmt.Errorf("auth: no_auth_user %q is not a user", c.NoAuthUser)
	}
	return c.Default.validate("the default permissions")
}

// key identifies a user.
func (u *User) key() string {
	if u.NKey != "" {
		return u.NKey
	}
	return u.Name
}

func (u *User) validate() error {
	switch {
	case isSeed(u.NKey):
		return errors.New("auth: an nkey of a user is a seed, which is secret: the public key belongs here, it begins with U")
	case u.NKey != "" && (u.Name != "" || u.Password != ""):
		return fmt.Errorf("auth: user %q has an nkey: it takes no name and no password", u.key())
	case u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey):
		return fmt.Errorf("auth: %q is not a public user nkey: it begins with U", u.NKey)
	case u.key() == "":
		return errors.New("auth: a user without a name")
	case strings.ContainsFunc(u.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("auth: user %q: a control character in the name", u.Name)
	}
	if err := checkSecret(u.Password); err != nil {
		return fmt.Errorf("auth: user %q: %w", u.Name, err)
	}
	return u.Permissions.validate(fmt.Sprintf("user %q", u.key()))
}

// isSeed reports whether nkey looks like a private key, also a damaged one: no error may show it.
func isSeed(nkey string) bool {
	return strings.HasPrefix(nkey, "S") || strings.HasPrefix(nkey, "P")
}

func (p *Permissions) validate(whose string) error {
	if p == nil {
		return nil
	}
	for _, list := range [][]string{p.Publish.Allow, p.Publish.Deny, p.Admin} {
		for _, pattern := range list {
			if !subject.Valid([]byte(pattern)) {
				return fmt.Errorf("auth: %s: %q is not a subject", whose, pattern)
			}
		}
	}
	for _, list := range [][]string{p.Subscribe.Allow, p.Subscribe.Deny} {
		for _, entry := range list {
			pattern, queue, both := strings.Cut(entry, " ")
			if !subject.Valid([]byte(pattern)) || both && !subject.Valid([]byte(queue)) {
				return fmt.Errorf("auth: %s: %q is not a subject, or a subject and a queue group", whose, entry)
			}
		}
	}
	return nil
}

// Warnings returns a sentence when passwords or tokens are not hashed.
func (c *Config) Warnings() []string {
	plain := 0
	for _, u := range c.Users {
		if u.Password != "" && !isHash(u.Password) {
			plain++
		}
	}
	if c.Password != "" && !isHash(c.Password) || c.Token != "" && !isHash(c.Token) {
		plain++
	}
	if plain == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d passwords or tokens are in the configuration as they are: rafka passwd makes hashes", plain)}
}
