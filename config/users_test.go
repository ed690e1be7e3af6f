package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/auth"
)

func TestUsersOfAFile(t *testing.T) {
	f := func(yml string, want auth.Config) {
		t.Helper()
		c, err := parse(t, yml)
		require.NoError(t, err, yml)
		require.Equal(t, want, c.Auth, yml)
		require.NoError(t, c.Validate())
	}
	f("user: me\npassword: 1234\n", auth.Config{User: "me", Password: "1234"})
	f("authorization: {user: me, pass: x}\n", auth.Config{User: "me", Password: "x"})
	f("users: [{user: a, pass: x}]\n", auth.Config{Users: []auth.User{{Name: "a", Password: "x"}}})
	f("token: s3cret\n", auth.Config{Token: "s3cret"})
	f("token: |-\n  s3cret\n", auth.Config{Token: "s3cret"})
	f("authorization:\n  token: s3cret\n  timeout: 3\n", auth.Config{Token: "s3cret"})
	const nkey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	users := auth.Config{
		Users: []auth.User{
			{Name: "a", Password: "x", Permissions: &auth.Permissions{
				Publish:   auth.Rule{Allow: []string{"a.>"}},
				Subscribe: auth.Rule{Allow: []string{"b", "c q"}, Deny: []string{"d"}},
				Responses: &auth.Responses{Max: 5, TTL: time.Minute}, Admin: []string{">"},
			}},
			{Name: "b", Password: "y"},
			{NKey: nkey, Permissions: &auth.Permissions{Responses: &auth.Responses{}}},
		},
		Default:    &auth.Permissions{Publish: auth.Rule{Allow: []string{"p", "q"}}},
		NoAuthUser: "b",
	}
	f(`
users:
  - user: a
    password: x
    permissions:
      publish: a.>
      subscribe: {allow: [b, "c q"], deny: d}
      allow_responses: {max: 5, expires: "1m"}
      admin: ">"
  - {user: b, password: y}
nkeys:
  - nkey: `+nkey+`
    permissions: {allow_responses: true}
default_permissions: {publish: [p, q], allow_responses: false}
no_auth_user: b
`, users)
	f(`{"authorization": {"users": [
  {"user": "a", "password": "x", "permissions": {"publish": "a.>", "subscribe": {"allow": ["b", "c q"], "deny": ["d"]},
   "allow_responses": {"max": 5, "expires": "60"}, "admin": [">"]}},
  {"user": "b", "password": "y"}, {"nkey": "`+nkey+`", "permissions": {"allow_responses": true}}],
  "default_permissions": {"publish": ["p", "q"]}, "no_auth_user": "b"}}`, users)
}

// YAML takes some values for numbers or for words of its own. Who logs in types them as they are written.
func TestLoginsAreTextAsWritten(t *testing.T) {
	for _, written := range []string{"0123", "1_000", "0x1F", "1.10", "+5", ".5", "1e3", "yes", "true", ".inf", "2026-01-01"} {
		c, err := parse(t, "users:\n- user: "+written+"\n  password: "+written+"\n  permissions: {publish: ["+written+"]}\n")
		require.NoError(t, err)
		p := &auth.Permissions{Publish: auth.Rule{Allow: []string{written}}}
		require.Equal(t, []auth.User{{Name: written, Password: written, Permissions: p}}, c.Auth.Users)
		c, err = parse(t, "token: "+written+"\n")
		require.NoError(t, err)
		require.Equal(t, written, c.Auth.Token)
	}
	c, err := parse(t, "users:\n- user: &name ann\n  password: *name\n- user: !!str 012\n")
	require.NoError(t, err)
	require.Equal(t, []auth.User{{Name: "ann", Password: "ann"}, {Name: "012"}}, c.Auth.Users)
}

// A login is given once, as any other setting.
func TestALoginGivenTwice(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		_, err := parse(t, yml)
		require.ErrorContains(t, err, want)
	}
	f("token: a\nauthorization: {token: b}\n", "token and authorization.token are the same setting")
	f("authorization: {user: u, password: a, pass: b}\n", "authorization.password and authorization.pass are the same setting")
	f("users: []\nauthorization: {users: []}\n", "users and authorization.users are the same setting")
}

