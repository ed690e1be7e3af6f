package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/rafka-mq/rafka/auth"
)

// users holds the logins of a file, in the form of the file. They may also be in a block called
// authorization, as in NATS.
type users struct {
	user, password, token plain
	list                  []userEntry
	nkeys                 []userEntry
	defaults              optional
	noAuthUser            plain
}

// plain is a value as it is written: what YAML takes for a number, such as the password 0123, is text here.
type plain string

// UnmarshalYAML reads any scalar.
func (p *plain) UnmarshalYAML(n ast.Node) error {
	switch n := n.(type) {
	case *ast.NullNode:
		*p = ""
	case *ast.LiteralNode:
		*p = plain(n.Value.Value)
	case *ast.TagNode:
		return p.UnmarshalYAML(n.Value)
	case ast.ScalarNode:
		*p = plain(n.GetToken().Value)
	default:
		return &yaml.UnexpectedNodeTypeError{Actual: n.Type(), Expected: ast.StringType, Token: n.GetToken()}
	}
	return nil
}

// userEntry is an element of users or nkeys.
type userEntry struct {
	User        plain        `yaml:"user"`
	Password    plain        `yaml:"password"`
	Pass        plain        `yaml:"pass"` // as in NATS: the same
	NKey        plain        `yaml:"nkey"`
	Permissions *permissions `yaml:"permissions"`
}

// permissions are what a user may do.
type permissions struct {
	Publish   rule       `yaml:"publish"`
	Subscribe rule       `yaml:"subscribe"`
	Responses *responses `yaml:"allow_responses"`
	Admin     patterns   `yaml:"admin"`
}

// optional is permissions, or nil when the file has none.
type optional struct{ *permissions }

// UnmarshalYAML notes that there are permissions.
func (o *optional) UnmarshalYAML(decode func(any) error) error {
	o.permissions = &permissions{}
	return decode(o.permissions)
}

// patterns is a list of patterns, or one pattern that is not in a list.
type patterns []string

// UnmarshalYAML reads either form.
func (p *patterns) UnmarshalYAML(decode func(any) error) error {
	var list []plain
	if decode(&list) == nil {
		*p = nil
		for _, one := range list {
			*p = append(*p, string(one))
		}
		return nil
	}
	var one plain
	if err := decode(&one); err != nil {
		return expected("a subject or a list of subjects is expected here", err)
	}
	*p = patterns{string(one)}
	return nil
}

// rule lists what is allowed and denied, or only what is allowed.
type rule struct {
	Allow, Deny patterns
}

// UnmarshalYAML reads either form.
func (r *rule) UnmarshalYAML(decode func(any) error) error {
	if decode(&r.Allow) == nil {
		return nil
	}
	var both struct {
		Allow patterns `yaml:"allow"`
		Deny  patterns `yaml:"deny"`
	}
	if err := decode(&both); err != nil {
		return expected("a subject, a list of subjects, or {allow: …, deny: …} is expected here", err)
	}
	r.Allow, r.Deny = both.Allow, both.Deny
	return nil
}

// responses is true, false, or limits.
type responses struct {
	on  bool
	max int
	ttl time.Duration
}

// UnmarshalYAML reads either form.
func (r *responses) UnmarshalYAML(decode func(any) error) error {
	if decode(&r.on) == nil {
		return nil
	}
	var how struct {
		Max     int    `yaml:"max"`
		Expires string `yaml:"expires"`
	}
	if err := decode(&how); err != nil {
		return expected("true, false, or limits such as {max: 1, expires: 2m} are expected here", err)
	}
	r.on, r.max = true, how.Max
	if d, err := time.ParseDuration(how.Expires); err == nil && d < 0 { // in NATS a negative duration means no limit
		r.ttl = -1
	} else if how.Expires != "" {
		if err := (timeout{&r.ttl}).Set(how.Expires); err != nil {
			return fmt.Errorf("expires: %w", err)
		}
	}
	return nil
}

// expected replaces an error about the kind of a value, which the decoder words for Go programmers, and keeps its place.
func expected(what string, err error) error {
	if e, ok := errors.AsType[*yaml.UnexpectedNodeTypeError](err); ok {
		return &yaml.SyntaxError{Message: what, Token: e.Token}
	}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok && e.DstType.Kind() == reflect.String {
		return &yaml.SyntaxError{Message: what, Token: e.Token}
	}
	return err
}

// users returns the logins that the configuration has so far.
func (c *Config) users() *users {
	return &users{
		user: plain(c.Auth.User), password: plain(c.Auth.Password), token: plain(c.Auth.Token),
		noAuthUser: plain(c.Auth.NoAuthUser),
	}
}

// blocks returns where to decode the keys that are about logins.
func (u *users) blocks() map[string]any {
	return map[string]any{
		"user": &u.user, "authorization.user": &u.user,
		"password": &u.password, "authorization.password": &u.password, "authorization.pass": &u.password,
		"token": &u.token, "authorization.token": &u.token,
		"users": &u.list, "authorization.users": &u.list,
		"nkeys": &u.nkeys, "authorization.nkeys": &u.nkeys,
		"default_permissions": &u.defaults, "authorization.default_permissions": &u.defaults,
		"no_auth_user": &u.noAuthUser, "authorization.no_auth_user": &u.noAuthUser,
	}
}

// apply copies what the file has into c.
func (u *users) apply(c *auth.Config) {
	c.User, c.Password, c.Token = string(u.user), string(u.password), string(u.token)
	c.NoAuthUser = string(u.noAuthUser)
	if u.defaults.permissions != nil {
		c.Default = u.defaults.auth()
	}
	if len(u.list)+len(u.nkeys) == 0 {
		return
	}
	c.Users = nil
	for _, e := range append(u.list, u.nkeys...) {
		c.Users = append(c.Users, auth.User{
			Name: string(e.User), Password: string(cmp.Or(e.Password, e.Pass)), NKey: strings.TrimSpace(string(e.NKey)),
			Permissions: e.Permissions.auth(),
		})
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
