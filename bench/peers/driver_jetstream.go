package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// jsConn drives JetStream with the jetstream package of nats.go. A topic is a stream with one subject.
type jsConn struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	storage jetstream.StorageType
}

func dialJetStream(storage jetstream.StorageType) func(*server) (conn, error) {
	return func(s *server) (conn, error) {
		nc, err := connectNATS(s.addr)
		if err != nil {
			return nil, err
		}
		js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
		return &jsConn{nc, js, storage}, err
	}
}

func (c *jsConn) close() error {
	c.nc.Close()
	return nil
}

func (c *jsConn) create(keep keeping, topics ...string) error {
	most := int64(-1)
	if keep == keepRecent && c.storage == jetstream.MemoryStorage {
		most = recentBytes
	}
	for _, topic := range topics {
		_, err := c.js.CreateOrUpdateStream(context.Background(), jetstream.StreamConfig{
			Name: topic, Subjects: []string{topic}, Storage: c.storage, MaxBytes: most, AllowDirect: true,
			AllowAtomicPublish: true, AllowBatchPublish: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *jsConn) publishOne(topic string, payload []byte) error {
	_, err := c.js.Publish(context.Background(), topic, payload)
	return err
}

// defaultPending is the default window of nats.go.
const defaultPending = 4000

func (c *jsConn) publish(topics []string, w *work, window int) error {
	if window == 0 {
		window = defaultPending
	}
	var failed atomic.Pointer[error]
	var acked atomic.Int64
	js, err := jetstream.New(
		c.nc, jetstream.WithDefaultTimeout(patience), jetstream.WithPublishAsyncMaxPending(window),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { failed.CompareAndSwap(nil, &err) }),
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, _ *nats.Msg, _ *jetstream.PubAck) {
			if i := acked.Add(1); w.acked != nil {
				w.acked(int(i - 1))
			}
		}),
	)
	if err != nil {
		return err
	}
	stall := jetstream.WithStallWait(patience)
	for p := w.next(); p != nil; p = w.next() {
		if _, err := js.PublishAsync(topics[(w.sent-1)%len(topics)], p, stall); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		return fmt.Errorf("%d messages were sent, but only %d acknowledged within %v", w.sent, acked.Load(), patience)
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	if n := acked.Load(); int(n) != w.sent {
		return fmt.Errorf("%d messages were sent, but %d acknowledged", w.sent, n)
	}
	return nil
}

// publishStream uses fast ingest: one batch of any length, for which the server decides when it sends
// acknowledgements.
func (c *jsConn) publishStream(topic string, w *work) error {
	f, err := jetstreamext.NewFastPublisher(c.js, jetstreamext.FastPublishFlowControl{AckTimeout: patience})
	if err != nil {
		return err
	}
	p := w.next()
	for ; !w.done; p = w.next() {
		if _, err := f.Add(topic, p); err != nil {
			return err
		}
	}
	ack, err := f.Commit(context.Background(), topic, p)
	if err == nil && int(ack.BatchSize) != w.sent {
		return fmt.Errorf("%d messages were sent, but %d acknowledged", w.sent, ack.BatchSize)
	}
	return err
}

func (c *jsConn) publishAtomic(topic string, w *work, size int) error {
	for !w.done {
		b, err := jetstreamext.NewBatchPublisher(c.js, jetstreamext.BatchFlowControl{AckFirst: false})
		if err != nil {
			return err
		}
		p := w.next()
		for i := 1; i < size && !w.done; i++ {
			if err := b.Add(topic, p); err != nil {
				return err
			}
			p = w.next()
		}
		if _, err := b.Commit(context.Background(), topic, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *jsConn) count(topic string) (int, error) {
	s, err := c.js.Stream(context.Background(), topic)
	if err != nil {
		return 0, err
	}
	return int(s.CachedInfo().State.LastSeq), nil
}

// pulled is how many messages a consumer buffers at most.
const pulled = 5000

func (c *jsConn) subscribe(topic string, _ bool, take func([]byte)) error {
	k, err := c.js.OrderedConsumer(context.Background(), topic, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	_, err = k.Consume(func(m jetstream.Msg) { take(m.Data()) }, jetstream.PullMaxMessages(pulled))
	return err
}

func (c *jsConn) fetch(topic string, take func([]byte) bool) error {
	k, err := c.js.OrderedConsumer(context.Background(), topic, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	return consumeUntil(k, func(m jetstream.Msg) (bool, error) { return take(m.Data()), nil })
}

// consumeUntil calls take with the messages of k until it returns false or an error.
func consumeUntil(k jetstream.Consumer, take func(jetstream.Msg) (bool, error)) error {
	ended := make(chan error, 1)
	over := false
	s, err := k.Consume(func(m jetstream.Msg) {
		if over {
			return
		}
		more, err := take(m)
		if over = !more || err != nil; over {
			ended <- err
		}
	}, jetstream.PullMaxMessages(pulled))
	if err != nil {
		return err
	}
	defer s.Stop()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("the messages did not arrive within %v", patience)
	}
}

func (c *jsConn) consume(topic string, take func([]byte) bool) error {
	k, err := c.js.CreateConsumer(context.Background(), topic, jetstream.ConsumerConfig{
		Durable: "queue", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2 * pulled,
	})
	if err != nil {
		return err
	}
	var last jetstream.Msg
	err = consumeUntil(k, func(m jetstream.Msg) (bool, error) {
		if last != nil {
			if err := last.Ack(); err != nil {
				return false, err
			}
		}
		last = m
		return take(m.Data()), nil
	})
	if err != nil {
		return err
	}
	return last.DoubleAck(context.Background()) // the server has received the earlier acknowledgements by then
}
