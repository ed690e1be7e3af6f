package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// FetchAll reads a topic from its start to its end with fetches, and returns the rate. It fails when
// offsets are not consecutive. Before, it publishes messages until the topic has l.Messages.
func FetchAll(ctx context.Context, l Load) (Result, error) {
	return fetchAll(ctx, l, (*client.Fetched).Release)
}

// fetchAndKeep is FetchAll for a program that keeps what it fetches: each answer is new memory.
func fetchAndKeep(ctx context.Context, l Load) (Result, error) {
	return fetchAll(ctx, l, func(*client.Fetched) {})
}

// fetchAll calls done for what it is finished with.
func fetchAll(ctx context.Context, l Load, done func(*client.Fetched)) (Result, error) {
	c, err := l.filled(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	info, err := c.Topic(ctx, l.Topic)
	if err != nil {
		return Result{}, err
	}
	var messages, bytes uint64
	start := time.Now()
	for p, part := range info.Partitions {
		for next := part.First; next < part.Visible; {
			f, err := c.Fetch(ctx, client.FetchRequest{Topic: l.Topic, Partition: p, From: client.At(next), MaxBytes: 1 << 20})
			if err != nil {
				return Result{}, err
			}
			for _, m := range f.Messages {
				if m.Offset != next {
					return Result{}, fmt.Errorf("%s/%d: offset %d: expected %d", l.Topic, p, m.Offset, next)
				}
				next++
				bytes += uint64(len(m.Value))
			}
			messages += uint64(len(f.Messages))
			done(&f)
		}
	}
	l.Progress(1)
	r := newResult("fetch", messages, 0, time.Since(start))
	r.Bytes, r.BytesPerSecond = bytes, float64(bytes)/r.Seconds
	return r, nil
}

// filled connects, and publishes as many messages as the topic lacks of l.Messages. It sets the defaults
// of l. The caller closes the client.
func (l *Load) filled(ctx context.Context) (*client.Client, error) {
	l.Duration = 0
	l.setDefaults()
	c, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	info, err := c.Topic(ctx, l.Topic)
	if err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	have := 0
	for _, p := range info.Partitions {
		have += int(p.Visible - p.First)
	}
	if missing := l.Messages - have; missing > 0 {
		fill := *l
		fill.Messages, fill.Duration, fill.Rate = missing, 0, 0
		if _, err := Publish(ctx, fill); err != nil {
			return nil, errors.Join(err, c.Close(ctx))
		}
	}
	return c, nil
}

// Subscribe reads a topic from its start with pushed messages, up to the end that it has when Subscribe
// begins, and returns the rate. Before, it publishes messages until the topic has l.Messages.
func Subscribe(ctx context.Context, l Load) (Result, error) {
	c, err := l.filled(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	info, err := c.Topic(ctx, l.Topic)
	if err != nil {
		return Result{}, err
	}
	want := uint64(0)
	for _, p := range info.Partitions {
		want += p.Visible - p.First
	}
	k, err := c.Subscribe(ctx, client.Subscription{Topic: l.Topic})
	if err != nil {
		return Result{}, err
	}
	defer k.Close()
	start := time.Now()
	got, bytes, err := receive(ctx, k, want, nil)
	if err != nil {
		return Result{}, err
	}
	l.Progress(1)
	r := newResult("subscribe", got, 0, time.Since(start))
	r.Bytes, r.BytesPerSecond = bytes, float64(bytes)/r.Seconds
	return r, nil
}

// receive reads n messages, and fails when offsets of a partition are not consecutive. It calls each,
// unless that is nil, for every message. It returns how many messages and bytes of values it read.
func receive(ctx context.Context, k *client.Consumer, n uint64, each func()) (got, bytes uint64, err error) {
	next := map[int]uint64{}
	for got < n {
		m, err := k.Next(ctx)
		if err != nil {
			return got, bytes, err
		}
		if want, ok := next[m.Partition]; ok && m.Offset != want {
			return got, bytes, fmt.Errorf("%s/%d: offset %d: expected %d", m.Topic, m.Partition, m.Offset, want)
		}
		next[m.Partition] = m.Offset + 1
		got++
		bytes += uint64(len(m.Value))
		if each != nil {
			each()
		}
	}
	return got, bytes, nil
}

// PubSub publishes while l.Readers subscribers receive every message, and returns the rate of deliveries
// to all of them together.
func PubSub(ctx context.Context, l Load) (Result, error) {
	if l.Messages == 0 {
		l.Messages = 1_000_000
	}
	l.Duration = 0 // the readers need to know the number of messages
	l.setDefaults()
	c, err := l.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	var delivered atomic.Uint64
	errs := make([]error, l.Readers)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range l.Readers {
		rc, err := client.Dial(ctx, l.Server, l.Options)
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = rc.Close(context.Background()) }()
		k, err := rc.Subscribe(ctx, client.Subscription{Topic: l.Topic, From: client.End()})
		if err != nil {
			return Result{}, err
		}
		wg.Go(func() {
			_, _, errs[i] = receive(ctx, k, uint64(l.Messages), func() { delivered.Add(1) })
			k.Close()
		})
	}
	start := time.Now()
	if _, err := Publish(ctx, l); err != nil {
		return Result{}, err
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	return newResult(fmt.Sprintf("publish to %d subscribers", l.Readers), delivered.Load(), l.Size, time.Since(start)), nil
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
	l.Level = wire.LevelDisk
	l.setDefaults()
	rec := newRecorder()
	var acked atomic.Uint64
	errs := make([]error, l.Clients)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range l.Clients {
		c, err := l.connect(ctx)
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = c.Close(ctx) }()
		wg.Go(func() {
			m := &client.Message{Topic: l.Topic, Value: make([]byte, l.Size)}
			for n := 0; l.Duration > 0 && time.Since(start) < l.Duration || l.Duration == 0 && n < l.Messages/l.Clients; n++ {
				at := time.Now()
				if _, errs[i] = c.Publish(ctx, m); errs[i] != nil {
					return
				}
				rec.record(time.Since(at))
				acked.Add(1)
			}
		})
	}
	wg.Wait()
	l.Progress(1)
	r := newResult("durable publish", acked.Load(), l.Size, time.Since(start))
	r.Latency = rec.latency()
	return r, errors.Join(errs...)
}
