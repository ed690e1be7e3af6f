package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/rafka-mq/rafka/wire"
)

type text struct{ p *string }

func (v text) Set(s string) error { *v.p = s; return nil }
func (v text) String() string     { return *v.p }
func (v text) Type() string       { return "string" }

type boolean struct{ p *bool }

// Set implements Value. It accepts words only: a number given for a switch is more often a mistake.
func (v boolean) Set(s string) error {
	switch s {
	case "true", "on", "yes":
		*v.p = true
	case "false", "off", "no":
		*v.p = false
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

func (v boolean) String() string { return strconv.FormatBool(*v.p) }
func (v boolean) Type() string   { return "bool" }

type integer struct {
	p        *int
	min, max int
}

func (v integer) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", s)
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("%d is outside %d to %d", n, v.min, v.max)
	}
	*v.p = n
	return nil
}

func (v integer) String() string { return strconv.Itoa(*v.p) }
func (v integer) Type() string   { return "int" }

type count struct{ p *int64 }

func (v count) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a whole number of 0 or more", s)
	}
	*v.p = n
	return nil
}

func (v count) String() string { return strconv.FormatInt(*v.p, 10) }
func (v count) Type() string   { return "count" }

// host is Server.Host. It also replaces the host of a host:port that a weaker source has set.
type host struct{ c *Config }

func (v host) Set(s string) error {
	v.c.Server.Host = s
	if _, p, err := net.SplitHostPort(v.c.Server.Listen); err == nil {
		v.c.Server.Listen = net.JoinHostPort(s, p)
	}
	return nil
}

func (v host) String() string { return v.c.Server.Host }
func (v host) Type() string   { return "string" }

// port is Server.Port. It also replaces the port of a host:port that a weaker source has set.
type port struct{ c *Config }

func (v port) Set(s string) error {
	var n int
	if err := (integer{&n, 0, 65535}).Set(s); err != nil {
		return err
	}
	v.c.Server.Port = n
	if host, _, err := net.SplitHostPort(v.c.Server.Listen); err == nil {
		v.c.Server.Listen = net.JoinHostPort(host, s)
	}
	return nil
}

func (v port) String() string { return strconv.Itoa(v.c.Server.Port) }
func (v port) Type() string   { return "port" }

// ordinal is a number, or the name of a stateful set's pod, which ends in its number.
type ordinal struct{ p *int }

func (v ordinal) Set(s string) error {
	n := s
	if i := strings.LastIndexByte(s, '-'); i > 0 {
		n = s[i+1:]
	}
	return integer{v.p, 0, maxCount}.Set(n)
}

func (v ordinal) String() string { return strconv.Itoa(*v.p) }
func (v ordinal) Type() string   { return "int" }

// hostPort is a host:port, empty, or the one word that is allowed instead.
type hostPort struct {
	p     *string
	allow string
}

func (v hostPort) Set(s string) error {
	if s != v.allow && s != "" {
		_, p, err := net.SplitHostPort(s)
		if err != nil {
			return fmt.Errorf("%q is not host:port", s)
		}
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return fmt.Errorf("%q has no port between 0 and 65535", s)
		}
	}
	*v.p = s
	return nil
}

func (v hostPort) String() string { return *v.p }
func (v hostPort) Type() string   { return "host:port" }

// oneOf is a word out of a list.
type oneOf struct {
	p     *string
	words []string
	alias map[string]string
}

func choice(p *string, words ...string) oneOf { return oneOf{p: p, words: words} }

func (v oneOf) Set(s string) error {
	if a, ok := v.alias[s]; ok {
		s = a
	}
	if !slices.Contains(v.words, s) {
		known := slices.DeleteFunc(slices.Clone(v.words), func(w string) bool { return w == "" })
		return fmt.Errorf("%q is not one of %s", s, strings.Join(known, ", "))
	}
	*v.p = s
	return nil
}

func (v oneOf) String() string { return *v.p }
func (v oneOf) Type() string   { return "word" }

// size is a number of bytes, with or without a unit.
type size struct {
	p         *int64
	low, high int64
}

func (v size) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	if n < v.low || n > v.high {
		return fmt.Errorf("%q is outside %d to %d bytes", s, v.low, v.high)
	}
	*v.p = n
	return nil
}

// String uses a unit only when that says the size exactly.
func (v size) String() string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if *v.p != 0 && *v.p%u.n == 0 {
			return strconv.FormatInt(*v.p/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(*v.p, 10)
}

func (v size) Type() string { return "size" }

// parseSize returns the bytes of "512", "64KiB", "10MB" or "1.5GiB".
func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > maxSize {
		return 0, fmt.Errorf("%q is not a size such as 64KiB or 10GiB", s)
	}
	return int64(n), nil
}

type duration struct{ p *time.Duration }

func (v duration) Set(s string) error {
	d, err := wire.ParseDuration(s)
	if err != nil {
		return err
	}
	if d > 0 && d < time.Second {
		return fmt.Errorf("%q is shorter than a second", s)
	}
	*v.p = d
	return nil
}

func (v duration) String() string { return v.p.String() }
func (v duration) Type() string   { return "duration" }

// period is a duration that cannot be switched off.
type period struct{ p *time.Duration }

func (v period) Set(s string) error {
	d, err := wire.ParseDuration(s)
	if err == nil && d == 0 {
		err = errors.New("0 would close every connection")
	}
	if err != nil {
		return err
	}
	*v.p = d
	return nil
}

func (v period) String() string { return v.p.String() }
func (v period) Type() string   { return "duration" }

// timeout is a period that NATS writes as a number of seconds.
type timeout struct{ p *time.Duration }

func (v timeout) Set(s string) error {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n > 0 && n < maxCount {
		*v.p = time.Duration(n * float64(time.Second))
		return nil
	}
	return period(v).Set(s)
}

func (v timeout) String() string { return v.p.String() }
func (v timeout) Type() string   { return "duration" }

// first says whether TLS comes before the greeting.
type first struct{ p *string }

func (v first) Set(s string) error {
	if s != "true" && s != "false" && s != "auto" {
		if d, err := wire.ParseDuration(s); err != nil || d <= 0 {
			return fmt.Errorf("%q is not true, false, auto or a duration", s)
		}
	}
	*v.p = s
	return nil
}

func (v first) String() string { return *v.p }
func (v first) Type() string   { return "word" }

type seconds struct{ p *time.Duration }

func (v seconds) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a whole number of seconds", s)
	}
	*v.p = time.Duration(n) * time.Second
	return nil
}

func (v seconds) String() string { return strconv.FormatInt(int64(*v.p/time.Second), 10) }
func (v seconds) Type() string   { return "seconds" }
