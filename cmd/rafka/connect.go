package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/config"
	"github.com/rafka-mq/rafka/wire"
)

// withClient connects, calls fn, and closes the client, which completes what fn started.
func (c *cli) withClient(ctx context.Context, o client.Options, fn func(cl *client.Client) error) error {
	cl, err := c.dial(ctx, o)
	if err != nil {
		return err
	}
	err = fn(cl)
	if err != nil {
		err = c.withTopicHint(cl, c.withLoginHint(err))
	}
	// Close in order even when a signal has ended the context.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
	defer cancel()
	if errors.Is(err, context.DeadlineExceeded) {
		cancel() // what did not come in time is not waited for again
		_ = cl.Close(closing)
		return err
	}
	return errors.Join(err, cl.Close(closing))
}

func (c *cli) dial(ctx context.Context, o client.Options) (*client.Client, error) {
	o.Name = "rafka-cli"
	if err := c.identify(&o); err != nil {
		return nil, err
	}
	o.RequestTimeout = c.timeout
	c.tellOfBreaks(&o)
	dialling, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cl, err := client.Dial(dialling, c.server, o)
	switch {
	case err == nil:
		return cl, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, wire.CodeUnauthenticated), errors.Is(err, wire.CodeForbidden):
		return nil, c.withLoginHint(err)
	case errors.Is(err, client.ErrAddress):
		return nil, &failure{
			exit: exitUsage, name: "USAGE", err: err,
			hint: "name a broker: --server HOST:PORT",
		}
	}
	return nil, noConnection(cmp.Or(withoutLogin(c.server), client.DefaultAddr), err)
}

// withoutLogin returns addresses of brokers as they may be shown: a URL can hold a password or a token.
func withoutLogin(server string) string {
	list := strings.Split(server, ",")
	for i, one := range list {
		scheme, rest, isURL := strings.Cut(one, "://")
		if at := strings.LastIndexByte(rest, '@'); isURL && at >= 0 {
			list[i] = scheme + "://" + rest[at+1:]
		}
	}
	return strings.Join(list, ",")
}

// noConnection returns the failure for a server with which there is no connection because of err.
func noConnection(server string, err error) *failure {
	f := &failure{exit: exitConnect, name: "CANNOT_CONNECT", err: err}
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	network, _ := errors.AsType[*net.OpError](err)
	switch {
	case plain:
		f.hint = "connect without TLS: --server rafka://HOST:PORT, and no --tls-ca, --tls-cert or --tls-key"
	case errors.Is(err, wire.CodeTLSRequired):
		f.hint = "connect with TLS: --server rafkas://HOST:PORT; --tls-ca names the authority that signed the broker's certificate"
	case errors.Is(err, wire.CodeLimit):
		f.hint = "try again later; max_connections and max_connection_rate are settings of the broker"
	case distrusted:
		f.hint = "--tls-ca names the authority that signed the broker's certificate; --server has to name a host that is in it"
	case network != nil && network.Op == "remote error": // an alert of TLS
		f.hint = "if the broker asks for a certificate: --tls-cert and --tls-key name one that its tls.ca has signed"
	case network != nil, errors.Is(err, context.DeadlineExceeded):
		if network != nil && !strings.Contains(server, ",") {
			err = network.Err // it says the address again
		}
		f.err = fmt.Errorf("no broker answers at %s: %w", server, err)
		f.hint = "start a broker with rafka dev, or name another one with --server HOST:PORT"
	default:
		f.hint = "what answers there is no broker for this program: --server HOST:PORT names another one"
	}
	return f
}

// tellOfBreaks makes the client say on stderr when the connection is lost and when it is back.
// Without that, a command that waits for messages would look as if there were none.
func (c *cli) tellOfBreaks(o *client.Options) {
	var broken atomic.Bool
	o.OnDisconnect = func(err error) {
		broken.Store(true)
		c.sayf("connection lost: %v; trying to connect again", err)
	}
	o.OnConnect = func(s client.Server) {
		if broken.Swap(false) {
			c.sayf("connected again to %s", s.Addr)
		}
	}
}

// asking returns the context of one request, bounded by --timeout.
func (c *cli) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

// withLoginHint adds to the refusal of a login, also of one after a reconnect, that one was given.
func (c *cli) withLoginHint(err error) error {
	given := c.user != "" || c.token != "" || c.nkey != "" || strings.Contains(c.server, "@")
	if _, said := errors.AsType[*failure](err); said || !given || !errors.Is(err, wire.CodeUnauthenticated) {
		return err
	}
	f := explain(err)
	f.hint = "the user, or what it logs in with, is wrong; the broker does not say which"
	return f
}

// withTopicHint adds to the error of a missing topic the name that may have been meant.
func (c *cli) withTopicHint(cl *client.Client, err error) error {
	if _, joined := err.(interface{ Unwrap() []error }); joined { // the outermost error only
		return err // several topics are missing
	}
	if _, said := errors.AsType[*failure](err); said {
		return err
	}
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Topic == "" || !errors.Is(err, wire.CodeTopicNotFound) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	topics, listErr := cl.Topics(ctx)
	if listErr != nil {
		return err
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Topic
	}
	f := explain(err)
	f.err = fmt.Errorf("topic %q does not exist on %s", e.Topic, withoutLogin(c.server))
	f.hint = "create it: rafka topic create " + e.Topic
	if near := config.Nearest(e.Topic, names); near != "" {
		f.hint = "did you mean: " + near + "?      " + f.hint
	} else if len(names) > 0 && len(names) <= 5 {
		f.hint = "there are: " + strings.Join(names, " ") + "      " + f.hint
	}
	return f
}
