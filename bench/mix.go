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

// mix is a mix of loads like that of a broker in production: a stream that a group and a subscriber read,
// a queue, a stream on disk, live subjects, scheduled messages, and connections that come and go.
type mix struct {
	addr     string
	flows    []*flow
	reads    *recorder    // latency of the stream, from the due time to the pushed subscriber
	connects atomic.Int64 // connections that came and went

	stop    context.CancelFunc // ends the readers
	readers sync.WaitGroup
	clients []*client.Client // closed by close
}

const (
	streamPartitions = 4
	queueWorkers     = 8
	memberCount      = 2
	// nackEvery is n where every n-th message of the queue fails at its first attempt.
	nackEvery = 1000
	// laterDelay is how far ahead messages are scheduled.
	laterDelay = time.Second
	// connectEvery is the pause between connections that open, publish once and close.
	connectEvery = 100 * time.Millisecond
)

// newMix connects to a broker, creates the topics and starts the readers. The caller calls close.
func newMix(ctx context.Context, addr string) (*mix, error) {
	ctx, stop := context.WithCancel(ctx)
	m := &mix{addr: addr, stop: stop, reads: newRecorder()}
	for _, add := range []func(context.Context) error{m.addStream, m.addQueue, m.addDisk, m.addLive, m.addLater} {
		if err := add(ctx); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

// dial connects a client for a flow. close closes it.
func (m *mix) dial(ctx context.Context, f *flow) (*client.Client, error) {
	c, err := client.Dial(ctx, m.addr, client.Options{Name: "soak-" + f.name, OnError: f.recordError})
	if err == nil {
		m.clients = append(m.clients, c)
	}
	return c, err
}

// add adds a flow that publishes with a client of its own to a topic, which it creates if necessary.
// message sets the fields of a message but its topic and value. A flow with topic "" sets its own publish.
func (m *mix) add(ctx context.Context, f *flow, topic string, partitions int, message func(seq int64, to *client.Message), o client.Options) error {
	o.Name, o.OnError = "soak-"+f.name, f.recordError
	c, err := client.Dial(ctx, m.addr, o)
	if err != nil {
		return err
	}
	m.clients = append(m.clients, c)
	if topic != "" {
		if _, err := c.EnsureTopic(ctx, topic, client.TopicOptions{Partitions: partitions}); err != nil {
			return err
		}
	}
	msg := client.Message{Topic: topic}
	f.publish = func(ctx context.Context, seq int64, value []byte, done func(error)) error {
		msg.Value = value
		message(seq, &msg)
		return c.PublishAsync(ctx, &msg, func(_ client.Receipt, err error) { done(err) })
	}
	f.flush = c.Flush
	m.flows = append(m.flows, f)
	return nil
}

// read runs a reader in a goroutine until the mix is closed. An error that it returns before ends the flow.
func (m *mix) read(ctx context.Context, f *flow, run func(context.Context) error) {
	m.readers.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			f.recordError(err)
		}
	})
}

// addReader adds a reader to a flow, which then waits for it.
func (m *mix) addReader(f *flow) *reader {
	r := &reader{}
	f.readers = append(f.readers, r)
	return r
}

// inOrder checks that a message is the next one of its partition, and updates next. Messages are
// published to the partitions in turn, so the numbers in a partition are that many apart.
func inOrder(next []int64, msg *client.Message, partitions int64) error {
	seq, _, err := unstamp(msg.Value)
	if err != nil {
		return err
	}
	if want := next[msg.Partition]; seq != want {
		return fmt.Errorf("message %d of partition %d: expected message %d", seq, msg.Partition, want)
	}
	next[msg.Partition] = seq + partitions
	return nil
}

// firstOf returns the number of the first message in each partition.
func firstOf(partitions int) []int64 {
	next := make([]int64, partitions)
	for p := range next {
		next[p] = int64(p)
	}
	return next
}

// addStream adds a flow that a group of two members and a pushed subscriber read.
func (m *mix) addStream(ctx context.Context) error {
	const topic = "soak-stream"
	f := &flow{name: "stream", what: "128 B, 4 partitions, level memory; a group of 2 members and a subscriber", size: 128, window: 200_000, acks: newRecorder()}
	spread := func(seq int64, to *client.Message) { to.Partition, to.Pinned = int(seq%streamPartitions), true }
	if err := m.add(ctx, f, topic, streamPartitions, spread, client.Options{Level: wire.LevelMemory}); err != nil {
		return err
	}
	next := firstOf(streamPartitions)
	err := m.subscribe(ctx, f, topic, func(msg *client.Message) error {
		if seq, due, _ := unstamp(msg.Value); seq%latencyEvery == 0 {
			m.reads.record(time.Since(due))
		}
		return inOrder(next, msg, streamPartitions)
	})
	if err != nil {
		return err
	}
	return m.addMembers(ctx, f, topic)
}

// addMembers adds a group that reads a flow. Partitions may change hands while members join, but no
// message may be read twice: so all members share the record of what is next in each partition.
func (m *mix) addMembers(ctx context.Context, f *flow, topic string) error {
	r, next := m.addReader(f), firstOf(streamPartitions)
	var mu sync.Mutex // guards next
	for range memberCount {
		c, err := m.dial(ctx, f)
		if err != nil {
			return err
		}
		m.read(ctx, f, func(ctx context.Context) error {
			return c.Run(ctx, client.Group("soak", topic), func(_ context.Context, msg *client.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if err := inOrder(next, msg, streamPartitions); err != nil {
					f.recordError(err)
				}
				r.seen.Add(1)
				return nil
			})
		})
	}
	return nil
}

