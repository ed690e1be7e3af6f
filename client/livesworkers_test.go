package client_test

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// The part of the model of lives that publishes, subscribes, asks and answers.

// prompt watches that a call returns soon after its context has ended.
func (s *lives) prompt(ctx context.Context, what string) (returned func()) {
	done := make(chan struct{})
	context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			s.failf("%s goes on without its context", what)
		}
	})
	return func() { close(done) }
}

// producer publishes, and closes its client now and then. It takes a new name behind a client that did not wait for its
// messages: the broker may store those behind what the next client sends.
func (s *lives) producer(name string, scheduled bool) {
	who := name
	for n := 0; s.rough.Err() == nil; {
		c := s.dial()
		if c == nil {
			return
		}
		for range 1 + s.roll(300) {
			if s.rough.Err() != nil {
				break
			}
			s.publishOne(c, who, n, scheduled)
			n++
		}
		if !s.leave(c) {
			who = fmt.Sprint(name, ".", n)
		}
	}
}

// leave closes a client, sometimes without waiting for what it has to do. It returns false when not all of that was done.
func (s *lives) leave(c *client.Client) bool {
	if s.roll(3) > 0 {
		s.close(c)
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.roll(3000))*time.Microsecond)
	defer cancel()
	return c.Close(ctx) == nil
}

func (s *lives) publishOne(c *client.Client, name string, n int, scheduled bool) {
	born := s.phase.Load()
	m := &client.Message{Topic: sagaTopic, Key: []byte(strconv.Itoa(s.roll(sagaKeys)))}
	m.Value = fmt.Appendf(nil, "%s %d %d", name, n, born)
	value := string(m.Value)
	s.mu.Lock()
	s.pending++
	if scheduled {
		m.Delay = time.Duration(s.rng.IntN(200)) * time.Millisecond
		s.due[value] = time.Now().Add(m.Delay)
	}
	s.mu.Unlock()
	outcome := func(r client.Receipt, err error) { s.published(value, born, scheduled, r, err) }
	ctx, cancel := context.WithTimeout(s.calm, time.Duration(1+s.roll(15_000))*time.Millisecond)
	defer cancel()
	defer s.prompt(ctx, "a publish")()
	if s.roll(3) == 0 {
		outcome(c.Publish(ctx, m))
	} else if err := c.PublishAsync(ctx, m, outcome); err != nil {
		outcome(client.Receipt{}, err)
	}
	if s.roll(10) == 0 {
		time.Sleep(time.Duration(s.roll(3000)) * time.Microsecond)
	}
}

// published notes the outcome of a publish.
func (s *lives) published(value string, born int64, scheduled bool, r client.Receipt, err error) {
	s.outcome(value, scheduled, r, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending--
	if s.started[value]++; s.started[value] > 1 {
		s.failf("the outcome of %q was reported twice", value)
	}
	if now := s.phase.Load(); err == nil && born == now && born%2 == 0 {
		s.at[value] = born
	}
}

// follow subscribes again and again.
func (s *lives) follow() {
	for s.calm.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		k, err := c.Subscribe(s.calm, client.Subscription{Topic: sagaTopic})
		if err == nil {
			err = s.followed(k)
			k.Close()
		}
		if s.calm.Err() == nil && err != nil && !gone(err) && !purged(err) {
			s.failf("subscription: %v", err)
		}
		s.leave(c)
	}
}

func (s *lives) followed(k *client.Consumer) error {
	next := map[int]uint64{}
	for range 1 + s.roll(2000) {
		ctx, cancel := context.WithTimeout(s.calm, 50*time.Millisecond)
		m, err := k.Next(ctx)
		over := ctx.Err() != nil
		cancel()
		if err != nil && over {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Offset < next[m.Partition] {
			s.failf("a subscriber got %d of partition %d after %d", m.Offset, m.Partition, next[m.Partition])
		}
		next[m.Partition] = m.Offset + 1
	}
	return nil
}

// serve answers requests, and ask makes them.
func (s *lives) serve() {
	for s.rough.Err() == nil {
		c := s.dial()
		if c == nil {
			return
		}
		l, err := c.Reply(s.calm, "svc", client.ListenOptions{}, func(_ context.Context, m *client.Message) ([]byte, error) {
			return append([]byte("re "), m.Value...), nil
		})
		if err != nil {
			s.failf("reply: %v", err)
		}
		time.Sleep(time.Duration(s.roll(200)) * time.Millisecond)
		if l != nil {
			_ = l.Close()
		}
		s.hangUp(c)
	}
}

// hangUp closes a client, which may fail: what it sent may be lost with the connection.
func (s *lives) hangUp(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.Close(ctx)
	if ctx.Err() != nil {
		s.failf("close takes too long")
	}
}

func (s *lives) ask() {
	c := s.dial()
	defer s.hangUp(c)
	for i := 0; s.rough.Err() == nil; i++ {
		ctx, cancel := context.WithTimeout(s.calm, time.Duration(s.roll(300))*time.Millisecond)
		returned := s.prompt(ctx, "a request")
		m, err := c.Request(ctx, &client.Message{Subject: "svc", Value: fmt.Appendf(nil, "%d", i)})
		if err == nil && string(m.Value) != fmt.Sprintf("re %d", i) {
			s.failf("request %d was answered with %q", i, m.Value)
		}
		returned()
		cancel()
	}
}
