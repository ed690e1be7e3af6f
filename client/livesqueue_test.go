package client_test

import (
	"context"
	"errors"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/wire"
)

// The queues of the model of lives.

func (s *lives) source(name string) client.Source {
	q := client.Queue(name, sagaTopic)
	q.BackoffMin, q.BackoffMax, q.MaxDeliveries = time.Millisecond, 3*time.Millisecond, 1000
	q.Lease, q.MaxLease = 100*time.Millisecond, 150*time.Millisecond
	return q
}

// starts checks that a message of the queue may be delivered.
func (s *lives) starts(m *client.Message) (in int64) {
	in = s.phase.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.ended[copyFrom(m)]; ok && was == in {
		s.failf("%v was delivered again after its acknowledgement was answered", copyFrom(m))
	}
	return in
}

func (s *lives) finish(m *client.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued[copyFrom(m)] = true
}

func (s *lives) queueWorker() {
	s.consume(func() client.Source {
		q := s.source("q")
		q.Workers = 1 + s.roll(5)
		return q
	}, func(ctx context.Context, m *client.Message) error {
		s.starts(m)
		s.hang(ctx)
		switch s.roll(40) {
		case 0:
			return errors.New("not now")
		case 1:
			s.finish(m)
			return client.Reject(errors.New("never"))
		}
		s.finish(m)
		return nil
	})
}

// acker settles messages of the queue by hand, often about when their leases end.
func (s *lives) acker() {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.calm, 5*time.Second)
		q, err := c.OpenQueue(ctx, s.source("q"))
		if err != nil && ctx.Err() == nil && !gone(err) {
			s.failf("open: %v", err)
		}
		for n := 1 + s.roll(20); err == nil && n > 0; n-- {
			err = s.ackSome(q)
		}
		if q != nil {
			if err := q.Close(ctx); err != nil && ctx.Err() == nil && wire.CodeOf(err) != wire.CodeLeaseLost && !gone(err) {
				s.failf("close of a queue: %v", err)
			}
		}
		cancel()
		s.leave(c)
	}
}

func (s *lives) ackSome(q *client.QueueConsumer) error {
	ctx, cancel := context.WithTimeout(s.calm, 50*time.Millisecond)
	defer cancel()
	ms, err := q.Fetch(ctx, 1+s.roll(20))
	if err != nil && ctx.Err() == nil {
		if !gone(err) {
			s.failf("fetch: %v", err)
		}
		return err
	}
	if len(ms) > 0 && s.rough.Err() == nil && s.roll(4) == 0 {
		time.Sleep(time.Duration(90+s.roll(25)) * time.Millisecond)
	}
	acked := map[copyOf]int64{}
	for _, m := range ms {
		in := s.starts(m)
		s.finish(m)
		if m.Ack(s.calm) == nil {
			acked[copyFrom(m)] = in
		}
	}
	if q.Flush(s.calm) != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, in := range acked {
		if in%2 == 0 && in == s.phase.Load() {
			s.ended[m] = in
		}
	}
	return nil
}

func (s *lives) orderedWorker() {
	s.consume(func() client.Source {
		q := s.source("sorted")
		q.Workers, q.OrderByKey = 1+s.roll(5), true
		return q
	}, func(ctx context.Context, m *client.Message) error {
		note := func(success bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.begun = append(s.begun, lifeEvent{string(m.Key), copyFrom(m), success})
		}
		note(false)
		s.hang(ctx)
		if s.roll(30) == 0 {
			return errors.New("not now")
		}
		note(true)
		return nil
	})
}
