package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"slices"
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

	accepting  atomic.Bool                          // true between Start and Shutdown
	lame       atomic.Bool                          // clients are told to reconnect elsewhere; see LameDuck
	maxPayload int                                  // of a publish to a subject, in bytes
	greetings  [greetKinds]atomic.Pointer[greeting] // by kind

	listener  net.Listener
	admin     *admin
	loops     []*gnetLoop
	nextLoop  atomic.Uint64
	nextID    atomic.Uint64
	maxConns  atomic.Int64
	arrivals  atomic.Pointer[rate.Limiter] // of new connections; nil for any number
	fileLimit int64                        // open files that the process may have

	live  *subject.Index[live] // live subscriptions of all sessions
	verbs map[string]humanVerb

	policy   atomic.Pointer[auth.Policy]
	logins   chan struct{} // an element for each login that is being checked
	refusals chan struct{} // an element for each connection that is being told why it is turned away
	audit    *audit

	coordinator *coordinator // of the members of groups

	connections atomic.Int64
	unread      atomic.Int64 // bytes of output that peers have not read, about
	subBytes    atomic.Int64 // memory of subscriptions, about
	subLimit    int64        // of subBytes
	unfinished  atomic.Int64 // memory of large frames and commands that have not arrived whole
	leaseTurn   atomic.Uint64

	streamMu  sync.Mutex // guards the fields below
	streams   map[*loop]net.Conn
	strangers map[net.Conn]struct{} // not served by a loop yet
	stopping  bool
	enrolling sync.WaitGroup // connections that are being given to a loop; none is added once stopping is set

	tls        atomic.Pointer[tls.Config] // the current one; nil for no TLS
	tlsTimeout atomic.Int64               // nanoseconds that a new connection has to begin and finish TLS

	work    chan func()
	workers sync.WaitGroup // ends when work is closed
	wg      sync.WaitGroup // goroutines that accept, sweep, serve streams and check logins
	stop    chan struct{}
	begun   atomic.Bool // Start or Shutdown was called
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
		opts: o, id: id, subLimit: subLimit(), live: subject.NewIndex[live](), verbs: humanTable(), streams: map[*loop]net.Conn{}, strangers: map[net.Conn]struct{}{},
		work: make(chan func(), coldQueue), stop: make(chan struct{}),
		logins: make(chan struct{}, maxLogins), refusals: make(chan struct{}, maxRefusals), audit: newAudit(),
	}
	srv.coordinator = newCoordinator(srv)
	srv.policy.Store(o.Auth)
	srv.storeTLS(o.TLS.Config)
	srv.SetTLSTimeout(o.TLS.Timeout)
	return srv, nil
}

// ErrStarted is returned by Start when it was called before, or Shutdown was: make another Server.
var ErrStarted = errors.New("server: started or stopped before")

// Start opens the storage, recovers it and begins to serve. When it returns nil, the broker accepts connections. After an
// error nothing is left open. A Server starts once.
func (srv *Server) Start() (err error) {
	if srv.begun.Swap(true) {
		return ErrStarted
	}
	defer func() {
		if err != nil {
			srv.once.Do(func() { srv.stopErr = srv.release(context.Background()) })
			err = errors.Join(err, srv.stopErr)
		}
	}()
	srv.started = srv.opts.Now()
	raiseFileSize()
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
		RefuseState: partition.RefuseState, RefuseEntry: partition.RefuseEntry,
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
		srv.maxPayload = srv.registry.Defaults().MaxRecord
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
		return nil, wire.Errorf(wire.CodeLimit, "the broker has all the connections that it may have: %d", srv.maxConns.Load())
	}
	s := newSession(newLoop(srv), srv.nextID.Add(1))
	s.inProcess = true
	if !srv.goStream(ours, func() { srv.serveStream(ours, s) }) {
		return nil, net.ErrClosed
	}
	return theirs, nil
}

// allLoops returns every loop, including those of streams.
func (srv *Server) allLoops() []*loop {
	var loops []*loop
	for _, g := range srv.loops {
		loops = append(loops, g.loop)
	}
	srv.streamMu.Lock()
	defer srv.streamMu.Unlock()
	return slices.AppendSeq(loops, maps.Keys(srv.streams))
}

// postAll makes f run on every loop, including those of streams.
func (srv *Server) postAll(f func(l *loop, now time.Time)) {
	for _, l := range srv.allLoops() {
		l.post(jobFunc(func(now time.Time) { f(l, now) }))
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
			srv.postAll((*loop).sweep)
			srv.metrics.sample(srv.opts.Now())
		}
	}
}

// panicked counts and logs a panic that was recovered.
func (srv *Server) panicked(r any) {
	srv.metrics.panics.Add(1)
	srv.opts.Logger.Error("connection closed after a panic", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
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
	return wire.Errorf(wire.CodeOf(err), "%v", err)
}

// pickLoop returns the loop for the next connection: they take turns.
func (srv *Server) pickLoop() *gnetLoop {
	return srv.loops[srv.nextLoop.Add(1)%uint64(len(srv.loops))]
}
