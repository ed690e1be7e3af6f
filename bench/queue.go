package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// queueName is the name of the queue of ackLatency, and the prefix of the names of Queue's queues.
const queueName = "rafka-bench"

// Queue reads l.Messages from the start of a topic as a new queue with l.Readers workers, acknowledges each, and
// returns the rate. It deletes the queue at the end. Before, it publishes messages, with l.Keys different
// keys, until the topic has that many.
func Queue(ctx context.Context, l Load) (r Result, err error) {
	c, info, err := l.filled(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	name := fmt.Sprintf("%s-%016x", queueName, rand.Uint64()) // a queue of this name has not read anything yet
	defer func() { err = errors.Join(err, c.DeleteGroup(context.WithoutCancel(ctx), name, "")) }()
	s := client.Queue(name, l.Topic)
	s.Workers, s.OrderByKey, s.Prefetch = l.Readers, l.OrderByKey, 1000
	var left, bytes atomic.Int64
	left.Store(int64(l.Messages))
	start := time.Now()
	err = c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
		n := left.Add(-1) // below 0 for what other workers handle until Run ends
		if n >= 0 {
			bytes.Add(int64(len(m.Value)))
		}
		if n == 0 {
			return client.ErrStop
		}
		return nil
	})
	took := time.Since(start)
	if err != nil {
		return Result{}, err
	}
	infos, err := c.Groups(ctx, name)
	if err != nil {
		return Result{}, err
	}
	settled := stored(info)
	for _, g := range infos {
		if g.Topic == l.Topic {
			settled -= int(g.Lag)
		}
	}
	if handled := l.Messages - int(left.Load()); settled < handled {
		err = fmt.Errorf("%d messages were handled, but %d acknowledged", handled, settled)
	}
	l.Progress(1)
	r = newResult("queue", uint64(l.Messages), 0, took)
	r.Bytes, r.BytesPerSecond = uint64(bytes.Load()), float64(bytes.Load())/r.Seconds
	return r, err
}

// queueBacklog is how many messages of 128 bytes the queue scenarios publish and read.
const queueBacklog = 1_000_000

// queueBroker runs f against a broker in memory that retains all of a backlog.
func queueBroker(c *Config, f func(p *process) (float64, error)) (float64, error) {
	p, err := startBroker(c, "", "--retention-bytes", "512MiB", "--memory-bytes", "768MiB")
	return withProcess(p, err, f)
}

// readRate returns how many million messages per second read reads of a backlog, with 16 readers.
func readRate(c *Config, read func(context.Context, Load) (Result, error), keys int, ordered bool) (float64, error) {
	return queueBroker(c, func(p *process) (float64, error) {
		r, err := read(c.ctx, Load{Server: p.addr, Topic: "bench", Size: 128, Messages: queueBacklog, Readers: 16, Keys: keys, OrderByKey: ordered})
		return r.MessagesPerSecond / 1e6, err
	})
}

func queueScenario() scenario {
	return scenario{
		Name: "queue consume with ack, Go client, 128 B, 16 workers, memory", Unit: "M msg/s", Target: ">= 0.25 x fetch through the client", Goal: 0.25,
		floor: func(c *Config) (float64, error) { return readRate(c, fetchAndKeep, 0, false) },
		ours:  func(c *Config) (float64, error) { return readRate(c, Queue, 0, false) },
	}
}

func orderedQueueScenario() scenario {
	return scenario{
		Name: "queue that keeps the order of 10,000 keys", Unit: "M msg/s", Target: ">= 0.6 x the plain queue", Goal: 0.6,
		floor: func(c *Config) (float64, error) { return readRate(c, Queue, 10_000, false) },
		ours:  func(c *Config) (float64, error) { return readRate(c, Queue, 10_000, true) },
	}
}

// delayedScenario compares publishing messages that are due in an hour with publishing messages that are
// due at once. The broker keeps all of them.
func delayedScenario() scenario {
	rate := func(c *Config, delay time.Duration) (float64, error) {
		return queueBroker(c, func(p *process) (float64, error) {
			r, err := Publish(c.ctx, Load{Server: p.addr, Topic: "bench", Size: 128, Messages: queueBacklog, Delay: delay})
			return r.MessagesPerSecond / 1e6, err
		})
	}
	return scenario{
		Name: "publish later through the Go client, 128 B, memory", Unit: "M msg/s", Target: ">= 0.5 x publish", Goal: 0.5,
		floor: func(c *Config) (float64, error) { return rate(c, 0) },
		ours:  func(c *Config) (float64, error) { return rate(c, time.Hour) },
	}
}

// inFlightScenario compares the latency of acknowledging a message while a million messages are in
// flight, each with a lease of its own, with the latency while a thousand are.
func inFlightScenario() scenario {
	return scenario{
		Name: "ack p99 with 1,000,000 in flight", Unit: "us", Target: "<= 2 x with 1,000 in flight", Goal: 2, Less: true,
		floor: func(c *Config) (float64, error) { return ackLatency(c, 1000) },
		ours:  func(c *Config) (float64, error) { return ackLatency(c, 1_000_000) },
	}
}

