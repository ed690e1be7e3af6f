package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// Load describes a benchmark of a running broker. The user sets it; zero fields mean the defaults.
type Load struct {
	Server     string         // address, as for client.Dial; default client.DefaultAddr
	Topic      string         // default "rafka-bench"; created when missing
	Size       int            // of a message's value, in bytes; default 128
	Messages   int            // how many to publish or read; default 1,000,000 unless Duration is set
	Duration   time.Duration  // how long to publish, instead of Messages; FetchAll, Subscribe, PubSub and Queue ignore it
	Rate       int            // messages per second of all clients, as an open loop; default: as fast as the broker accepts them
	Clients    int            // publishing connections; default 1
	Readers    int            // subscribers of PubSub, workers of Queue; default 1
	Partitions int            // of the topic if it is created; default 1
	Level      wire.Level     // durability of publishes; default: the topic's
	Codec      wire.Codec     // compression of publishes; default: none
	Keys       int            // how many different keys messages are published with; default: they have no keys
	OrderByKey bool           // makes Queue keep the order of each key
	Delay      time.Duration  // how far ahead messages are scheduled; default: not at all
	Options    client.Options // login and TLS; Level and Codec are overwritten
	// Progress is called with the share of the work that is done, from 0 to 1. Default: nothing is called.
	Progress func(share float64)
}

func (l *Load) setDefaults() {
	l.Topic = cmp.Or(l.Topic, "rafka-bench")
	l.Size = cmp.Or(l.Size, 128)
	l.Clients = cmp.Or(l.Clients, 1)
	l.Readers = cmp.Or(l.Readers, 1)
	l.Partitions = cmp.Or(l.Partitions, 1)
	if l.Messages == 0 && l.Duration == 0 {
		l.Messages = 1_000_000
	}
	if l.Progress == nil {
		l.Progress = func(float64) {}
	}
	l.Options.Level, l.Options.Codec = l.Level, l.Codec
}

// Result is the result of a Load.
type Result struct {
	What              string   `json:"what"`
	Messages          uint64   `json:"messages"`
	Bytes             uint64   `json:"bytes"` // of values
	Seconds           float64  `json:"seconds"`
	MessagesPerSecond float64  `json:"messages_per_second"`
	BytesPerSecond    float64  `json:"bytes_per_second"`
	Latency           *Latency `json:"latency,omitempty"`
	Late              uint64   `json:"late,omitempty"` // messages that an open loop sent over a millisecond late
}

// Latency holds latencies in microseconds. In an open loop they count from when a message was due, so a
// stall of the broker counts for every message that it delayed.
type Latency struct {
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Max  float64 `json:"max_us"`
	Mean float64 `json:"mean_us"`
}

// recorder collects latencies. It is safe for concurrent use.
type recorder struct {
	mu sync.Mutex // guards h
	h  *hdrhistogram.Histogram
}

// highestMicros is the highest latency that is recorded, a minute; longer ones count as this.
const highestMicros = 60_000_000

func newRecorder() *recorder { return &recorder{h: hdrhistogram.New(1, highestMicros, 3)} }

func (r *recorder) record(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.h.RecordValue(min(max(1, d.Microseconds()), highestMicros)) // cannot fail: the value is within the range
}

func (r *recorder) latency() *Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latencyLocked()
}

func (r *recorder) latencyLocked() *Latency {
	at := func(p float64) float64 { return float64(r.h.ValueAtQuantile(p)) }
	return &Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(r.h.Max()), Mean: r.h.Mean()}
}

// takeLatency returns the latencies that were recorded since the last call.
func (r *recorder) takeLatency() *Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.h.Reset()
	return r.latencyLocked()
}

// newResult returns the result of reading or publishing messages with values of size bytes.
func newResult(what string, messages uint64, size int, took time.Duration) Result {
	r := Result{What: what, Messages: messages, Bytes: messages * uint64(size), Seconds: took.Seconds()}
	if r.Seconds > 0 {
		r.MessagesPerSecond = float64(r.Messages) / r.Seconds
		r.BytesPerSecond = float64(r.Bytes) / r.Seconds
	}
	return r
}

