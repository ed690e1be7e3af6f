package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Client is one login at one broker. It reconnects by itself. It is safe for concurrent use.
type Client struct {
	opts         Options
	endpoints    []endpoint
	nextEndpoint int // index of the endpoint to try next, modulo len(endpoints); only the session goroutine uses it after Dial
	buffers      bufferPool
	fetched      sync.Pool // slices of messages, *[]Message, of results that were released
	stalls       atomic.Uint64
	producer     producer

	ctx  context.Context    // ends when Close has flushed everything
	stop context.CancelFunc // ends ctx
	done chan struct{}      // closed when the session has ended
	runs sync.WaitGroup     // what Close waits for: runs, group consumers and listeners

	open     context.Context    // ends when Close begins, which makes runs end; a child of ctx
	stopOpen context.CancelFunc // ends open

	conn atomic.Pointer[conn] // the live connection, nil while there is none; set under mu

	mu        sync.Mutex    // guards the fields below
	changed   chan struct{} // closed and replaced when conn or err has changed
	err       error         // why the client has ended, or nil
	away      error         // how the last connection ended, or the last attempt to connect
	feeds     map[*feed]struct{}
	queues    map[*QueueConsumer]struct{}
	members   map[*membership]struct{}
	listeners map[*Listener]struct{}
	closing   bool // Close was called

	inbox inbox
}

// Dial connects to the first broker of addr that accepts the login. addr is a comma-separated list
// of "host:port", "rafka://user:password@host:port" or "rafka://token@host:port", with rafkas instead of rafka for TLS.
// The port is 4222 if there is none; "" is DefaultAddr. A scheme also holds for the addresses behind it that have none.
// In a password, special characters are written like %2C. Dial tries each broker once, within ctx and
// Options.RequestTimeout. When the connection is lost later, the client reconnects in the background.
func Dial(ctx context.Context, addr string, o Options) (*Client, error) {
	o = o.withDefaults()
	ends, err := parseAddr(addr, &o)
	if err == nil {
		err = o.validate()
	}
	if err != nil {
		return nil, err
	}
	c := &Client{
		opts: o, endpoints: ends, done: make(chan struct{}), changed: make(chan struct{}),
		feeds: map[*feed]struct{}{}, queues: map[*QueueConsumer]struct{}{}, members: map[*membership]struct{}{},
		listeners: map[*Listener]struct{}{}, inbox: inbox{starting: newGate()},
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.open, c.stopOpen = context.WithCancel(c.ctx)
	c.producer.init(c)
	cn, _, err := c.connect(ctx)
	if err != nil {
		c.stop()
		return nil, err
	}
	c.up(cn)
	go c.session(cn)
	return c, nil
}

// Server describes the broker that the client is logged in to. up is false, and the description
// empty, while there is no connection.
func (c *Client) Server() (s Server, up bool) {
	cn := c.conn.Load()
	if cn == nil {
		return Server{}, false
	}
	return cn.server, true
}

// Close ends the client. It does the following, in order:
//
//   - stops every Run and Listener, and waits for their handlers;
//   - settles and commits what was handled;
//   - refuses further publishes and sends to subjects, sends what was published, and waits for the answers;
//   - waits until the broker has received what was sent to subjects;
//   - closes the connection.
//
// When ctx ends first, the rest is dropped: publishes without an answer end with an error, and
// Close returns the context's error. So without a broker, Close waits for one until ctx ends if
// messages are not sent yet. A second call waits for the same; when its context ends first, that also
// drops the rest for the first call. A program that ends by a signal gives Close a context of its own: one that the
// signal has ended drops everything that is not sent. A handler must not call Close.
//
// When Close returns nil, the broker has received every message to a subject that was sent on the
// current connection. An error leaves open which of them it has received. For those on a
// connection that was lost before, nothing tells it: see Send.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.stopOpen()
	err := c.finish(ctx)
	c.stop()
	<-c.done
	return err
}

// finish does what Close promises to do before it closes the connection.
func (c *Client) finish(ctx context.Context) error {
	ran := make(chan struct{})
	go func() {
		c.runs.Wait()
		close(ran)
	}()
	select {
	case <-ran:
	case <-ctx.Done():
		c.stop() // ends the handlers' contexts; their runs end when they return
		return context.Cause(ctx)
	}
	select {
	case <-c.done: // nothing can be sent any more
		return nil
	default:
	}
	c.producer.refuse() // not earlier: handlers publish, too
	err := c.flushQueues(ctx)
	return errors.Join(err, c.Flush(ctx), c.flushSent(ctx))
}

// session serves connection after connection, until the client ends.
func (c *Client) session(cn *conn) {
	defer close(c.done)
	for cn != nil {
		live := cn // the function may run when cn is the next connection already
		stop := context.AfterFunc(c.ctx, func() { live.fail(ErrClosed) })
		err := live.serve()
		stop()
		c.down(err)
		cn = c.redial()
	}
	c.end()
}

