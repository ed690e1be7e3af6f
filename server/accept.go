package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rafka-mq/rafka/internal/loopback"
	"github.com/rafka-mq/rafka/wire"
)

// listen opens the socket for clients and starts to accept.
func (srv *Server) listen() error {
	srv.fileLimit = raiseFileLimit()
	srv.SetMaxConnections(srv.opts.MaxConnections)
	srv.SetMaxConnectionRate(srv.opts.MaxConnectionRate)
	if srv.opts.Listen == off {
		return nil
	}
	set := net.ListenConfig{Control: loopback.Control}
	l, err := set.Listen(context.Background(), "tcp", srv.opts.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	srv.listener = l
	srv.wg.Go(func() { srv.accept(l) })
	return nil
}

// SetMaxConnections changes the limit of open connections. 0 means what the limit of open files allows. When more
// are open, the newest are closed.
func (srv *Server) SetMaxConnections(n int) {
	limit := int64(n)
	if limit == 0 {
		limit = min(65536, max(16, srv.fileLimit-fdReserve))
	}
	if files := srv.fileLimit; int64(n) > files-fdReserve {
		srv.opts.Logger.Warn("more connections are allowed than there may be open files: raise the limit of the process (ulimit -n, LimitNOFILE of systemd)",
			"connections", n, "files", files, "reserved", fdReserve)
	}
	srv.maxConns.Store(limit)
	if over := srv.connections.Load() - limit; over > 0 {
		srv.closeNewest(int(over))
	}
}

// SetMaxConnectionRate changes the limit of new connections per second. 0 means no limit.
func (srv *Server) SetMaxConnectionRate(n int) {
	if n == 0 {
		srv.arrivals.Store(nil)
		return
	}
	srv.arrivals.Store(rate.NewLimiter(rate.Limit(n), n))
}

// closeNewest closes the n newest connections, without those of event loops that are too busy to answer.
func (srv *Server) closeNewest(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), connWait)
	defer cancel()
	var mu sync.Mutex // guards ids, to which a late loop may still add
	var ids []uint64
	srv.onLoops(ctx, func(l *loop, _ time.Time) int {
		mu.Lock()
		defer mu.Unlock()
		for s := range l.sessions {
			if !s.closed {
				ids = append(ids, s.id)
			}
		}
		return 0
	})
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(ids)
	if len(ids) > 0 {
		from := ids[max(0, len(ids)-n)]
		srv.postAll(func(l *loop, _ time.Time) { l.closeFrom(from) })
	}
}

// closeFrom closes the loop's sessions with ids from one on.
func (l *loop) closeFrom(id uint64) {
	for s := range l.sessions {
		if s.id >= id && !s.closed {
			l.srv.metrics.refused.Add(1)
			s.expel(errTooManyConns, wire.Errorf(wire.CodeLimit, errTooManyConns))
		}
	}
}

// Errors for connections that are turned away, in the words of nats-server.
const (
	errTooManyConns = "maximum connections exceeded" // NATS clients compare errors with this one
	errThrottled    = "Connection throttling is active. Please try again later."
)

// admit counts a new connection, and reports whether there is room for it.
func (srv *Server) admit() bool {
	if srv.connections.Add(1) <= srv.maxConns.Load() {
		return true
	}
	srv.connections.Add(-1)
	srv.metrics.refused.Add(1)
	return false
}

// throttle reports whether a new connection exceeds the limit per second.
func (srv *Server) throttle() bool {
	arrivals := srv.arrivals.Load()
	if arrivals == nil || arrivals.AllowN(srv.opts.Now(), 1) {
		return false
	}
	srv.metrics.throttled.Add(1)
	return true
}

// accept accepts connections until the listener closes. It tries again after an error, such as a lack of file
// descriptors; open connections are not affected.
func (srv *Server) accept(l net.Listener) {
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			srv.metrics.acceptErrors.Add(1)
			srv.opts.Logger.Warn("accept connection", "err", err)
			select {
			case <-srv.stop:
				return
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		srv.enrol(conn)
	}
}

// refuseTimeout is how long a refused connection may take to read the reason.
const refuseTimeout = 100 * time.Millisecond

// enrol gives a connection to a loop, or turns it away.
func (srv *Server) enrol(conn net.Conn) {
	if srv.throttle() {
		srv.turnAway(conn, errThrottled)
		return
	}
	if !srv.admit() {
		srv.turnAway(conn, errTooManyConns)
		return
	}
	loopback.Accepted(conn)
	g := srv.pickLoop()
	s := newSession(g.loop, srv.nextID.Add(1))
	if srv.opts.TLS.Config != nil {
		srv.goStream(conn, func() { srv.secure(conn, s, g) })
		return
	}
	srv.enrolIn(g, conn, s)
}

// maxRefusals bounds the connections that are being told why they are turned away. Others are just closed.
const maxRefusals = 64

// turnAway tells a connection why it is refused, and closes it. It reads what the peer sends meanwhile, because closing a
// socket with unread input could discard the answer.
func (srv *Server) turnAway(conn net.Conn, refusal string) {
	srv.audit.turnedAway.Do(func() {
		srv.opts.Logger.Warn("connection turned away", "addr", conn.RemoteAddr(), "err", refusal)
	})
	select {
	case srv.refusals <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	srv.wg.Go(func() {
		defer func() { <-srv.refusals }()
		_ = conn.SetDeadline(time.Now().Add(refuseTimeout))
		_, err := conn.Write(append(srv.appendInfo(nil, &session{}, conn), "-ERR '"+refusal+"'\r\n"...))
		for buf := make([]byte, 4096); err == nil; {
			_, err = conn.Read(buf)
		}
		_ = conn.Close()
	})
}

// beginEnrol returns false when the server is stopping: a loop that has stopped would never answer. Otherwise the caller
// calls enrolling.Done afterwards.
func (srv *Server) beginEnrol() bool {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	if srv.stopping {
		return false
	}
	srv.enrolling.Add(1)
	return true
}

// enrolIn gives a connection to the loop g.
func (srv *Server) enrolIn(g *gnetLoop, conn net.Conn, s *session) {
	if !srv.beginEnrol() {
		srv.connections.Add(-1)
		_ = conn.Close()
		return
	}
	defer srv.enrolling.Done()
	if _, err := g.client.EnrollContext(conn, s); err != nil {
		srv.connections.Add(-1)
		srv.metrics.acceptErrors.Add(1)
		srv.opts.Logger.Warn("enrol connection", "err", err)
		_ = conn.Close()
	}
}
