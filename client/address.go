package client

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// DefaultAddr is where a broker listens unless it was told otherwise.
const DefaultAddr = "127.0.0.1:4222"

const defaultPort = "4222"

// endpoint is one broker that Dial may connect to.
type endpoint struct {
	addr string // host:port
	host string // for TLS
	tls  bool
}

// otherSchemes are what NATS calls the same.
var otherSchemes = map[string]string{"nats": "rafka", "tls": "rafkas"}

// parseAddr reads what Dial accepts: "host", "host:port", "rafka://user:password@host:port",
// "rafka://token@host", "rafkas://…" for TLS, or a comma-separated list of them. The login of the
// first URL that has one is filled into o, which wins when it has its own.
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
		one = strings.TrimSpace(one)
		if s, _, ok := strings.Cut(one, "://"); ok {
			scheme = s // holds for the rest of the list: rafkas://a,b
		} else {
			one = scheme + "://" + one
		}
		e, err := parseURL(one, o)
		if err != nil {
			return nil, err
		}
		ends = append(ends, e)
	}
	return ends, nil
}

func parseURL(s string, o *Options) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Hostname(), ":") && u.Host[0] != '[' {
		return endpoint{}, fmt.Errorf("%w %q: want host:port or rafka://host:port", ErrAddress, redact(s))
	}
	if name, ok := otherSchemes[u.Scheme]; ok {
		u.Scheme = name
	}
	if u.Scheme != "rafka" && u.Scheme != "rafkas" {
		return endpoint{}, fmt.Errorf("%w %q: the scheme must be rafka or rafkas", ErrAddress, redact(s))
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
		return endpoint{}, fmt.Errorf("%w %q: port %s is not between 1 and 65535", ErrAddress, redact(s), port)
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
