package client

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// DefaultAddr is the address a broker listens on by default.
const DefaultAddr = "127.0.0.1:4222"

const defaultPort = "4222"

// endpoint is one broker that Dial may connect to.
type endpoint struct {
	addr string // host:port
	host string // the name to verify with TLS
	tls  bool
}

// otherSchemes maps the schemes of NATS to those of Rafka.
var otherSchemes = map[string]string{"nats": "rafka", "tls": "rafkas"}

// parseAddr parses the address given to Dial: "host", "host:port",
// "rafka://user:password@host:port", "rafka://token@host", "rafkas://…" for TLS, or a
// comma-separated list of them. It copies the login of the first URL that has one into o, unless o
// has its own. A login follows a scheme: otherwise the end of a password behind a comma would be taken
// for the next address.
func parseAddr(addr string, o *Options) ([]endpoint, error) {
	if strings.TrimSpace(addr) == "" {
		addr = DefaultAddr
	}
	scheme := "rafka"
	if o.TLS != nil {
		scheme = "rafkas"
	}
	var ends []endpoint
	for one := range strings.SplitSeq(addr, ",") {
		if strings.Contains(one, "@") && !strings.Contains(one, "://") {
			return nil, fmt.Errorf("%w %q: %w", ErrAddress, redact(one), errLogin)
		}
	}
	for one := range strings.SplitSeq(addr, ",") {
		one = strings.TrimSpace(one)
		whole := one
		if s, _, ok := strings.Cut(one, "://"); ok {
			scheme = s // applies to the rest of the list too: rafkas://a,b
		} else {
			whole = scheme + "://" + one
		}
		e, err := parseURL(whole, o)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrAddress, redact(one), err)
		}
		ends = append(ends, e)
	}
	return ends, nil
}

var errLogin = errors.New("a login looks like rafka://user:password@host, with %2C for a comma in the password")

// errSpecial says how to write a password, which is what most often makes an address invalid.
var errSpecial = errors.New("want host:port or rafka://host:port; in a password, write special characters like %2C")

// parseURL parses one address with its scheme. Its errors do not quote s, which may hold a
// password.
func parseURL(s string, o *Options) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Hostname(), ":") && u.Host[0] != '[' {
		return endpoint{}, errSpecial
	}
	if u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return endpoint{}, errSpecial
	}
	if name, ok := otherSchemes[u.Scheme]; ok {
		u.Scheme = name
	}
	if u.Scheme != "rafka" && u.Scheme != "rafkas" {
		return endpoint{}, errors.New("the scheme must be rafka or rafkas")
	}
	if u.User != nil && o.User == "" && o.Token == "" {
		var both bool
		if o.Password, both = u.User.Password(); both {
			o.User = u.User.Username()
		} else {
			o.Token = u.User.Username()
		}
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	return endpoint{addr: net.JoinHostPort(u.Hostname(), port), host: u.Hostname(), tls: u.Scheme == "rafkas"}, nil
}

// redact cuts credentials out of an address that is about to be shown.
func redact(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}
