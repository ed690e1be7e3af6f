package server

import (
	"context"
	"time"

	"github.com/rafka-mq/rafka/wire"
)

// LameDuck closes the broker's connections gradually. It refuses new ones and tells clients to reconnect elsewhere. After
// grace it closes the remaining connections one after another over the given duration; they are served until then. It
// returns when none is left, or when ctx ends. Call Shutdown next.
func (srv *Server) LameDuck(ctx context.Context, grace, over time.Duration) {
	srv.opts.Logger.Info("lame duck mode", "connections", srv.connections.Load(), "grace", grace, "took", over)
	srv.accepting.Store(false)
	if srv.listener != nil {
		_ = srv.listener.Close() // accept ends
	}
	srv.lame.Store(true)
	srv.postAll(func(l *loop, _ time.Time) {
		for s := range l.sessions {
			if s.proto != nil {
				s.proto.lame(grace)
			}
		}
	})
	if !pause(ctx, grace) {
		return
	}
	n := srv.connections.Load()
	if n == 0 {
		return
	}
	srv.closeEach(ctx, over/time.Duration(n))
}

// closeEach closes connections in intervals until none is left, or ctx ends. The loops take turns: there is one for each TLS
// connection.
func (srv *Server) closeEach(ctx context.Context, interval time.Duration) {
	for srv.connections.Load() > 0 {
		owed := drainPoll // also when those that are left are closing
		for _, l := range srv.allLoops() {
			owed += interval * time.Duration(onEach(ctx, []*loop{l}, (*loop).closeOne))
			if owed < drainPoll {
				continue
			}
			if !pause(ctx, owed) {
				return
			}
			owed = 0
		}
	}
}

// closeOne closes a session, and returns how many it found.
func (l *loop) closeOne(time.Time) int {
	for s := range l.sessions {
		if !s.closed {
			s.close()
			return 1
		}
	}
	return 0
}

// pause waits for d, and returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lame tells the peer to reconnect elsewhere. Requests that wait for records keep waiting.
func (b *binary) lame(grace time.Duration) {
	b.notice(wire.CodeShutdown, grace, "the broker is going away")
}

// lame tells a program to reconnect elsewhere. It tells people nothing.
func (t *text) lame(time.Duration) {
	if t.async {
		out := t.s.buffer()
		out.B = t.s.loop.srv.appendInfo(out.B, t.s, t.s.t)
	}
}
