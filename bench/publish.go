package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// Publish publishes from l.Clients connections, waits for every acknowledgement, and returns the rate. It
// returns latencies only for an open loop: see Load.Rate.
func Publish(ctx context.Context, l Load) (Result, error) {
	l.setDefaults()
	return newPublishing(&l).result(ctx, "publish")
}

// RoundTrip publishes one message after the other from each of l.Clients connections, and returns the
// latencies from publish to acknowledgement. By default it publishes 10,000. With a Rate it is an open loop
// like Publish.
func RoundTrip(ctx context.Context, l Load) (Result, error) {
	if l.Messages == 0 && l.Duration == 0 {
		l.Messages = 10_000
	}
	l.setDefaults()
	p := newPublishing(&l)
	p.single = l.Rate == 0
	return p.result(ctx, "latency")
}

// Durable publishes at level disk from l.Clients connections, default 16, each with one message in
// flight, and returns the rate and the latencies. By default it takes 5 seconds.
func Durable(ctx context.Context, l Load) (Result, error) {
	if l.Messages == 0 && l.Duration == 0 {
		l.Duration = 5 * time.Second
	}
	if l.Clients == 0 {
		l.Clients = 16
	}
	l.Level, l.Rate = wire.LevelDisk, 0
	l.setDefaults()
	p := newPublishing(&l)
	p.single = true
	return p.result(ctx, "durable publish")
}

// publishing is the state of a load that publishes.
type publishing struct {
	l      *Load
	single bool                  // each client waits for an acknowledgement before it sends the next message
	acked  []paddedCount         // messages, by client
	sent   []paddedCount         // messages, by client
	late   atomic.Uint64         // messages sent over a millisecond after they were due
	rec    *recorder             // not used by closed loops with many messages in flight: it would measure the client's own queue
	fail   atomic.Pointer[error] // the first error, or nil
}

// paddedCount is a counter with a cache line of its own: on a shared one, the goroutines that send and
// receive would slow each other down.
type paddedCount struct {
	n atomic.Uint64
	_ [56]byte
}

func total(counts []paddedCount) (n uint64) {
	for i := range counts {
		n += counts[i].n.Load()
	}
	return n
}

func newPublishing(l *Load) *publishing {
	return &publishing{
		l: l, rec: newRecorder(), acked: make([]paddedCount, l.Clients), sent: make([]paddedCount, l.Clients),
	}
}

// unhurried reports whether a message takes so long that looking at the clock before each costs nothing.
func (p *publishing) unhurried() bool { return p.single || p.l.Rate > 0 }

// result runs the load and returns what it did.
func (p *publishing) result(ctx context.Context, what string) (Result, error) {
	took, err := p.run(ctx)
	r := newResult(what, total(p.acked), p.l.Size, took)
	if p.unhurried() {
		r.Latency = p.rec.latency()
	}
	r.Late = p.late.Load()
	return r, err
}

// run publishes and returns the time until the last acknowledgement.
func (p *publishing) run(ctx context.Context) (time.Duration, error) {
	clients := make([]*client.Client, p.l.Clients)
	for i := range clients {
		c, err := p.l.connect(ctx)
		if err != nil {
			return 0, err
		}
		clients[i] = c
		defer func() { _ = c.Close(ctx) }() // publish has flushed it
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			if err := p.publish(ctx, c, i, start); err != nil {
				p.recordError(err)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	p.l.Progress(1)
	if f := p.fail.Load(); f != nil {
		return took, *f
	}
	if sent, acked := total(p.sent), total(p.acked); acked != sent {
		return took, fmt.Errorf("%d messages were sent, but %d acknowledged", sent, acked)
	}
	return took, nil
}

// publish publishes one client's share of the messages and waits for their acknowledgements.
func (p *publishing) publish(ctx context.Context, c *client.Client, worker int, start time.Time) error {
	m := &client.Message{Topic: p.l.Topic, Value: make([]byte, p.l.Size), Delay: p.l.Delay}
	keys := make([][]byte, p.l.Keys)
	for i := range keys {
		keys[i] = fmt.Append(nil, "key-", i)
	}
	done := func(_ client.Receipt, err error) {
		if err != nil {
			p.recordError(err)
			return
		}
		p.acked[worker].n.Add(1)
	}
	share := p.l.Messages / p.l.Clients
	if worker < p.l.Messages%p.l.Clients {
		share++
	}
	for n := 0; !p.over(n, share, start) && p.fail.Load() == nil; n++ {
		if worker == 0 && (n%8192 == 0 || n%64 == 0 && p.unhurried()) {
			p.progress(n, share, start)
		}
		if len(keys) > 0 {
			m.Key = keys[n%len(keys)]
		}
		if err := p.send(ctx, c, m, n, start, done); err != nil {
			return err
		}
		p.sent[worker].n.Add(1)
	}
	return c.Flush(ctx)
}

// send publishes the n-th message of a client. It waits for the acknowledgement if p.single.
func (p *publishing) send(ctx context.Context, c *client.Client, m *client.Message, n int, start time.Time, done func(client.Receipt, error)) error {
	switch {
	case p.single:
		at := time.Now()
		r, err := c.Publish(ctx, m)
		p.rec.record(time.Since(at))
		done(r, err)
		return err
	case p.l.Rate > 0:
		due, err := p.wait(ctx, n, start)
		if err != nil {
			return err
		}
		done = p.timed(due, done)
	}
	return c.PublishAsync(ctx, m, done)
}

// over reports whether a client that has sent n messages is to send no more.
func (p *publishing) over(n, share int, start time.Time) bool {
	switch {
	case p.l.Duration == 0:
		return n >= share
	case p.l.Rate > 0 && p.due(n, start).Sub(start) >= p.l.Duration:
		return true
	default:
		return (n%64 == 0 || p.unhurried()) && time.Since(start) >= p.l.Duration
	}
}

// recordError keeps the first error. It is a function of its own because it moves err to the heap, which
// a message without an error should not pay for.
func (p *publishing) recordError(err error) { p.fail.CompareAndSwap(nil, &err) }

// progress reports the share of the first client, which stands for all.
func (p *publishing) progress(n, share int, start time.Time) {
	if p.l.Duration > 0 {
		p.l.Progress(min(1, time.Since(start).Seconds()/p.l.Duration.Seconds()))
		return
	}
	p.l.Progress(float64(n) / float64(share))
}

// due returns when the n-th message of a client of an open loop is to be sent.
func (p *publishing) due(n int, start time.Time) time.Time {
	return start.Add(time.Duration(float64(n) * float64(p.l.Clients) / float64(p.l.Rate) * float64(time.Second)))
}

// farAhead is how long before a message is due waiting for it can be interrupted. A sleep is cheaper, and so short that
// nobody notices.
const farAhead = 100 * time.Millisecond

// wait sleeps until the n-th message of a client is due, and returns when that was. It fails when ctx ends.
func (p *publishing) wait(ctx context.Context, n int, start time.Time) (time.Time, error) {
	due := p.due(n, start)
	switch ahead := time.Until(due); {
	case ahead > farAhead:
		select {
		case <-ctx.Done():
			return due, ctx.Err()
		case <-time.After(ahead):
		}
	case ahead > 0:
		time.Sleep(ahead)
	case ahead < -time.Millisecond:
		p.late.Add(1)
	}
	return due, nil
}

// timed returns a callback that records the latency from due, then calls done.
func (p *publishing) timed(due time.Time, done func(client.Receipt, error)) func(client.Receipt, error) {
	return func(r client.Receipt, err error) {
		p.rec.record(time.Since(due))
		done(r, err)
	}
}
