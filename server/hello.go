package server

import (
	"errors"
	"strings"
	"time"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/wire"
)

// hello logs the peer in and tells it the limits.
func (b *binary) hello(f wire.Frame, now time.Time) error {
	if b.ready {
		return wire.Errorf(wire.CodeInvalid, "the connection said hello before")
	}
	var m wire.Hello
	if err := m.Parse(f.Body); err != nil {
		return err
	}
	c, err := credentialsOf(&m)
	if err != nil {
		return err
	}
	f.Body = nil // no longer valid when the login was checked
	name := m.Name
	b.s.pause()
	b.s.logIn(c, func(err error, now time.Time) {
		if err != nil {
			e := wire.Errorf(wire.CodeUnauthenticated, "login refused")
			if errors.Is(err, errLoginWaits) {
				e = errLoginWaits
			}
			b.fail(f.Op, f.Correlation, e)
			b.s.close()
			return
		}
		b.s.name, b.ready = name, true
		b.welcome(f)
		b.s.proceed(now)
	}, now)
	return nil
}

// credentialsOf returns the credentials in a hello. They are copies.
func credentialsOf(m *wire.Hello) (*auth.Credentials, error) {
	first, second, both := strings.Cut(string(m.Credentials), "\x00")
	switch m.Mechanism {
	case "":
		return &auth.Credentials{}, nil
	case "token":
		return &auth.Credentials{Token: string(m.Credentials)}, nil
	case "plain":
		if both {
			return &auth.Credentials{User: first, Password: second}, nil
		}
	case "nkey":
		if both {
			return &auth.Credentials{NKey: first, Signature: []byte(second)}, nil
		}
	default:
		return nil, wire.Errorf(wire.CodeUnsupported, "unknown login mechanism %q", m.Mechanism)
	}
	return nil, wire.ErrMalformed
}

// welcome tells a peer that is logged in the limits.
func (b *binary) welcome(f wire.Frame) {
	srv := b.s.loop.srv
	defaults := srv.registry.Defaults()
	reply := wire.HelloReply{
		Version: wire.Version, ServerID: srv.id, ServerName: srv.opts.Name, ServerVersion: srv.opts.Version,
		MaxFrame: wire.MaxFrameBytes, MaxRecord: uint32(defaults.MaxRecord),
		IdleMs: uint32(srv.opts.IdleTimeout.Milliseconds()), MaxInFlight: uint32(srv.opts.MaxInFlightBytes),
	}
	b.reply(f, reply.Append)
}
