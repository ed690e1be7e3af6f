package server

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// transport is the connection under a session. Its methods are called on the session's loop only.
type transport interface {
	// Write sends b or keeps a copy of it. b is the caller's again afterwards.
	Write(b []byte) (int, error)
	// Writev is Write for several slices. It may modify bs, not what the slices hold.
	Writev(bs [][]byte) (int, error)
	// OutboundBuffered is how many bytes were kept because the peer does not read.
	OutboundBuffered() int
	// Close closes the connection once what was written is with the kernel, as far as it takes it.
	Close() error
	// RemoteAddr is the peer's address.
	RemoteAddr() net.Addr
}

// gnetLoop drives a loop with a gnet engine that has one event loop and no listener. It takes
// sockets from the server's own listener: gnet's stops the whole engine when accept fails.
type gnetLoop struct {
	gnet.BuiltinEventEngine
	loop   *loop
	client *gnet.Client
	el     atomic.Pointer[gnet.EventLoop] // set with the first connection
}

func startGnetLoop(srv *Server) (*gnetLoop, error) {
	g := &gnetLoop{loop: newLoop(srv)}
	g.loop.ring, g.loop.isRunning = g.ring, g.running
	client, err := gnet.NewClient(
		g,
		gnet.WithNumEventLoop(1),
		gnet.WithReadBufferCap(readBuffer),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithLogger(gnetLogger{srv.opts.Logger}),
	)
	if err != nil {
		return nil, err
	}
	g.client = client
	return g, client.Start()
}

// ring wakes the loop through gnet. Before the first connection nobody waits, and OnOpen drains.
func (g *gnetLoop) ring() {
	if el := g.el.Load(); el != nil {
		// The only error is that the engine is shutting down, and then nobody waits any more.
		_ = (*el).Execute(context.Background(), g)
	}
}

// running reports whether gnet has shown its event loop, which it does with the first connection.
func (g *gnetLoop) running() bool { return g.el.Load() != nil }

// Run is called by gnet for every ring.
func (g *gnetLoop) Run(context.Context) error {
	g.loop.drain(g.loop.srv.opts.Now())
	return nil
}

// OnOpen is called by gnet for every enrolled connection.
func (g *gnetLoop) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if g.el.Load() == nil {
		el := c.EventLoop()
		g.el.Store(&el)
		defer func() { g.loop.drain(g.loop.srv.opts.Now()) }()
	}
	s := c.Context().(*session)
	s.open(c, g.loop.srv.opts.Now())
	g.loop.endTurn(g.loop.srv.opts.Now())
	return nil, gnet.None
}

// OnTraffic is called by gnet when a connection has bytes.
func (g *gnetLoop) OnTraffic(c gnet.Conn) gnet.Action {
	s := c.Context().(*session)
	now := g.loop.srv.opts.Now()
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	g.loop.runInbox(now)
	s.receive(in, now)
	if _, err := c.Discard(-1); err != nil {
		return gnet.Close
	}
	g.loop.endTurn(now)
	return gnet.None
}

// OnClose is called by gnet when a connection is gone.
func (g *gnetLoop) OnClose(c gnet.Conn, _ error) gnet.Action {
	g.loop.sessionEnded(c.Context().(*session), g.loop.srv.opts.Now())
	return gnet.None
}

// streamTransport is a transport over any net.Conn: an in-memory pipe, or TLS. Writes block its
// own loop only, up to a deadline.
type streamTransport struct {
	conn    net.Conn
	timeout time.Duration
}

func (t *streamTransport) Write(b []byte) (int, error) {
	if err := t.conn.SetWriteDeadline(time.Now().Add(t.timeout)); err != nil {
		return 0, err
	}
	n, err := t.conn.Write(b)
	if err != nil {
		_ = t.conn.Close() // the reader sees it and ends the session
	}
	return n, err
}

func (t *streamTransport) Writev(bs [][]byte) (int, error) {
	total := 0
	for _, b := range bs {
		n, err := t.Write(b)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (t *streamTransport) OutboundBuffered() int { return 0 }
func (t *streamTransport) Close() error          { return t.conn.Close() }
func (t *streamTransport) RemoteAddr() net.Addr  { return t.conn.RemoteAddr() }

// serveStream runs a session on conn with a loop of its own until it ends.
func (srv *Server) serveStream(conn net.Conn, s *session) {
	wake := make(chan struct{}, 1)
	l := newLoop(srv)
	s.loop = l
	l.ring = func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	if !srv.addStreamLoop(l, conn) {
		_ = conn.Close()
		return
	}
	defer srv.removeStreamLoop(l)
	now := srv.opts.Now
	s.open(&streamTransport{conn: conn, timeout: srv.opts.SlowTimeout}, now())
	l.endTurn(now())

	chunks, taken := make(chan []byte), make(chan struct{})
	srv.wg.Go(func() { readStream(conn, chunks, taken) })
	for open := true; open; {
		select {
		case in, ok := <-chunks:
			if open = ok; ok {
				l.runInbox(now())
				s.receive(in, now())
				taken <- struct{}{}
				l.endTurn(now())
			}
		case <-wake:
			l.drain(now())
		}
	}
	_ = conn.Close()
	l.runJob(jobFunc(s.ended), now())
	l.finish(now())
}

// readStream hands what conn sends to chunks, one buffer at a time, and closes chunks at its end.
func readStream(conn net.Conn, chunks chan<- []byte, taken <-chan struct{}) {
	defer close(chunks)
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			chunks <- buf[:n]
			<-taken
		}
		if err != nil {
			return
		}
	}
}
