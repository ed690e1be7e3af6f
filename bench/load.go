package bench

import (
	"cmp"
	"context"
	"errors"
	"sync"
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
	Duration   time.Duration  // how long to publish, instead of Messages; Fetch, Subscribe and Queue ignore it
	Rate       int            // messages per second of all clients, as an open loop; Durable ignores it; default: as fast as the broker accepts them
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
