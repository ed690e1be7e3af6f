package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rafka-mq/rafka/client"
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
	s := newSubscriber(k)
	if err := s.receive(ctx, want); err != nil {
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
