package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// rafkaConn drives Rafka with its own client. All publishes ask for one durability level.
type rafkaConn struct {
	c       *client.Client
	bounded bool // create heeds keepRecent
}

func dialRafka(level wire.Level, bounded bool) func(*server) (conn, error) {
	return func(s *server) (conn, error) {
		c, err := client.Dial(context.Background(), s.addr, client.Options{Level: level, RequestTimeout: patience})
		return &rafkaConn{c, bounded}, err
	}
}

func (c *rafkaConn) close() error { return c.c.Close(context.Background()) }

func (c *rafkaConn) create(keep keeping, topics ...string) error {
	o := client.TopicOptions{Partitions: 1}
	if c.bounded && keep == keepRecent {
		o.Settings = []wire.Setting{{Key: "retention_bytes", Value: strconv.Itoa(recentBytes)}}
	}
	for _, topic := range topics {
		if _, err := c.c.EnsureTopic(context.Background(), topic, o); err != nil {
			return err
		}
	}
	return nil
}

// send publishes to a live subject, which stores nothing. The ping at the end waits for a round trip.
func (c *rafkaConn) send(topic string, w *work) error {
	ctx := context.Background()
	m := client.Message{Subject: topic}
	for m.Value = w.next(); m.Value != nil; m.Value = w.next() {
		if err := c.c.Send(ctx, &m); err != nil {
			return err
		}
	}
	_, err := c.c.Ping(ctx)
	return err
}

func (c *rafkaConn) publishOne(topic string, payload []byte) error {
	_, err := c.c.Publish(context.Background(), &client.Message{Topic: topic, Value: payload})
	return err
}

// receipts counts and checks the outcomes of publishes, and wakes a publisher that waits for its window.
type receipts struct {
	w       *work
	ordered bool                  // all messages go to one partition, so offsets must grow
	next    uint64                // the least offset that the next message may have
	acked   atomic.Int64          // messages with an outcome
	failed  atomic.Pointer[error] // the first error, or nil
	wake    chan struct{}         // signalled after each outcome; of capacity 1
}

// done is the callback of all messages. The client calls it from one goroutine at a time.
func (r *receipts) done(receipt client.Receipt, err error) {
	n := r.acked.Load() // only done adds
	if err == nil && r.ordered && receipt.Offset < r.next {
		err = fmt.Errorf("message %d has offset %d, although the one before it has %d", n, receipt.Offset, r.next-1)
	}
	r.next = receipt.Offset + 1
	if err != nil {
		failed := err // taking the address of err itself would allocate for every message
		r.failed.CompareAndSwap(nil, &failed)
	}
	if r.w.acked != nil {
		r.w.acked(int(n))
	}
	r.acked.Add(1)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (c *rafkaConn) publish(topics []string, w *work, window int) error {
	ctx := context.Background()
	r := &receipts{w: w, ordered: len(topics) == 1, wake: make(chan struct{}, 1)}
	messages := make([]client.Message, len(topics))
	for i := range messages {
		messages[i].Topic = topics[i]
	}
	done := r.done
	for p := w.next(); p != nil; p = w.next() {
		for window > 0 && w.sent-int(r.acked.Load()) > window {
			<-r.wake
		}
		m := &messages[(w.sent-1)%len(messages)]
		m.Value = p
		if err := c.c.PublishAsync(ctx, m, done); err != nil {
			return err
		}
	}
	if err := c.c.Flush(ctx); err != nil {
		return err
	}
	if err := r.failed.Load(); err != nil {
		return *err
	}
	if n := int(r.acked.Load()); n != w.sent {
		return fmt.Errorf("%d messages were sent, but %d acknowledged", w.sent, n)
	}
	return nil
}

func (c *rafkaConn) publishAtomic(topic string, w *work, batch int) error {
	w.keep(batch)
	messages := make([]client.Message, batch)
	for !w.done {
		var ms []*client.Message
		for i, p := range w.batch(batch) {
			messages[i] = client.Message{Topic: topic, Value: p}
			ms = append(ms, &messages[i])
		}
		if _, err := c.c.PublishAtomic(context.Background(), ms...); err != nil {
			return err
		}
	}
	return nil
}

func (c *rafkaConn) count(topic string) (int, error) {
	info, err := c.c.Topic(context.Background(), topic)
	if err != nil {
		return 0, err
	}
	return int(info.Partitions[0].Visible), nil
}

func (c *rafkaConn) subscribe(topic string, _ bool, take func([]byte)) error {
	k, err := c.c.Subscribe(context.Background(), client.Subscription{Topic: topic})
	if err != nil {
		return err
	}
	go func() { // ends with the connection
		for m, err := range k.Messages(context.Background()) {
			if err != nil {
				return
			}
			take(m.Value)
		}
	}()
	return nil
}

func (c *rafkaConn) fetch(topic string, take func([]byte) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	k, err := c.c.Subscribe(ctx, client.Subscription{Topic: topic})
	if err != nil {
		return err
	}
	defer k.Close()
	for m, err := range k.Messages(ctx) {
		if err != nil {
			return err
		}
		if !take(m.Value) {
			return nil
		}
	}
	return errors.New("the subscription ended early")
}

// leased is how many messages of a queue the client leases ahead.
const leased = 5000

func (c *rafkaConn) consume(topic string, take func([]byte) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q := client.Queue("queue", topic)
	q.Prefetch = leased
	return c.c.Run(ctx, q, func(_ context.Context, m *client.Message) error {
		if !take(m.Value) {
			return client.ErrStop
		}
		return nil
	})
}

func (c *rafkaConn) respond(subject string) error {
	_, err := c.c.Reply(context.Background(), subject, client.ListenOptions{}, func(_ context.Context, m *client.Message) ([]byte, error) {
		return m.Value, nil
	})
	return err
}

func (c *rafkaConn) request(subject string, payload []byte) ([]byte, error) {
	m, err := c.c.Request(context.Background(), &client.Message{Subject: subject, Value: payload})
	if err != nil {
		return nil, err
	}
	return m.Value, nil
}