// connect dials the broker and creates the topic if necessary.
func (l *Load) connect(ctx context.Context) (*client.Client, error) {
	c, err := client.Dial(ctx, l.Server, l.Options)
	if err != nil {
		return nil, err
	}
	if _, err := c.EnsureTopic(ctx, l.Topic, client.TopicOptions{Partitions: l.Partitions}); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// Publish publishes from l.Clients connections, waits for every acknowledgement, and returns the rate. It
// returns latencies only for an open loop: see Load.Rate.
func Publish(ctx context.Context, l Load) (Result, error) {
	l.setDefaults()
	p := newPublishing(&l)
	took, err := p.run(ctx)
	r := newResult("publish", total(p.acked), l.Size, took)
	r.Latency, r.Late = p.latencies(), p.late.Load()
	return r, err
}

// publishing is the state of Publish.
type publishing struct {
	l     *Load
	acked []paddedCount         // messages, by client
	sent  []paddedCount         // messages, by client
	late  atomic.Uint64         // messages sent over a millisecond after they were due
	rec   *recorder             // used by open loops only: in a closed loop it would measure the client's own queue
	fail  atomic.Pointer[error] // the first error, or nil
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

func (p *publishing) latencies() *Latency {
	if p.l.Rate == 0 {
		return nil
	}
	return p.rec.latency()
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
	errs := make([]error, len(clients))
	start := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { errs[i] = p.publish(ctx, c, i, start) })
	}
	wg.Wait()
	took := time.Since(start)
	p.l.Progress(1)
	if f := p.fail.Load(); f != nil {
		errs = append(errs, *f)
	}
	if err := errors.Join(errs...); err != nil {
		return took, err
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
	for n := 0; (share > 0 || p.l.Duration > 0) && p.fail.Load() == nil; n++ {
		if p.l.Duration > 0 && n%64 == 0 && time.Since(start) >= p.l.Duration || p.l.Duration == 0 && n >= share {
			break
		}
		if n%8192 == 0 && worker == 0 {
			p.progress(n, share, start)
		}
		callback := done
		if p.l.Rate > 0 {
			callback = p.timed(p.wait(n, start), done)
		}
		if len(keys) > 0 {
			m.Key = keys[n%len(keys)]
		}
		if err := c.PublishAsync(ctx, m, callback); err != nil {
			return err
		}
		p.sent[worker].n.Add(1)
	}
	return c.Flush(ctx)
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

// wait sleeps until the n-th message of a client is due, and returns when that was.
func (p *publishing) wait(n int, start time.Time) time.Time {
	due := start.Add(time.Duration(float64(n) * float64(p.l.Clients) / float64(p.l.Rate) * float64(time.Second)))
	switch ahead := time.Until(due); {
	case ahead > 0:
		time.Sleep(ahead)
	case ahead < -time.Millisecond:
		p.late.Add(1)
	}
	return due
}

// timed returns a callback that records the latency from due, then calls done.
func (p *publishing) timed(due time.Time, done func(client.Receipt, error)) func(client.Receipt, error) {
	return func(r client.Receipt, err error) {
		p.rec.record(time.Since(due))
		done(r, err)
	}
}

// RoundTrip publishes one message after the other and returns the latencies from publish to
// acknowledgement. By default it publishes 10,000. With a Rate it is an open loop like Publish.
func RoundTrip(ctx context.Context, l Load) (Result, error) {
	if l.Messages == 0 && l.Duration == 0 {
		l.Messages = 10_000
	}
	l.setDefaults()
	if l.Rate > 0 {
		r, err := Publish(ctx, l)
		r.What = "latency"
		return r, err
	}
	c, err := l.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	rec := newRecorder()
	m := &client.Message{Topic: l.Topic, Value: make([]byte, l.Size)}
	start, n := time.Now(), 0
	for ; l.Messages > 0 && n < l.Messages || l.Duration > 0 && time.Since(start) < l.Duration; n++ {
		at := time.Now()
		if _, err := c.Publish(ctx, m); err != nil {
			return Result{}, err
		}
		rec.record(time.Since(at))
		if n%256 == 0 && l.Messages > 0 {
			l.Progress(float64(n) / float64(l.Messages))
		}
	}
	l.Progress(1)
	r := newResult("latency", uint64(n), l.Size, time.Since(start))
	r.Latency = rec.latency()
	return r, nil
}
