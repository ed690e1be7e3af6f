package auth

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What may be subscribed to is what nats-server lets through, and never more.
func TestWhoMaySubscribe(t *testing.T) {
	f := func(allow, deny []string, pattern, queue string, want bool) {
		t.Helper()
		p := policy(t, Config{Users: []User{{Name: "u", Password: "p", Permissions: &Permissions{Subscribe: Rule{Allow: allow, Deny: deny}}}}})
		who := accepted(t, p, "u", Credentials{User: "u", Password: "p"})
		require.Equal(t, want, who.MaySubscribe([]byte(pattern), []byte(queue)), "allow %q deny %q: %s %s", allow, deny, pattern, queue)
	}
	list := func(s ...string) []string { return s }
	all := list(">")

	f(list("foo"), nil, "foo", "", true)
	f(list("foo"), nil, "foo", "bar", true)
	f(list("foo bar"), nil, "foo", "bar", true)
	f(list("foo bar"), nil, "foo", "fizz", false)
	f(list("foo bar.*"), nil, "foo", "bar.fizz", true)
	f(list("> bar.>"), nil, "whizz", "bar.bang", true)
	f(list("> bar.>"), nil, "whizz", "", false)
	f(list("> v1.>"), nil, "foo", "v1.prod", true)
	f(list("> *.dev", "> *.stg"), nil, "foo", "bar", false)
	f(all, list("foo"), "foo", "bar", false)
	f(all, list("foo"), "bar", "", true)
	f(all, list(">"), "foo", "bar", false)
	f(all, list("> >"), "foo", "", true)
	f(nil, list("> >"), "foo", "bar", false)
	f(nil, list("> *.dev", "> *.stg"), "foo", "bar", true)
	f(nil, list("foo >"), "foo", "bar", false)
	f(all, list("admin.>", "> restricted"), "admin.secret", "workers", false)

	// Entries with queue groups decide for members of groups wherever they apply.
	f(list("foo", "foo bar"), nil, "foo", "bar", true)
	f(list("foo", "foo bar"), nil, "foo", "fizz", false)
	f(list("foo bar", "foo"), nil, "foo", "fizz", false)
	f(list("foo", "foo bar"), nil, "foo", "", true)
	f(list(">", "foo.* bar"), nil, "foo.x", "fizz", false)
	f(list(">", "foo.* bar"), nil, "other", "fizz", true)

	// No pattern matches a name with an empty token, so that a list that speaks of groups does not let it in.
	f(nil, list("foo >"), "foo", "a..b", false)
	f(all, list("foo a.>"), "foo", "a..b", false)
	f(list(">", "foo bar"), nil, "foo", "a..b", false)
	f(list(">", "foo bar"), nil, "foo", "", true)
	f(all, list("bar"), "foo", "a..b", true)

	// What is denied of a wider pattern is kept from it later.
	f(nil, list("*.secret"), "foo.*", "", true)
	f(nil, list("foo.*.bar"), "foo.baz.*", "", true)
	f(nil, list("a.>"), "*.b", "", true)
	f(nil, list("a.b"), ">", "", true)
	f(nil, list("a.*"), "a.*", "", false)
	f(nil, list("a.>"), "a.*", "", false)
	f(nil, list("a.>"), "a", "", true)

	f(list("a.*"), nil, "a.b", "", true)
	f(list("a.*"), nil, "*.b", "", false)
	f(list("a.>"), nil, "a.b.*", "", true)
	f(list("a.>"), nil, "a", "", false)
	// nats-server lets these through, and what they match with them.
	f(list("a.*"), nil, "a.>", "", false)
	f(list("*"), nil, ">", "", false)
}

func TestWhoMayPublish(t *testing.T) {
	f := func(allow, deny []string, subject string, want bool) {
		t.Helper()
		p := policy(t, Config{Users: []User{{Name: "u", Password: "p", Permissions: &Permissions{Publish: Rule{Allow: allow, Deny: deny}}}}})
		who := accepted(t, p, "u", Credentials{User: "u", Password: "p"})
		require.Equal(t, want, who.MayPublish([]byte(subject)), "allow %q deny %q: %s", allow, deny, subject)
	}
	list := func(s ...string) []string { return s }
	f(list("foo"), nil, "foo", true)
	f(list("foo"), nil, "bar", false)
	f(nil, list("foo"), "foo", false)
	f(nil, list("foo"), "bar", true)
	f(list("foo.*"), list("foo.x"), "foo.x", false)
	f(list("foo.*"), list("foo.x"), "foo.y", true)
	f(list("foo.>"), nil, "foo", false)
	f(list(">"), list("*.x"), "a.x", false)
	f(list("foo.bar"), nil, "foo.*", false)
	f(list("a"), nil, "a..b", false)
}

// A client may publish to what is not a subject. Nobody gets that, but whoever may publish nothing may not do that either.
func TestWhoMayPublishNothing(t *testing.T) {
	f := func(rights *Permissions, to string, want bool) {
		t.Helper()
		p := policy(t, Config{Users: []User{{Name: "u", Password: "p", Permissions: rights}}})
		require.Equal(t, want, accepted(t, p, "u", Credentials{User: "u", Password: "p"}).MayPublish([]byte(to)), to)
	}
	for _, to := range []string{"a", "a..b", "a.", ".a"} {
		f(&Permissions{Publish: Rule{Deny: []string{">"}}}, to, false)
		f(&Permissions{Responses: &Responses{}}, to, false)
		f(&Permissions{Publish: Rule{Allow: []string{"b"}}}, to, false)
		f(&Permissions{Publish: Rule{Deny: []string{"b"}}}, to, true)
	}
}