// The lines of a file that an error shows end in the log of a service: no secret may be in them.
func TestErrorsShowNoSecrets(t *testing.T) {
	f := func(yml string) {
		t.Helper()
		c, err := parse(t, yml)
		if err == nil {
			err = c.Validate()
		}
		require.Error(t, err)
		require.NotContains(t, err.Error(), "S3C", yml)
		if e, ok := errors.AsType[*FileError](err); ok {
			require.NotContains(t, e.Excerpt, "S3C", yml)
			require.NotEmpty(t, e.Excerpt)
		}
	}
	f("users:\n- user: ann\n  password: S3CRET\n  permision: {}\n")
	f("users:\n- user: ann\n  pasword: S3CRET\n")
	f("users: [{user: a, pass: \"S3C}RET}]\n")
	f("server:\n  nam: x\ntoken: S3CRET\n")
	f("token:S3CRET\n")
	f("token: S3CRET: x\n")
	f("token: [S3CRET]\n")
	f(`{"authorization": {"password": "S3CRET", "users": 1}}`)
	f("authorization {\n  token = \"S3CRET\"\n}\n")
	f("nkeys: [{nkey: ' SUS3CRET'}]\n")
	f("password: |\n  S3C1\n  S3C2\n\n  S3C3\nnam: x\n")
	f("password: |\n  S3C1\n  S3C2\n  S3C3\n  S3C4\n  S3C5\nnam: x\n") // its key is not in the excerpt
	f("users:\n- user: ann\n  password: >-\n    S3C1\n    S3C2\n  nam: x\n")
	f("users:\n- password: |\n   S3C1\n   S3C2\n  nam: x\n")
	f("token:\n  S3CRET\nnam: x\n")
	f("token: a\n  S3CRET\nnam: x\n")
	f("token: |\nS3CRET\nnam: x\n")
	f("{\"users\": [{\"user\": \"a\", \"password\":\n\"S3CRET\"}],\n\"nam\": 1}\n")
}

// Hiding secrets leaves the rest of the lines, which say where the mistake is.
func TestErrorsShowWhatIsNoSecret(t *testing.T) {
	_, err := parse(t, "nkeys:\n- nkey: S3C\n  permissions: {}\nusers:\n- password: |\n    S3C\n  user: ann\n  nam: x\n")
	e, ok := errors.AsType[*FileError](err)
	require.True(t, ok)
	require.Contains(t, e.Excerpt, "user: ann")
	require.Contains(t, e.Excerpt, "nam: x")
	require.Contains(t, e.Excerpt, "password: …")
	require.Equal(t, map[int]bool{6: true}, secretLines("nkeys:\n- nkey: S3C\n  permissions: {}\nusers:\n- password: |\n    S3C\n  user: ann\n"))
}

// The names of NATS set the same settings.
func TestNamesOfNATS(t *testing.T) {
	got, err := parse(t, `
server_name: n1
port: 4333
max_payload: 2MiB
max_control_line: 8192
max_connections: 10
max_connection_rate: 15
max_subscriptions: 20
max_pending: 1MiB
ping_interval: 30
ping_max: 3
auth_timeout: 0.5
headers: false
lame_duck: {duration: 30s, grace_period: 5s}
client_advertise: example.com:4222
allow_non_tls: true
tls: {cert_file: c.pem, key_file: k.pem, handshake_first: 100ms, timeout: 5}
`)
	require.NoError(t, err)
	want := Default()
	want.Server.Name, want.Server.Port, want.Server.Headers = "n1", 4333, false
	want.Server.LameDuck, want.Server.LameGrace, want.Server.Advertise = 30*time.Second, 5*time.Second, "example.com:4222"
	want.Limits.RecordBytes, want.Limits.ControlLine, want.Limits.Connections = 2<<20, 8192, 10
	want.Limits.ConnectionRate = 15
	want.Limits.Subscriptions, want.Limits.PendingBytes = 20, 1<<20
	want.Limits.PingInterval, want.Limits.PingMax, want.Limits.AuthTimeout = 30*time.Second, 3, 500*time.Millisecond
	want.TLS = TLS{Cert: "c.pem", Key: "k.pem", HandshakeFirst: "100ms", Timeout: 5 * time.Second, AllowNonTLS: true}
	require.Equal(t, want, got)
	got, err = parse(t, `{"lame_duck": "45s", "headers": "off", "max_control_line": 8}`)
	require.NoError(t, err)
	require.Equal(t, 45*time.Second, got.Server.LameDuck)
	require.False(t, got.Server.Headers)
	require.EqualValues(t, 8, got.Limits.ControlLine)
	got, err = parse(t, "tls: {connection_rate_limit: 20}")
	require.NoError(t, err)
	require.Equal(t, 20, got.Limits.ConnectionRate)
	got, err = parse(t, "tls: {handshake_first: 100ms}")
	require.NoError(t, err)
	first, fallback := got.TLS.First()
	require.True(t, first)
	require.Equal(t, 100*time.Millisecond, fallback)
}

