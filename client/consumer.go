package client

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/rafka-mq/rafka/wire"
)

// Subscription says what a Consumer reads.
type Subscription struct {
	Topic      string
	Partitions []int    // default: all that exist when Subscribe is called
	From       Position // default: the start
	Group      string   // whose committed offsets From refers to, if any
	// CreditBytes bounds what the broker sends ahead, over all partitions. Each partition gets at
	// least 64 KiB and at most 1 GiB. Default 8 MiB.
	CreditBytes int
	// Filter selects messages by their headers, at the broker. Default: all messages.
	Filter wire.Filter
}

const (
	defaultCredit = 8 << 20
	leastCredit   = 64 << 10
	mostCredit    = 1 << 30 // fits the wire format, also with what arrives beyond it
)

// Consumer is a stream of messages for which the broker stores no position. Messages of one
// partition arrive in order. It is not safe for concurrent use, except for Close.
type Consumer struct {
	f *feed

	mu      sync.Mutex // guards arrived
	arrived []delivery

	closed atomic.Bool
	wake   chan struct{} // signals that arrived or closed has changed
	batch  []delivery    // taken from arrived, owned by Next like the fields below
	at     int           // index in batch of the next delivery
	open   *delivery     // the delivery that is being read, or nil
	walk   cursor
	msg    Message
	err    error // why the stream ended, or nil
}

// Subscribe starts to read a topic. After a lost connection, reading continues on the next one
// without losing or repeating a message. Close the consumer when done.
func (c *Client) Subscribe(ctx context.Context, s Subscription) (*Consumer, error) {
	set(&s.CreditBytes, defaultCredit)
	if !s.Filter.Valid() {
		return nil, badFilter(wire.OpSubscribe, s.Topic)
	}
	if err := s.From.checkGroup(wire.OpSubscribe, s.Topic, s.Group); err != nil {
		return nil, err
	}
	from, id, err := c.origins(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(from) == 0 {
		we := wire.Errorf(wire.CodePartitionNotFound, "Partitions is empty; leave it nil to read all")
		return nil, explain(we, wire.OpSubscribe, s.Topic, anyPartition)
	}
	k := &Consumer{wake: make(chan struct{}, 1)}
	k.f = c.newFeed(s.Topic, max(leastCredit, s.CreditBytes/len(from)), from, k.arrive)
	k.f.filter, k.f.id = s.Filter, id
	if err := k.f.start(); err != nil {
		return nil, err
	}
	return k, nil
}

// arrive is the feed's sink.
func (k *Consumer) arrive(d delivery) {
	k.mu.Lock()
	k.arrived = append(k.arrived, d)
	k.mu.Unlock()
	signal(k.wake)
}

// Next waits for the next message. The message and all it holds are valid until the next call; see
// Message.Clone. There are three kinds of errors:
//
//   - The context's error: Next may be called again. It may return some more messages first, which have arrived
//     together with the previous one.
//   - An *Error with wire.CodeCorruptRange or wire.CodeOffsetOutOfRange: the messages of its
//     partition from Err.First up to, not including, Err.Next are damaged or were removed. The
//     next call goes on after them.
//   - Any other error: the stream has ended, for example because the topic was deleted. Every
//     further call returns the same error.
func (k *Consumer) Next(ctx context.Context) (*Message, error) {
	for {
		if k.open != nil && !k.closed.Load() {
			ok, err := k.walk.more()
			if ok {
				k.walk.take(&k.msg)
				return &k.msg, nil
			}
			p := k.open.part
			if undecodable(err) {
				return nil, explain(err, wire.OpSubscribe, p.f.topic, int(p.partition))
			}
			p.release(k.open)
			k.open = nil
			if err != nil {
				k.fail(fmt.Errorf("%s/%d: %w", p.f.topic, p.partition, err))
			}
		}
		d, err := k.take(ctx)
		if err != nil {
			return nil, err
		}
		if d.err != nil {
			if d.final {
				k.err = d.err
			}
			return nil, d.err
		}
		k.open = d
		k.walk.reset(d.entries, d.seed, d.from)
		k.msg.Topic, k.msg.Partition = d.part.f.topic, int(d.part.partition)
	}
}

// take waits for the next delivery. It looks at ctx first: on a busy topic there is always one more.
func (k *Consumer) take(ctx context.Context) (*delivery, error) {
	for {
		if k.err == nil && k.closed.Load() {
			k.err = ErrClosed
		}
		if k.err != nil {
			return nil, k.err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if k.at < len(k.batch) {
			k.at++
			return &k.batch[k.at-1], nil
		}
		k.mu.Lock()
		k.batch, k.arrived, k.at = k.arrived, k.batch[:0], 0
		k.mu.Unlock()
		if len(k.batch) > 0 {
			continue
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (k *Consumer) fail(err error) {
	k.err = err
	k.f.close()
}

// Messages iterates over the messages until the stream or ctx ends; the last step then holds the
// error. A step for a skipped range has an error too, as for Next, and does not end the iteration. A message is valid
// until the next step; see Message.Clone.
func (k *Consumer) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := k.Next(ctx)
			if !yield(m, err) || err != nil && (k.err != nil || ctx.Err() != nil) {
				return
			}
		}
	}
}

// Close ends the stream. A Next that is waiting returns ErrClosed, and so does every later one: messages that have
// arrived are dropped. Further calls of Close do nothing.
func (k *Consumer) Close() {
	k.closed.Store(true)
	k.f.close()
	signal(k.wake)
}
