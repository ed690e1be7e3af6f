package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"golang.org/x/time/rate"

	"github.com/rafka-mq/rafka/auth"
	"github.com/rafka-mq/rafka/log"
	"github.com/rafka-mq/rafka/partition"
	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// Server is one broker.
type Server struct {
	opts     Options
	id       [16]byte
	store    *log.Store
	registry *partition.Registry
	metrics  metrics
	started  time.Time

	accepting    atomic.Bool                          // true between Start and Shutdown
	lame         atomic.Bool                          // clients are told to reconnect elsewhere; see LameDuck
	payloadLimit int                                  // of a text publish, in bytes
	greetings    [greetKinds]atomic.Pointer[greeting] // by kind

	listener  net.Listener
	admin     *admin
	loops     []*gnetLoop
	nextLoop  atomic.Uint64
	nextID    atomic.Uint64
	maxConns  atomic.Int64
	arrivals  atomic.Pointer[rate.Limiter] // of new connections; nil for any number
	fileLimit int64                        // open files that the process may have

	live  *subject.Index[live] // subscriptions of text sessions
	verbs map[string]humanVerb

	policy   atomic.Pointer[auth.Policy]
	logins   chan struct{}  // an element for each login that is being checked
	refusals chan struct{}  // an element for each connection that is being told why it is turned away
	audit    rate.Sometimes // bounds the log lines about logins, permissions and connections turned away

	coordinator *coordinator // of the members of groups

	connections atomic.Int64
	leaseTurn   atomic.Uint64

	streamMu  sync.Mutex // guards the fields below
	streams   map[*loop]net.Conn
	strangers map[net.Conn]struct{} // not served by a loop yet
	stopping  bool

	tls atomic.Pointer[tls.Config] // the current one; nil for no TLS

	work    chan func()
	workers sync.WaitGroup // ends when work is closed
	wg      sync.WaitGroup // accept, sweep and stream goroutines
	stop    chan struct{}
	once    sync.Once
	stopErr error
}

// New checks the options and returns a server that is not started. It opens no files or sockets.
func New(o Options) (*Server, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("server: make an id: %w", err)
	}
	srv := &Server{
		opts: o, id: id, live: subject.NewIndex[live](), verbs: humanTable(), streams: map[*loop]net.Conn{}, strangers: map[net.Conn]struct{}{},
		work: make(chan func(), coldQueue), stop: make(chan struct{}),
		logins: make(chan struct{}, maxLogins), refusals: make(chan struct{}, maxRefusals), audit: rate.Sometimes{First: 20, Interval: time.Second},
	}
	srv.coordinator = newCoordinator(srv)
	srv.policy.Store(o.Auth)
	srv.tls.Store(o.TLS.Config)
	return srv, nil
}

// Start opens the storage, recovers it and begins to serve. When it returns nil, the broker accepts connections. After an
// error nothing is left open.
func (srv *Server) Start() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, srv.release(context.Background()))
		}
	}()
	srv.started = srv.opts.Now()
	if err := srv.openStorage(); err != nil {
		return err
	}
	srv.wg.Go(srv.coordinator.run)
	for range coldReaders {
		srv.workers.Go(srv.runWorker)
	}
	for range srv.opts.Loops {
		g, err := startGnetLoop(srv)
		if err != nil {
			return fmt.Errorf("start event loop: %w", err)
		}
		srv.loops = append(srv.loops, g)
	}
	if srv.admin, err = startAdmin(srv); err != nil {
		return err
	}
	if err := srv.listen(); err != nil {
		return err
	}
	srv.wg.Go(srv.sweep)
	srv.accepting.Store(true)
	srv.opts.Logger.Info("broker started", "took", time.Since(srv.started), "addr", srv.addrString(), "dir", srv.opts.Dir)
	return nil
}

func (srv *Server) openStorage() (err error) {
	srv.store, err = log.Open(log.Options{
		Dir: srv.opts.Dir, FS: timeSyncs(srv.opts.FS, &srv.metrics.fsync), Now: srv.opts.Now, Logger: srv.opts.Logger, MemoryBytes: srv.opts.MemoryBytes,
	})
	if err != nil {
		return err
	}
	srv.registry, err = partition.Open(srv.store, srv.opts.Dir != "", partition.Options{
		Defaults: srv.opts.Topics, Partitions: srv.opts.Partitions,
		Own: srv.opts.OwnPartition, Total: srv.opts.TotalPartitions,
		Now: srv.opts.Now, Logger: srv.opts.Logger, MaxScheduled: srv.opts.MaxScheduled, Fired: srv.fired,
	})
	if err == nil {
		srv.payloadLimit = srv.registry.Defaults().MaxRecord
	}
	return err
}

// Addr returns the address that clients connect to, or nil when no socket is open.
func (srv *Server) Addr() net.Addr {
	if srv.listener == nil {
		return nil
	}
	return srv.listener.Addr()
}

