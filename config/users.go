package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/auth"
)

// users is what a file says about logins, in the form of the file. NATS writes the same things into a
// block that is called authorization; both places mean the same.
type users struct {
	user, password, token string
	list                  []userEntry
	nkeys                 []userEntry
	defaults              optional
	noAuthUser            string
}

// userEntry is one of users or nkeys.
type userEntry struct {
	User        string       `yaml:"user"`
	Password    string       `yaml:"password"`
	NKey        string       `yaml:"nkey"`
	Permissions *permissions `yaml:"permissions"`
}

// permissions are what a user may do.
type permissions struct {
	Publish   rule       `yaml:"publish"`
	Subscribe rule       `yaml:"subscribe"`
	Responses *responses `yaml:"allow_responses"`
	Admin     patterns   `yaml:"admin"`
}

// optional are permissions, or nothing that was said about them.
type optional struct{ *permissions }

// UnmarshalYAML notes that something was said.
func (o *optional) UnmarshalYAML(decode func(any) error) error {
	o.permissions = &permissions{}
	return decode(o.permissions)
}

// patterns is a list, or one pattern without the brackets.
type patterns []string

// UnmarshalYAML reads both forms.
func (p *patterns) UnmarshalYAML(decode func(any) error) error {
	var list []string
	if decode(&list) == nil {
		*p = list
		return nil
	}
	var one string
	if err := decode(&one); err != nil {
		return errors.New("a subject or a list of subjects is expected here")
	}
	*p = patterns{one}
	return nil
}

// rule is what is allowed and denied, or only what is allowed.
type rule struct {
	Allow, Deny patterns
}

// UnmarshalYAML reads both forms.
func (r *rule) UnmarshalYAML(decode func(any) error) error {
	if decode(&r.Allow) == nil {
		return nil
	}
	var both struct {
		Allow patterns `yaml:"allow"`
		Deny  patterns `yaml:"deny"`
	}
	if err := decode(&both); err != nil {
		return err
	}
	r.Allow, r.Deny = both.Allow, both.Deny
	return nil
}

// responses is true, false, or how many for how long.
type responses struct {
	on  bool
	max int
	ttl time.Duration
}

// UnmarshalYAML reads both forms.
func (r *responses) UnmarshalYAML(decode func(any) error) error {
	if decode(&r.on) == nil {
		return nil
	}
	var how struct {
		Max     int    `yaml:"max"`
		Expires string `yaml:"expires"`
	}
	if err := decode(&how); err != nil {
		return err
	}
	r.on, r.max = true, how.Max
	if d, err := time.ParseDuration(how.Expires); err == nil && d < 0 { // as NATS says never
		r.ttl = -1
	} else if how.Expires != "" {
		if err := (timeout{&r.ttl}).Set(how.Expires); err != nil {
			return fmt.Errorf("expires: %w", err)
		}
	}
	return nil
}

// users returns what the configuration says so far.
func (c *Config) users() *users {
	return &users{user: c.Auth.User, password: c.Auth.Password, token: c.Auth.Token, noAuthUser: c.Auth.NoAuthUser}
}

// blocks returns the keys of the file and where their values go.
func (u *users) blocks() map[string]any {
	return map[string]any{
		"user": &u.user, "authorization.user": &u.user,
		"password": &u.password, "authorization.password": &u.password,
		"token": &u.token, "authorization.token": &u.token,
		"users": &u.list, "authorization.users": &u.list,
		"nkeys": &u.nkeys, "authorization.nkeys": &u.nkeys,
		"default_permissions": &u.defaults, "authorization.default_permissions": &u.defaults,
		"no_auth_user": &u.noAuthUser, "authorization.no_auth_user": &u.noAuthUser,
	}
}

// apply writes what the file said to c.
func (u *users) apply(c *auth.Config) {
	c.User, c.Password, c.Token, c.NoAuthUser = u.user, u.password, u.token, u.noAuthUser
	if u.defaults.permissions != nil {
		c.Default = u.defaults.auth()
	}
	if len(u.list)+len(u.nkeys) == 0 {
		return
	}
	c.Users = nil
	for _, e := range append(u.list, u.nkeys...) {
		c.Users = append(c.Users, auth.User{Name: e.User, Password: e.Password, NKey: e.NKey, Permissions: e.Permissions.auth()})
	}
}

func (p *permissions) auth() *auth.Permissions {
	if p == nil {
		return nil
	}
	a := &auth.Permissions{
		Publish:   auth.Rule{Allow: p.Publish.Allow, Deny: p.Publish.Deny},
		Subscribe: auth.Rule{Allow: p.Subscribe.Allow, Deny: p.Subscribe.Deny},
		Admin:     p.Admin,
	}
	if p.Responses != nil && p.Responses.on {
		a.Responses = &auth.Responses{Max: p.Responses.max, TTL: p.Responses.ttl}
	}
	return a
}