func TestAnswersWithoutALimit(t *testing.T) {
	got, err := parse(t, `users: [{user: a, password: x, permissions: {allow_responses: {max: -1, expires: "-1ms"}}}]`)
	require.NoError(t, err)
	require.Equal(t, &auth.Responses{Max: -1, TTL: -1}, got.Auth.Users[0].Permissions.Responses)
	_, err = parse(t, `users: [{user: a, password: x, permissions: {allow_responses: {expires: soon}}}]`)
	require.ErrorContains(t, err, "expires")
}

// A value of the wrong kind is named in words that need no Go, with its place.
func TestWrongKindsOfLogins(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		_, err := parse(t, yml)
		e, ok := errors.AsType[*FileError](err)
		require.True(t, ok, err)
		require.Equal(t, want, fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Reason))
	}
	permissions := func(s string) string { return "users:\n- user: a\n  permissions:\n    " + s + "\n" }
	const responses = "true, false, or limits such as {max: 1, expires: 2m} are expected here"
	f(permissions("allow_responses: 5"), "4:22 "+responses)
	f(permissions("allow_responses: [max]"), "4:22 "+responses)
	f(permissions("allow_responses: {max: x}"), "4:28 a whole number is expected here")
	f(permissions("allow_responses: {max: 99999999999999999999}"), "4:28 this number is too large")
	f(permissions("publish: {allow: {a: b}}"), "4:22 a subject or a list of subjects is expected here")
	f(permissions("publish: [[a]]"), "4:14 a subject, a list of subjects, or {allow: …, deny: …} is expected here")
	f(permissions("publish: {deny: [[a]]}"), "4:21 a subject or a list of subjects is expected here")
	f("users: x\n", "1:8 a list is expected here")
	f("users: [x]\n", "1:9 keys and values are expected here")
	f("users: [{user: [x]}]\n", "1:16 one plain value is expected here")
}

func TestSecurityAgainstEachOther(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		c, err := parse(t, yml)
		require.NoError(t, err)
		if err = c.Validate(); want == "" {
			require.NoError(t, err, yml)
			return
		}
		require.ErrorContains(t, err, want, yml)
	}
	const wide = "server: {host: 0.0.0.0}\n"
	f(wide, ErrInsecure.Error())
	f("server: {listen: ':4222'}\n", ErrInsecure.Error())
	f("server: {listen: 'localhost:4222'}\n", "")
	f("server: {host: '::1'}\n", "")
	f(wide+"token: x\n", "")
	f("server: {host: 0.0.0.0, insecure: true}\n", "")
	f(wide+"tls: {cert: a, key: b, verify: true, ca: c}\n", "")
	f(wide+"tls: {cert: a, key: b}\n", ErrInsecure.Error())
	f("tls: {cert: a}\n", "go together")
	f("tls: {verify: true}\n", "there is no TLS")
	f("tls: {cert: a, key: b, verify: true, allow_non_tls: true}\n", "without the certificate")
	f("tls: {cert: a, key: b, verify_and_map: true}\n", "needs users")
	f("user: x\n", "needs a password")
	f("users: [{user: a, password: b}, {user: a, password: c}]\n", "twice")
	f("users: [{user: a, password: $2a$10$short}]\n", "malformed")
	f("users: [{user: a, password: b, permissions: {publish: 'a..b'}}]\n", "not a subject")
	f("no_auth_user: x\n", "not a user")
}

func TestLoadTLSSaysWhatIsWrong(t *testing.T) {
	none := &TLS{}
	c, err := none.LoadTLS()
	require.NoError(t, err)
	require.Nil(t, c)
	dir := t.TempDir()
	_, err = (&TLS{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k")}).LoadTLS()
	require.ErrorIs(t, err, os.ErrNotExist)
	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = LoadCertPool(empty)
	require.ErrorContains(t, err, "no certificate in")
}