// AdminAddr returns the address of the admin HTTP server, or nil when there is none.
func (srv *Server) AdminAddr() net.Addr {
	if srv.admin == nil {
		return nil
	}
	return srv.admin.listener.Addr()
}

func (srv *Server) addrString() string {
	if a := srv.Addr(); a != nil {
		return a.String()
	}
	return off
}

// Dial returns a connection to the broker within the process: the same protocols without a socket. A client can use it as
// its dialer.
func (srv *Server) Dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	if !srv.admit() {
		return nil, wire.Errorf(wire.CodeLimit, "the broker has %d connections, its limit", srv.maxConns.Load())
	}
	s := newSession(newLoop(srv), srv.nextID.Add(1))
	s.inProcess = true
	if !srv.goStream(ours, func() { srv.serveStream(ours, s) }) {
		return nil, net.ErrClosed
	}
	return theirs, nil
}

// goStream serves conn on a goroutine unless the server is stopping.
func (srv *Server) goStream(conn net.Conn, serve func()) bool {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	if srv.stopping {
		srv.connections.Add(-1)
		_ = conn.Close()
		return false
	}
	srv.strangers[conn] = struct{}{}
	srv.wg.Go(serve)
	return true
}

// known notes that a loop serves conn now, so that Shutdown need not close it itself.
func (srv *Server) known(conn net.Conn) {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.strangers, conn)
}

func (srv *Server) addStreamLoop(l *loop, conn net.Conn) bool {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.strangers, conn)
	if srv.stopping {
		srv.connections.Add(-1)
		return false
	}
	srv.streams[l] = conn
	return true
}

func (srv *Server) removeStreamLoop(l *loop) {
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	delete(srv.streams, l)
}

// eachLoop calls f with every loop, including those of streams.
func (srv *Server) eachLoop(f func(l *loop)) {
	for _, g := range srv.loops {
		f(g.loop)
	}
	srv.streamMu.Lock()
	streams := make([]*loop, 0, len(srv.streams))
	for l := range srv.streams {
		streams = append(streams, l)
	}
	srv.streamMu.Unlock()
	for _, l := range streams {
		f(l)
	}
}

// sweepInterval returns how often timeouts are checked: at least once a second, and more often when a timeout is shorter.
func (o *Options) sweepInterval() time.Duration {
	return min(time.Second, o.AuthTimeout, max(time.Millisecond, o.PingInterval/5), o.HandshakeTimeout, o.IdleTimeout, o.SlowTimeout)
}

func (srv *Server) sweep() {
	tick := time.NewTicker(srv.opts.sweepInterval())
	defer tick.Stop()
	srv.metrics.sample(srv.opts.Now())
	for {
		select {
		case <-srv.stop:
			return
		case <-tick.C:
			srv.eachLoop(func(l *loop) { l.post(jobFunc(l.sweep)) })
			srv.metrics.sample(srv.opts.Now())
		}
	}
}

// panicked counts and logs a panic that was recovered.
func (srv *Server) panicked(r any) {
	srv.metrics.panics.Add(1)
	srv.opts.Logger.Error("connection closed after a panic", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// Shutdown stops the broker: it refuses new connections and requests, tells the clients, sends the acknowledgements that
// wait for the disk, closes the connections and flushes the storage. When ctx ends first, it closes at once; acknowledged
// messages are safe in any case. Further calls return the result of the first.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.once.Do(func() {
		srv.opts.Logger.Info("broker stopping")
		srv.stopErr = srv.release(ctx)
	})
	return srv.stopErr
}

// drainPoll is how often a drain checks whether all acknowledgements are sent.
const drainPoll = 2 * time.Millisecond

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

// drain tells every session and waits until no acknowledgement waits for the disk.
func (srv *Server) drain(ctx context.Context) {
	grace := time.Second
	if at, ok := ctx.Deadline(); ok {
		grace = max(0, time.Until(at))
	}
	for pending := srv.onLoops(ctx, func(l *loop, now time.Time) int { return l.drainSessions(grace, now) }); pending > 0; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainPoll):
		}
		pending = srv.onLoops(ctx, func(l *loop, _ time.Time) int { return l.pending })
	}
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
	results, n := make(chan int, 64), 0
	srv.eachLoop(func(l *loop) {
		if !l.running() {
			return
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
	})
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

// asWireError returns err as a *wire.Error, the only error that crosses the network. It is the only such mapping.
func asWireError(err error) *wire.Error {
	if err == nil {
		return nil
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	if c := wire.CodeOf(err); c != wire.CodeInternal {
		return wire.Errorf(c, "%v", err)
	}
	return wire.Errorf(wire.CodeInternal, "%v", err)
}

// turn returns the loop for the next connection: they take turns.
func (srv *Server) turn() *gnetLoop {
	return srv.loops[srv.nextLoop.Add(1)%uint64(len(srv.loops))]
}
