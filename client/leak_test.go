package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
)

// leaves checks that what f starts has ended, or ends soon, once f has returned.
func leaves(t *testing.T, what string, f func()) {
	t.Helper()
	f()
	ended := func() bool { return leaked() == "" }
	require.Eventually(t, ended, 10*time.Second, time.Millisecond, "%s: %s", what, leaked())
}

// quietConn loses everything that arrives after its first reads.
type quietConn struct {
	net.Conn
	reads int    // that are left
	lost  func() // is called when something is lost
}

func (c *quietConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || c.reads > 0 {
			c.reads--
			return n, err
		}
		c.lost()
	}
}

// quietAfter returns a dialer of connections that lose everything after some reads, and then call lost.
func quietAfter(b *servertest.Broker, reads int, lost func()) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := b.Dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &quietConn{Conn: nc, reads: reads, lost: lost}, nil
	}
}

// uses are what programs do with a client, until ctx ends or something is received.
var uses = map[string]func(ctx context.Context, c *client.Client){
	"publish": func(ctx context.Context, c *client.Client) {
		_, _ = c.Publish(ctx, &client.Message{Topic: "a", Value: []byte("x")})
	},
	"publish in the background": func(ctx context.Context, c *client.Client) {
		_ = c.PublishAsync(ctx, &client.Message{Topic: "a", Value: []byte("x")}, nil)
		_ = c.Flush(ctx)
	},
	"fetch": func(ctx context.Context, c *client.Client) {
		_, _ = c.Fetch(ctx, client.FetchRequest{Topic: "a", From: client.End(), MaxWait: time.Minute})
	},
	"subscribe": func(ctx context.Context, c *client.Client) {
		k, err := c.Subscribe(ctx, client.Subscription{Topic: "a"})
		for err == nil {
			_, err = k.Next(ctx)
		}
		if k != nil {
			k.Close()
		}
	},
	"run a group": func(ctx context.Context, c *client.Client) {
		_ = c.Run(ctx, client.Group("g", "a"), func(context.Context, *client.Message) error { return nil })
	},
	"run a queue": func(ctx context.Context, c *client.Client) {
		_ = c.Run(ctx, client.Queue("q", "a"), func(context.Context, *client.Message) error { return nil })
	},
	"loop": func(ctx context.Context, c *client.Client) {
		for range c.Messages(ctx, client.Group("l", "a")) { // reads until ctx ends
		}
	},
	"open a group": func(ctx context.Context, c *client.Client) {
		g, err := c.OpenGroup(ctx, client.Group("o", "a"))
		for err == nil {
			_, err = g.Fetch(ctx, 1)
		}
		if g != nil {
			_ = g.Close(ctx)
		}
	},
	"open a queue": func(ctx context.Context, c *client.Client) {
		q, err := c.OpenQueue(ctx, client.Queue("p", "a"))
		for err == nil {
			_, err = q.Fetch(ctx, 1)
		}
		if q != nil {
			_ = q.Close(ctx)
		}
	},
	"request": func(ctx context.Context, c *client.Client) {
		_, _ = c.Request(ctx, &client.Message{Subject: "slow"})
	},
	"listen": func(ctx context.Context, c *client.Client) {
		l, err := c.Listen(ctx, "s", client.ListenOptions{}, func(context.Context, *client.Message) {})
		if err == nil {
			<-ctx.Done()
			_ = l.Close()
		}
	},
	"list": func(ctx context.Context, c *client.Client) {
		for range c.Schedules(ctx, "a", client.AllPartitions) { // reads until ctx ends
		}
	},
}