// addQueue adds a flow that a queue reads, whose handlers fail for one message in nackEvery.
func (m *mix) addQueue(ctx context.Context) error {
	const topic = "soak-queue"
	f := &flow{name: "queue", what: "128 B, level memory; a queue of 8 workers, one message in 1,000 fails once", size: 128, window: 100_000}
	if err := m.add(ctx, f, topic, 1, func(int64, *client.Message) {}, client.Options{Level: wire.LevelMemory}); err != nil {
		return err
	}
	c, err := m.dial(ctx, f)
	if err != nil {
		return err
	}
	s := client.Queue("soak", topic)
	s.Workers, s.Prefetch = queueWorkers, 1000
	r := m.addReader(f)
	m.read(ctx, f, func(ctx context.Context) error {
		return c.Run(ctx, s, func(_ context.Context, msg *client.Message) error {
			seq, _, err := unstamp(msg.Value)
			if err != nil {
				f.recordError(err)
			}
			if seq%nackEvery == 0 && msg.Attempt == 1 {
				return client.RetryAfter(10*time.Millisecond, errors.New("fails once"))
			}
			r.seen.Add(1)
			return nil
		})
	})
	return nil
}

// addDisk adds a flow at level disk that nobody reads: its cost is that of the device.
func (m *mix) addDisk(ctx context.Context) error {
	f := &flow{name: "disk", what: "1 KiB, level disk", size: 1 << 10, window: 2000, acks: newRecorder()}
	return m.add(ctx, f, "soak-disk", 1, func(int64, *client.Message) {}, client.Options{Level: wire.LevelDisk})
}

// addLive adds a flow on a subject, with one listener.
func (m *mix) addLive(ctx context.Context) error {
	const subject = "soak.live.eu"
	f := &flow{name: "live", what: "16 B on a subject; a listener of a wildcard", size: 16, window: 20_000}
	if err := m.add(ctx, f, "", 0, nil, client.Options{}); err != nil {
		return err
	}
	out := m.clients[len(m.clients)-1]
	f.publish = func(ctx context.Context, _ int64, value []byte, done func(error)) error {
		err := out.Send(ctx, &client.Message{Subject: subject, Value: value})
		if err == nil {
			done(nil)
		}
		return err
	}
	c, err := m.dial(ctx, f)
	if err != nil {
		return err
	}
	r, next := m.addReader(f), firstOf(1)
	_, err = c.Listen(ctx, "soak.*.eu", client.ListenOptions{}, func(_ context.Context, msg *client.Message) {
		if err := inOrder(next, msg, 1); err != nil {
			f.recordError(err)
		}
		r.seen.Add(1)
	})
	return err
}

// addLater adds a flow of messages that are due after laterDelay.
func (m *mix) addLater(ctx context.Context) error {
	const topic = "soak-later"
	f := &flow{name: "later", what: "128 B, due in a second; a subscriber", size: 128, window: 50_000}
	delay := func(_ int64, to *client.Message) { to.Delay = laterDelay }
	if err := m.add(ctx, f, topic, 1, delay, client.Options{Level: wire.LevelMemory}); err != nil {
		return err
	}
	return m.subscribe(ctx, f, topic, func(msg *client.Message) error {
		if _, due, _ := unstamp(msg.Value); time.Since(due) < laterDelay/2 {
			return errors.New("a message was delivered before it was due")
		}
		return nil
	})
}

// subscribe adds a pushed subscriber with a client of its own, and calls each with its messages. An error
// of each ends the flow.
func (m *mix) subscribe(ctx context.Context, f *flow, topic string, each func(msg *client.Message) error) error {
	c, err := m.dial(ctx, f)
	if err != nil {
		return err
	}
	k, err := c.Subscribe(ctx, client.Subscription{Topic: topic})
	if err != nil {
		return err
	}
	r := m.addReader(f)
	m.read(ctx, f, func(ctx context.Context) error {
		defer k.Close()
		for {
			msg, err := k.Next(ctx)
			if err == nil {
				err = each(msg)
			}
			if err != nil {
				return err
			}
			r.seen.Add(1)
		}
	})
	return nil
}

// run makes all flows publish for d, each at its rate, while connections come and go. It returns when
// every message was acknowledged and read.
func (m *mix) run(ctx context.Context, d time.Duration, rate func(*flow) float64) error {
	coming, stop := context.WithCancel(ctx)
	errs := make([]error, len(m.flows)+1)
	var visitors, wg sync.WaitGroup
	visitors.Go(func() { errs[len(m.flows)] = m.visit(coming) })
	for i, f := range m.flows {
		wg.Go(func() { errs[i] = f.run(ctx, d, rate(f)) })
	}
	wg.Wait()
	stop()
	visitors.Wait()
	return errors.Join(errs...)
}

// visit connects, publishes one message and disconnects, again and again until ctx ends.
func (m *mix) visit(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(connectEvery):
		}
		if err := m.visitOnce(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("visitor: %w", err)
		}
		m.connects.Add(1)
	}
}

func (m *mix) visitOnce(ctx context.Context) error {
	c, err := client.Dial(ctx, m.addr, client.Options{Name: "soak-visitor"})
	if err != nil {
		return err
	}
	_, err = c.Publish(ctx, &client.Message{Topic: "soak-visitors", Value: []byte("here")})
	return errors.Join(err, c.Close(ctx))
}

// close stops the readers, waits for them, and closes the clients.
func (m *mix) close() {
	m.stop()
	m.readers.Wait()
	for _, c := range m.clients {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = c.Close(ctx) // run has flushed everything that counts
		cancel()
	}
}
