package server

import (
	"context"
	"errors"
	"net"
	"time"
)

// Shutdown stops the broker: it refuses new connections and requests, tells the clients, sends the acknowledgements that
// wait for the disk, closes the connections and flushes the storage. When ctx ends first, it closes at once; acknowledged
// messages are safe in any case. Further calls return the result of the first. A broker that did not start has nothing
// to stop.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.once.Do(func() {
		if !srv.begun.Swap(true) {
			return
		}
		srv.opts.Logger.Info("broker stopping")
		srv.stopErr = srv.release(ctx)
	})
	return srv.stopErr
}

// drainPoll is how often a drain checks whether all acknowledgements are sent.
const drainPoll = 2 * time.Millisecond

// fullPatience is how long a drain goes on without progress when the disk is full. What waits then is not answered: the
// storage tries once more when it is closed, and a client that numbers its messages sends them again.
const fullPatience = time.Second

func (srv *Server) release(ctx context.Context) error {
	srv.accepting.Store(false)
	close(srv.stop)
	srv.streamMu.Lock()
	srv.stopping = true
	for conn := range srv.strangers {
		_ = conn.Close()
	}
	srv.streamMu.Unlock()
	var errs []error
	if srv.listener != nil {
		errs = append(errs, ignoreClosed(srv.listener.Close()))
	}
	srv.enrolling.Wait() // while the loops run
	if srv.registry != nil {
		srv.drain(ctx)
	}
	srv.closeSessions(ctx)
	srv.coordinator.stop()
	for _, g := range srv.loops {
		errs = append(errs, g.stop())
	}
	srv.wg.Wait()
	close(srv.work)
	srv.workers.Wait()
	if srv.admin != nil {
		errs = append(errs, srv.admin.close())
	}
	if srv.registry != nil {
		srv.registry.Close()
	}
	if srv.store != nil {
		errs = append(errs, srv.store.Close())
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// drain tells every session and waits until no acknowledgement waits for the disk and no change is with the workers, or only
// those do that wait for space.
func (srv *Server) drain(ctx context.Context) {
	grace := time.Second
	if at, ok := ctx.Deadline(); ok {
		grace = max(0, time.Until(at))
	}
	pending := srv.onLoops(ctx, func(l *loop, now time.Time) int { return l.drainSessions(grace, now) })
	for least, since := pending, time.Now(); pending > 0; {
		if srv.store.Stats().Full && time.Since(since) > fullPatience {
			srv.opts.Logger.Warn("the disk is full: requests stay unanswered", "requests", pending)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainPoll):
		}
		pending = srv.onLoops(ctx, func(l *loop, _ time.Time) int { return l.unanswered() })
		if pending < least {
			least, since = pending, time.Now()
		}
	}
	srv.part(ctx)
}

// partTime is how long a stop waits for consumers that have more to commit or acknowledge. The Go client closes its
// connection when that is done.
const partTime = 250 * time.Millisecond

// part waits until members of groups and workers of queues have left.
func (srv *Server) part(ctx context.Context) {
	for until := time.Now().Add(partTime); time.Now().Before(until); {
		if srv.onLoops(ctx, func(l *loop, _ time.Time) int { return l.consumers() }) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainPoll):
		}
	}
}

// consumers returns how many sessions have members of groups, or have leased from queues.
func (l *loop) consumers() (n int) {
	for s := range l.sessions {
		if b, ok := s.proto.(*binary); ok && len(b.seats)+len(b.leases) > 0 {
			n++
		}
	}
	return n
}

// closeSessions closes every connection and waits until the sessions are gone.
func (srv *Server) closeSessions(ctx context.Context) {
	for left := 1; left > 0; {
		left = srv.onLoops(ctx, func(l *loop, now time.Time) int {
			l.closeAll(now)
			return len(l.sessions)
		})
		select {
		case <-ctx.Done():
			srv.closeStreams()
			return
		case <-time.After(drainPoll):
		}
	}
}

// DropConnections closes every open connection. New ones are accepted.
func (srv *Server) DropConnections(ctx context.Context) {
	srv.onLoops(ctx, func(l *loop, now time.Time) int {
		l.closeAll(now)
		return 0
	})
}

// closeStreams closes connections whose loop is stuck in a write.
func (srv *Server) closeStreams() {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	for _, conn := range srv.streams {
		_ = conn.Close()
	}
}

// onLoops runs f on every loop that has had a connection and returns the sum of what they return.
func (srv *Server) onLoops(ctx context.Context, f func(l *loop, now time.Time) int) int {
	return onEach(ctx, srv.allLoops(), f)
}

// onEach is onLoops for some loops.
func onEach(ctx context.Context, loops []*loop, f func(l *loop, now time.Time) int) int {
	results, n := make(chan int, 64), 0
	for _, l := range loops {
		if !l.running() {
			continue
		}
		posted := l.post(jobFunc(func(now time.Time) {
			r := f(l, now)
			select {
			case results <- r:
			case <-ctx.Done():
			}
		}))
		if posted {
			n++
		}
	}
	sum := 0
	for range n {
		select {
		case r := <-results:
			sum += r
		case <-ctx.Done():
			return sum
		}
	}
	return sum
}