// ackLatency returns the 99th percentile of the latency of an acknowledgement, in microseconds.
func ackLatency(c *Config, inFlight int) (float64, error) {
	return queueBroker(c, onSession(func(s *session) (float64, error) {
		if err := s.fillSmall(2 * inFlight); err != nil {
			return 0, err
		}
		if err := s.leaseSingly(inFlight); err != nil {
			return 0, err
		}
		return s.ackAndLease(inFlight, min(20_000, 10*inFlight))
	}))
}

// fillSmall publishes messages of 16 bytes: n, rounded up to whole frames of 1,000.
func (s *session) fillSmall(n int) error {
	const count = 1000
	frame := publishFrame(s.handle, 0, wire.LevelDefault, 16, count)
	for range (n + count - 1) / count {
		if _, err := s.ask(frame); err != nil {
			return err
		}
	}
	return nil
}

// leaseFrame returns a request for a lease of one message.
func (s *session) leaseFrame(i int) []byte {
	m := wire.Lease{
		Handle: s.handle, Group: []byte(queueName), MaxMessages: 1, MaxBytes: 1,
		LeaseMs: uint32(3_600_000 + i%2*60_000), // neighbours differ, so that the broker cannot merge them into a range
	}
	return request(wire.OpLease, 0, 0, m.Append)
}

// leaseSingly opens the queue and leases n messages, one per lease; n is rounded up to a multiple of 500.
func (s *session) leaseSingly(n int) error {
	m := wire.OpenQueue{Handle: s.handle, Group: queueName, Start: wire.Position{Kind: wire.PositionFirst}}
	if _, err := s.ask(request(wire.OpOpenQueue, 0, 0, m.Append)); err != nil {
		return err
	}
	const window = 500
	for first := 0; first < n; first += window {
		var out []byte
		for i := range window {
			out = append(out, s.leaseFrame(i)...)
		}
		if err := s.write(out); err != nil {
			return err
		}
		for range window {
			f, err := s.frame()
			if err == nil {
				err = failure(f)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ackAndLease acknowledges up to n of the leased messages, at random and one after the other, and leases
// another message after each. It returns the 99th percentile of the latency of an acknowledgement, in
// microseconds.
func (s *session) ackAndLease(inFlight, n int) (float64, error) {
	order := rand.New(rand.NewPCG(1, 1)).Perm(inFlight)
	took := make([]time.Duration, 0, n)
	for i := range min(n, inFlight) {
		m := wire.Settle{Handle: s.handle, Group: []byte(queueName), Ranges: []wire.LeaseRange{{First: uint64(order[i]), Count: 1, Attempt: 1}}}
		ack := request(wire.OpAck, 0, 0, m.Append)
		start := time.Now()
		f, err := s.ask(ack)
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
		var r wire.SettleReply
		if err := r.Parse(f.Body); err != nil || r.Lost > 0 {
			return 0, errors.Join(err, errors.New("message "+strconv.Itoa(order[i])+" was not leased"))
		}
		if _, err := s.ask(s.leaseFrame(i)); err != nil {
			return 0, err
		}
	}
	slices.Sort(took)
	return percentile(took, 99), nil
}

// lateScenario measures how late scheduled messages reach a subscriber, at level disk and under light
// load: one message every 5 ms.
func lateScenario() scenario {
	return scenario{
		Name: "scheduled messages, from due to delivered, p99", Unit: "ms", Target: "<= 20 ms", Goal: 20, Less: true,
		ours: func(c *Config) (float64, error) {
			p, err := startDiskBroker(c)
			return withProcess(p, err, func(p *process) (float64, error) { return lateness(c.ctx, p.addr) })
		},
	}
}

// lateness returns the 99th percentile of the time from when a message is due to its delivery, in
// milliseconds.
func lateness(ctx context.Context, addr string) (float64, error) {
	l := Load{Server: addr, Topic: "bench"}
	l.setDefaults()
	c, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(ctx) }()
	const n, every = 300, 5 * time.Millisecond
	start := time.Now().Add(200 * time.Millisecond)
	for i := range n {
		m := &client.Message{Topic: l.Topic, Value: fmt.Append(nil, i), At: start.Add(time.Duration(i) * every)}
		if err := c.PublishAsync(ctx, m, nil); err != nil {
			return 0, err
		}
	}
	k, err := c.Subscribe(ctx, client.Subscription{Topic: l.Topic})
	if err != nil {
		return 0, err
	}
	defer k.Close()
	took := make([]time.Duration, n)
	for i := range took {
		m, err := k.Next(ctx)
		if err != nil {
			return 0, err
		}
		if string(m.Value) != strconv.Itoa(i) {
			return 0, fmt.Errorf("message %s was delivered: expected message %d", m.Value, i)
		}
		if took[i] = time.Since(start.Add(time.Duration(i) * every)); took[i] < 0 {
			return 0, fmt.Errorf("message %d was delivered %v before it was due", i, -took[i])
		}
	}
	slices.Sort(took)
	return percentile(took, 99) / 1000, nil
}
