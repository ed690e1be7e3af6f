package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
)

// transport is the connection under a session. Its methods are called on the session's loop only.
type transport interface {
	// Write sends b or keeps a copy of it. It does not keep b.
	Write(b []byte) (int, error)
	// Writev is Write for several slices. It may modify bs, but not the bytes in the slices.
	Writev(bs [][]byte) (int, error)
	// OutboundBuffered returns how many bytes are kept because the peer has not read them.
	OutboundBuffered() int
	// Close closes the connection after handing the output to the kernel, as far as the kernel takes it.
	Close() error
	// RemoteAddr is the peer's address.
	RemoteAddr() net.Addr
}

var _ transport = gnet.Conn(nil)

// gnetLoop drives a loop with a gnet engine that has one event loop and no listener. The sockets come from the server's own
// listener, because gnet's stops the whole engine when accept fails.
type gnetLoop struct {
	gnet.BuiltinEventEngine
	loop   *loop
	client *gnet.Client
	el     atomic.Pointer[gnet.EventLoop] // set with the first connection
	nudger *os.File                       // the other end of the nudge's socket
	poll   int                            // the epoll instance; -1 when it is not known
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
	if err := client.Start(); err != nil {
		return nil, err
	}
	if err := g.startNudge(); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

// stop ends the event loop.
func (g *gnetLoop) stop() error {
	err := g.client.Stop()
	if g.nudger != nil {
		err = errors.Join(err, g.nudger.Close())
	}
	return err
}

// ring wakes the loop through gnet. It does nothing before the first connection, whose OnOpen drains the inbox.
func (g *gnetLoop) ring() {
	if el := g.el.Load(); el != nil {
		// The only error is that the engine is shutting down, and then nobody waits.
		_ = (*el).Execute(context.Background(), g)
	}
}

// running reports whether gnet's event loop is known, which it is from the first connection on.
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
		if g.poll = pollOf(c.Fd()); g.poll >= 0 {
			g.loop.pauseReading, g.loop.awaited = g.pauseReading, g.awaited
		}
		defer func() { g.loop.drain(g.loop.srv.opts.Now()) }()
	}
	s, ok := c.Context().(*session)
	if !ok { // the nudge
		return nil, gnet.None
	}
	s.open(c, g.loop.srv.opts.Now())
	g.loop.endTurn(g.loop.srv.opts.Now())
	return nil, gnet.None
}

// pauseReading makes gnet pause or resume reading from a connection. It does not change which write events gnet gets. Should
// gnet begin to read again by itself, the session is held again at the end of that turn.
func (g *gnetLoop) pauseReading(s *session, pause bool) {
	c, ok := s.t.(gnet.Conn)
	if !ok {
		return
	}
	if err := watchSocket(g.poll, c.Fd(), !pause, c.OutboundBuffered() > 0); err != nil {
		g.loop.srv.opts.Logger.Error("connection closed: it cannot be read from", "conn", s.id, "err", err)
		s.close()
	}
}

// awaited reports whether gnet has events to process.
func (g *gnetLoop) awaited() bool { return hasEvents(g.poll) }

// OnTraffic is called by gnet when a connection has bytes.
func (g *gnetLoop) OnTraffic(c gnet.Conn) gnet.Action {
	now := g.loop.srv.opts.Now()
	s, ok := c.Context().(*session)
	if !ok { // the nudge
		_, err := c.Discard(-1)
		g.loop.runLaters(now)
		return actionOf(err)
	}
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	g.loop.runInbox(now)
	s.receive(in, now)
	streams := s.streams(len(in), now)
	_, err = c.Discard(-1)
	g.loop.endTurn(now)
	if streams && err == nil {
		g.lull(s, lullTime)
	}
	return actionOf(err)
}

// actionOf closes the connection after an error.
func actionOf(err error) gnet.Action {
	if err != nil {
		return gnet.Close
	}
	return gnet.None
}

// OnClose is called by gnet when a connection is gone.
func (g *gnetLoop) OnClose(c gnet.Conn, _ error) gnet.Action {
	if s, ok := c.Context().(*session); ok {
		g.loop.sessionEnded(s, g.loop.srv.opts.Now())
	}
	return gnet.None
}