// up makes cn the live connection, and resumes on it what outlives connections.
func (c *Client) up(cn *conn) {
	c.opts.Logger.Info("connected", "node", cn.server.Addr)
	c.mu.Lock()
	c.conn.Store(cn)
	c.changeLocked()
	feeds := slices.Collect(maps.Keys(c.feeds))
	listeners := slices.Collect(maps.Keys(c.listeners))
	members := slices.Collect(maps.Keys(c.members))
	c.mu.Unlock()
	for _, l := range listeners {
		l.resume(cn)
	}
	for _, m := range members {
		m.resume(cn)
	}
	if c.opts.OnConnect != nil {
		c.opts.OnConnect(cn.server)
	}
	c.producer.rebind(cn)
	for _, f := range feeds {
		f.resume(cn)
	}
}

// down removes the live connection, which ended with err.
func (c *Client) down(err error) {
	c.mu.Lock()
	c.conn.Store(nil)
	c.away = err
	c.changeLocked()
	members := slices.Collect(maps.Keys(c.members))
	c.mu.Unlock()
	for _, q := range c.openQueues() {
		q.onLost()
	}
	for _, m := range members {
		time.AfterFunc(lostTime, m.hold)
	}
	if c.ctx.Err() != nil {
		return
	}
	c.opts.Logger.Warn("disconnected", "err", err)
	if c.opts.OnDisconnect != nil {
		c.opts.OnDisconnect(err)
	}
}

// changeLocked wakes those who wait for a change of conn or err.
func (c *Client) changeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// redial connects again, after pauses that grow from ReconnectMin to ReconnectMax. It returns nil
// when the client ends: by Close, or because no login can succeed.
func (c *Client) redial() *conn {
	for pause := c.opts.ReconnectMin; ; pause = min(2*pause, c.opts.ReconnectMax) {
		if sleep(c.ctx, jitter(pause)) != nil {
			return nil
		}
		cn, isPermanent, err := c.connect(c.ctx)
		if err == nil {
			c.up(cn)
			return cn
		}
		if c.ctx.Err() != nil {
			return nil
		}
		c.mu.Lock()
		c.away = err
		if isPermanent {
			c.err = err
		}
		c.mu.Unlock()
		c.report(err)
		if isPermanent {
			return nil
		}
	}
}

// jitter returns a random duration from half of d to d, so that many clients do not come back at
// once.
func jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}

// end ends everything that waits. There will be no further connection.
func (c *Client) end() {
	c.stop()
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrClosed
	}
	err := c.err
	c.changeLocked()
	feeds := c.feeds
	c.feeds = map[*feed]struct{}{}
	listeners := slices.Collect(maps.Keys(c.listeners))
	members := slices.Collect(maps.Keys(c.members))
	c.mu.Unlock()
	for _, l := range listeners {
		l.end(err)
	}
	for _, m := range members {
		m.failed(err)
	}
	for f := range feeds {
		f.end(err)
	}
	for _, q := range c.openQueues() {
		q.fail(err)
		q.wg.Wait()
	}
	c.producer.end(err)
}

// live returns the live connection. While there is none, it waits for one. When ctx ends first, the error says why
// there is none, too.
func (c *Client) live(ctx context.Context) (*conn, error) {
	if cn := c.conn.Load(); cn != nil {
		return cn, nil
	}
	for {
		c.mu.Lock()
		cn, changed, err, away := c.conn.Load(), c.changed, c.err, c.away
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if cn != nil {
			return cn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no connection (%v): %w", away, context.Cause(ctx)) //nolint:errorlint // ctx is why it ended
		}
	}
}

// report reports a failure that no call returns.
func (c *Client) report(err error) {
	c.opts.Logger.Warn("background failure", "err", err)
	if c.opts.OnError != nil {
		c.opts.OnError(err)
	}
}

// Stalls returns how often a request was not answered in time; see Options.OnStall.
func (c *Client) Stalls() uint64 { return c.stalls.Load() }

func (c *Client) stalled(s Stall) {
	c.stalls.Add(1)
	c.opts.Logger.Warn("stalled", "op", s.What, "took", s.For)
	if c.opts.OnStall != nil {
		c.opts.OnStall(s)
	}
}

// pauser spaces attempts: each pause is twice the previous one, up to a second, with jitter.
type pauser struct {
	next time.Duration
}

func newPauser() pauser { return pauser{next: 5 * time.Millisecond} }

// step returns the next pause.
func (p *pauser) step() time.Duration {
	d := jitter(p.next)
	p.next = min(2*p.next, time.Second)
	return d
}

// wait pauses. It returns the cause of ctx when that ends first.
func (p *pauser) wait(ctx context.Context) error {
	return sleep(ctx, p.step())
}

// sleep pauses for d. It returns the cause of ctx when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// bounded adds the request timeout to a context without a deadline.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.opts.RequestTimeout, fmt.Errorf("no answer within %v: %w", c.opts.RequestTimeout, context.DeadlineExceeded))
}
