package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// Version is the version of this client, as reported to the broker.
const Version = "0.1.0"

// maxHelloReply bounds the first frame, which holds two short names or an error. The limit also
// exposes a TLS alert, whose first bytes look like the length of a large frame.
const maxHelloReply = 4 << 10

// connect dials the brokers in turn, starting with the one at c.nextEndpoint, and returns the first
// connection that logged in. All of it takes at most Options.RequestTimeout, which the brokers share: one that does not
// answer at all leaves time for the others. The error joins those of all attempts; it is permanent when all of them are.
func (c *Client) connect(ctx context.Context) (cn *conn, isPermanent bool, err error) {
	var errs []error
	isPermanent = true
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	end, _ := ctx.Deadline()
	for i := range c.endpoints {
		e := c.endpoints[c.nextEndpoint%len(c.endpoints)]
		cn, err := c.login(ctx, e, time.Until(end)/time.Duration(len(c.endpoints)-i))
		if err == nil {
			return cn, false, nil
		}
		c.nextEndpoint++
		isPermanent = isPermanent && permanent(err)
		errs = append(errs, fmt.Errorf("connect to %s: %w", e.addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, isPermanent, errors.Join(errs...)
}

// permanent reports whether another login cannot succeed either.
func permanent(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeUnauthenticated, wire.CodeForbidden, wire.CodeUnsupported, wire.CodeTLSRequired:
		return true
	}
	return false
}

// login opens one connection. It sends its first bytes at once, and skips the greeting when that
// arrives.
func (c *Client) login(ctx context.Context, e endpoint, timeout time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := c.opts.Dialer(ctx, e.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	line := &greeted{Conn: nc}
	cn, err := c.hello(ctx, e, line)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return nil, err
	}
	return cn, nil
}

func (c *Client) hello(ctx context.Context, e endpoint, line *greeted) (*conn, error) {
	nc := line
	if e.tls {
		t, err := c.startTLS(ctx, e, line)
		if err != nil {
			return nil, err
		}
		nc = &greeted{Conn: t}
	}
	hello, err := c.newHello(line, nc)
	if err != nil {
		return nil, err
	}
	cn := newConn(c, nc, line)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = nc.Write(hello) }) // concurrently, because the broker sends first too, and a pipe has no buffer
	cn.frames.limit = maxHelloReply
	f, err := cn.frames.next()
	cn.frames.limit = wire.MaxReplyBytes
	if err != nil {
		_ = nc.Close()
	}
	wg.Wait()
	if err != nil {
		if refusal := cn.frames.refusal(); refusal != "" {
			return nil, explain(wire.Errorf(wire.CodeLimit, "%s", refusal), wire.OpHello, "", anyPartition)
		}
		return nil, c.explainHello(err, e)
	}
	if err := cn.onHello(&f); err != nil {
		return nil, err
	}
	cn.server = Server{Addr: e.addr, Name: cn.hello.ServerName, Version: cn.hello.ServerVersion}
	return cn, nil
}

func (c *Client) startTLS(ctx context.Context, e endpoint, line *greeted) (*tls.Conn, error) {
	config := &tls.Config{}
	if c.opts.TLS != nil {
		config = c.opts.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = e.host
	}
	t := tls.Client(line, config)
	err := t.HandshakeContext(ctx)
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return nil, fmt.Errorf("the other side does not use TLS (rafka://%s): %w", e.addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("start TLS: %w", err)
	}
	return t, nil
}

// newHello returns the preface and the hello. With an nkey it signs the nonce of the greeting,
// which comes before TLS or within it.
func (c *Client) newHello(outer, inner *greeted) ([]byte, error) {
	h := wire.Hello{Name: c.opts.Name, Version: Version}
	switch {
	case c.opts.NKey != "":
		nonce, err := outer.nonce()
		if err == nil && nonce == "" && inner != outer {
			nonce, err = inner.nonce()
		}
		if err != nil {
			return nil, err
		}
		signature, err := c.opts.SignNonce([]byte(nonce))
		if err != nil {
			return nil, fmt.Errorf("sign the broker's nonce: %w", err)
		}
		h.Mechanism, h.Credentials = "nkey", append([]byte(c.opts.NKey+"\x00"), signature...)
	case c.opts.Token != "":
		h.Mechanism, h.Credentials = "token", []byte(c.opts.Token)
	case c.opts.User != "":
		h.Mechanism, h.Credentials = "plain", []byte(c.opts.User+"\x00"+c.opts.Password)
	}
	dst, at := wire.BeginFrame(wire.AppendPreface(nil), wire.OpHello, 0, 0)
	return wire.EndFrame(h.Append(dst), at), nil
}

func (cn *conn) onHello(f *frame) error {
	defer cn.frames.recycle(f)
	if f.Op&wire.OpReply != 0 && f.Flags&wire.FlagError != 0 {
		we, err := parseError(f)
		if err != nil {
			return err
		}
		return explain(we, wire.OpHello, "", anyPartition)
	}
	if f.Op != wire.OpHello|wire.OpReply {
		return fmt.Errorf("%w: the broker answered the hello with %s", ErrProtocol, f.Op)
	}
	if err := cn.hello.Parse(f.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if cn.hello.Version < wire.Version {
		return fmt.Errorf("%w: the broker speaks version %d of the protocol, this client %d", ErrProtocol, cn.hello.Version, wire.Version)
	}
	return nil
}

// explainHello adds a likely cause to the error of a login that broke.
func (c *Client) explainHello(err error, e endpoint) error {
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if e.tls || !cut && !errors.Is(err, wire.ErrFrameTooLarge) {
		return err
	}
	return fmt.Errorf("%w: no broker answered; does it want TLS (rafkas://%s)?", err, e.addr)
}
