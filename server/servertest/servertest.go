// Package servertest starts a real broker inside a Go test, in milliseconds:
//
//	func TestOrders(t *testing.T) {
//		b := servertest.Start(t, servertest.Options{})
//		c, err := client.Dial(t.Context(), b.Addr, client.Options{Dialer: b.Dial})
//		if err != nil {
//			t.Fatal(err)
//		}
//		defer c.Close(context.Background()) // before the broker stops
//		…
//	}
//
// A Clock that the test advances, a Disk that is slow or fails, Restart and DropConnections show what the
// code under test does when time passes and things break.
//
// It keeps its data in memory unless Options.Server.Dir is set, and stops with the test.
package servertest

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/server"
)

// TB is what the package needs of a *testing.T or *testing.B, so that it does not import testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// Options configures the broker. The zero value is a broker in memory without a socket.
type Options struct {
	// Server are the broker's options. Listen defaults to no socket at all; set it to "127.0.0.1:0"
	// for clients that cannot use Dial, such as other processes.
	Server server.Options
	// StopTimeout bounds the shutdown at the end of the test. Default 10 s.
	StopTimeout time.Duration
}

// Broker is a running broker.
type Broker struct {
	// Addr is the address of the socket, or "in-process" without one.
	Addr string
	// Server is the broker itself.
	Server *server.Server

	tb   TB
	opts Options
	now  atomic.Pointer[server.Server] // Server, for Dial during a Restart
}

// inProcess stands for the address of a broker without a socket.
const inProcess = "in-process"

// Start starts a broker and stops it when the test ends. It ends the test when the broker does not
// start.
func Start(tb TB, o Options) *Broker {
	tb.Helper()
	if o.Server.Listen == "" {
		o.Server.Listen = "off"
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 10 * time.Second
	}
	b := &Broker{tb: tb, opts: o}
	b.start()
	tb.Cleanup(b.Stop)
	return b
}

func (b *Broker) start() {
	b.tb.Helper()
	srv, err := server.New(b.opts.Server)
	if err == nil {
		err = srv.Start()
	}
	if err != nil {
		b.tb.Fatalf("servertest: start the broker: %v", err)
	}
	b.now.Store(srv)
	b.Server, b.Addr = srv, inProcess
	if addr := srv.Addr(); addr != nil {
		b.Addr = addr.String()
	}
}

// Dial connects to the broker without a socket, whatever the address. It fits client.Options.Dialer.
func (b *Broker) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return b.now.Load().Dial(ctx)
}

// Stop shuts the broker down in order. It may be called more than once.
func (b *Broker) Stop() {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.opts.StopTimeout)
	defer cancel()
	if err := b.Server.Shutdown(ctx); err != nil {
		b.tb.Errorf("servertest: stop the broker: %v", err)
	}
}

// Restart stops the broker and starts it again with the same options: on the same address when it
// has a socket, and on the same data when it has a directory.
func (b *Broker) Restart() {
	b.tb.Helper()
	b.Stop()
	if b.Addr != inProcess {
		b.opts.Server.Listen = b.Addr
	}
	b.start()
}

// DropConnections ends every connection at once, as a failure of the network does. Clients reconnect.
func (b *Broker) DropConnections() {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.opts.StopTimeout)
	defer cancel()
	b.Server.DropConnections(ctx)
}
