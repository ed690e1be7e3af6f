package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// Fetch reads l.Messages from the start of a topic with fetches, and returns the rate. It fails when
// offsets are not consecutive. Before, it publishes messages until the topic has that many.
func Fetch(ctx context.Context, l Load) (Result, error) {
	return fetch(ctx, l, (*client.Fetched).Release)
}

// fetchAndKeep is Fetch for a program that keeps what it fetches: each answer is new memory.
func fetchAndKeep(ctx context.Context, l Load) (Result, error) {
	return fetch(ctx, l, func(*client.Fetched) {})
}

// fetch calls done for what it is finished with.
func fetch(ctx context.Context, l Load, done func(*client.Fetched)) (Result, error) {
	c, info, err := l.filled(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	left, bytes := l.Messages, uint64(0)
	start := time.Now()
	for p, part := range info.Partitions {
		for next := part.First; next < part.Visible && left > 0; {
			f, err := c.Fetch(ctx, client.FetchRequest{Topic: l.Topic, Partition: p, From: client.At(next), MaxBytes: 1 << 20})
			if err != nil {
				return Result{}, err
			}
			for _, m := range f.Messages[:min(left, len(f.Messages))] {
				if m.Offset != next {
					return Result{}, fmt.Errorf("%s/%d: offset %d: expected %d", l.Topic, p, m.Offset, next)
				}
				next++
				bytes += uint64(len(m.Value))
			}
			left -= min(left, len(f.Messages))
			done(&f)
		}
	}
	l.Progress(1)
	r := newResult("fetch", uint64(l.Messages-left), 0, time.Since(start))
	r.Bytes, r.BytesPerSecond = bytes, float64(bytes)/r.Seconds
	return r, nil
}

// filled connects, and publishes as many messages as the topic lacks of l.Messages. It sets the defaults
// of l, and lowers l.Messages to what the topic then retains. The caller closes the client.
func (l *Load) filled(ctx context.Context) (c *client.Client, info wire.TopicInfo, err error) {
	l.Duration = 0
	l.setDefaults()
	if c, err = l.connect(ctx); err != nil {
		return nil, info, err
	}
	if info, err = c.Topic(ctx, l.Topic); err == nil && stored(info) < l.Messages {
		fill := *l
		fill.Messages, fill.Rate = l.Messages-stored(info), 0
		if _, err = Publish(ctx, fill); err == nil {
			info, err = c.Topic(ctx, l.Topic)
		}
	}
	if err != nil {
		return nil, info, errors.Join(err, c.Close(ctx))
	}
	l.Messages = min(l.Messages, stored(info))
	return c, info, nil
}

// stored returns how many messages can be read of a topic.
func stored(info wire.TopicInfo) (n int) {
	for _, p := range info.Partitions {
		n += int(p.Visible - p.First)
	}
	return n
}

// Subscribe reads l.Messages from the start of a topic with pushed messages, and returns the rate. Before, it
// publishes messages until the topic has that many.
func Subscribe(ctx context.Context, l Load) (Result, error) {
	c, _, err := l.filled(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	k, err := c.Subscribe(ctx, client.Subscription{Topic: l.Topic})
	if err != nil {
		return Result{}, err
	}
	defer k.Close()
	start := time.Now()
	s := newSubscriber(k)
	if err := s.receive(ctx, uint64(l.Messages)); err != nil {
		return Result{}, err
	}
	l.Progress(1)
	r := newResult("subscribe", s.got, 0, time.Since(start))
	r.Bytes, r.BytesPerSecond = s.bytes, float64(s.bytes)/r.Seconds
	return r, nil
}

// subscriber reads the messages of a consumer and checks that their offsets are consecutive.
type subscriber struct {
	k          *client.Consumer
	next       map[int]uint64 // offset by partition, of those that something came from
	got, bytes uint64         // messages, and bytes of their values
}

func newSubscriber(k *client.Consumer) *subscriber { return &subscriber{k: k, next: map[int]uint64{}} }

// receive goes on until n messages have been read in all.
func (s *subscriber) receive(ctx context.Context, n uint64) error {
	for s.got < n {
		m, err := s.k.Next(ctx)
		if err != nil {
			return err
		}
		if want, ok := s.next[m.Partition]; ok && m.Offset != want {
			return fmt.Errorf("%s/%d: offset %d: expected %d", m.Topic, m.Partition, m.Offset, want)
		}
		s.next[m.Partition] = m.Offset + 1
		s.got++
		s.bytes += uint64(len(m.Value))
	}
	return nil
}

// PubSub publishes while l.Readers subscribers receive every message, and returns the rate of deliveries
// to all of them together.
func PubSub(ctx context.Context, l Load) (Result, error) {
	l.setDefaults()
	c, err := l.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = c.Close(ctx) }()
	subscribers := make([]*subscriber, l.Readers)
	for i := range subscribers {
		rc, err := client.Dial(ctx, l.Server, l.Options)
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = rc.Close(context.Background()) }()
		k, err := rc.Subscribe(ctx, client.Subscription{Topic: l.Topic, From: client.End()})
		if err != nil {
			return Result{}, err
		}
		defer k.Close()
		subscribers[i] = newSubscriber(k)
	}
	start := time.Now()
	published, err := publishTo(ctx, l, subscribers)
	if err != nil {
		return Result{}, err
	}
	delivered := uint64(0)
	for _, s := range subscribers {
		delivered += s.got
	}
	r := newResult(fmt.Sprintf("publish to %d subscribers", l.Readers), delivered, l.Size, time.Since(start))
	r.Late = published.Late
	return r, nil
}

// publishTo publishes until every subscriber has all that was published. How much that is is not known before the
// publishing ends, so until then they read whatever comes.
func publishTo(ctx context.Context, l Load, subscribers []*subscriber) (published Result, err error) {
	all, ctx := errgroup.WithContext(ctx)
	publishing, ended := context.WithCancel(ctx)
	defer ended()
	all.Go(func() (err error) {
		defer ended()
		published, err = Publish(ctx, l)
		return err
	})
	for _, s := range subscribers {
		all.Go(func() error {
			if err := s.receive(publishing, math.MaxUint64); !errors.Is(err, context.Canceled) {
				return err
			}
			return s.receive(ctx, published.Messages)
		})
	}
	err = all.Wait()
	return published, err
}
