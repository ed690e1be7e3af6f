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

// rafkaConn is Rafka's own client. Publishes ask for a level.
type rafkaConn struct {
	c       *client.Client
	bounded bool // topics keep only what is recent, when that is enough
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

// send publishes to a live subject, which stores nothing.
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

// receipts checks the outcomes of publishes and has the publisher wait for its window.
type receipts struct {
	w       *work
	ordered bool // all go to one partition: offsets grow
	next    uint64
	acked   atomic.Int64
	failed  atomic.Pointer[error]
	wake    chan struct{}
}

func (r *receipts) done(receipt client.Receipt, err error) {
	n := r.acked.Load() // only this goroutine adds
	if err == nil && r.ordered && receipt.Offset < r.next {
		err = fmt.Errorf("message %d is at offset %d, after one at %d", n, receipt.Offset, r.next-1)
	}
	r.next = receipt.Offset + 1
	if err != nil {
		failed := err // the address of err itself would put it on the heap with every message
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
		return fmt.Errorf("%d messages sent, %d acknowledged", w.sent, n)
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
	return errors.New("the stream ended")
}

// leased is how many messages of a queue are leased ahead.
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