// stillBroker is a broker with a topic, and with somebody who never answers requests to "slow".
func stillBroker(t *testing.T) *servertest.Broker {
	t.Helper()
	b := servertest.Start(t, servertest.Options{})
	c, err := client.Dial(t.Context(), b.Addr, client.Options{Dialer: b.Dial})
	require.NoError(t, err)
	_, err = c.CreateTopic(t.Context(), "a", client.TopicOptions{Partitions: 2})
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()))
	nc, err := b.Dial(t.Context(), b.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	_, err = nc.Write([]byte("CONNECT {\"verbose\":false}\r\nSUB slow 1\r\nPING\r\n"))
	require.NoError(t, err)
	lines := bufio.NewScanner(nc)
	for lines.Scan() && lines.Text() != "PONG" { // until the subscription is there
	}
	require.NoError(t, lines.Err())
	go func() { _, _ = io.Copy(io.Discard, nc) }()
	return b
}

func closeIn(c *client.Client, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	_ = c.Close(ctx)
}

// Whatever makes a login fail, nothing of it goes on.
func TestAFailedDialLeavesNothing(t *testing.T) {
	secret := servertest.Start(t, servertest.Options{Server: server.Options{Auth: users(t, nil)}})
	open := servertest.Start(t, servertest.Options{})
	says := func(text string, end bool) func(context.Context, string) (net.Conn, error) {
		return func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				_, _ = far.Write([]byte(text))
				if end {
					_ = far.Close()
				}
			}()
			return near, nil
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	f := func(what string, ctx context.Context, o client.Options) {
		o.RequestTimeout = 50 * time.Millisecond
		leaves(t, what, func() {
			c, err := client.Dial(ctx, "127.0.0.1:1", o)
			require.Error(t, err, what)
			require.Nil(t, c, what)
		})
	}
	f("nobody listens", t.Context(), client.Options{})
	f("a silent peer", t.Context(), client.Options{Dialer: says("", false)})
	f("a peer that hangs up", t.Context(), client.Options{Dialer: says("", true)})
	f("a web server", t.Context(), client.Options{Dialer: says("HTTP/1.1 400 Bad Request\r\n\r\n", false)})
	f("half a greeting", t.Context(), client.Options{Dialer: says("INFO {", false)})
	f("a peer without TLS", t.Context(), client.Options{Dialer: open.Dial, TLS: &tls.Config{InsecureSkipVerify: true}})
	f("a refused login", t.Context(), client.Options{Dialer: secret.Dial, User: "u", Password: "wrong"})
	f("an ended context", ended, client.Options{Dialer: open.Dial})
}

// A client that is closed in the middle of something ends it, also when the broker has become silent or is gone.
func TestCloseInTheMiddleLeavesNothing(t *testing.T) {
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			b := stillBroker(t)
			for _, broker := range []string{"answers", "is silent", "is gone"} {
				leaves(t, broker, func() {
					reads := map[string]int{"answers": 1000, "is silent": 3, "is gone": 1000}[broker]
					dial := quietAfter(b, reads, func() {})
					c, err := client.Dial(t.Context(), b.Addr, client.Options{Dialer: dial, RequestTimeout: time.Minute})
					require.NoError(t, err)
					ctx, cancel := context.WithCancel(t.Context())
					var using sync.WaitGroup
					using.Go(func() { use(ctx, c) })
					time.Sleep(5 * time.Millisecond)
					if broker == "is gone" {
						b.Stop()
					}
					closeIn(c, 20*time.Millisecond)
					cancel()
					using.Wait()
				})
			}
		})
	}
}

// A context that ends at any stage, of the login or of what follows, ends what it is for, and nothing stays behind once
// the client is closed.
func TestAContextThatEndsLeavesNothing(t *testing.T) {
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			b := stillBroker(t)
			for reads := range 12 {
				leaves(t, fmt.Sprint(reads, " reads"), func() {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond) // some have fewer stages
					defer cancel()
					dial := quietAfter(b, reads, cancel)
					c, err := client.Dial(ctx, b.Addr, client.Options{Dialer: dial, RequestTimeout: time.Minute})
					if err != nil {
						return
					}
					var using sync.WaitGroup
					using.Go(func() { use(ctx, c) })
					<-ctx.Done()
					closeIn(c, 5*time.Millisecond) // a run waits for its last commit longer than a test should
					using.Wait()
				})
			}
		})
	}
}
