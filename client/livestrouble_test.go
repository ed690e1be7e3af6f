package client_test

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/wire"
)

// The trouble of the model of lives: what happens to the broker and to the topics.

// boot starts a broker on the disk.
func (s *lives) boot() {
	srv, err := server.New(server.Options{Listen: "127.0.0.1:0", Dir: "/data", FS: s.disk, Loops: 2})
	require.NoError(s.t, err)
	require.NoError(s.t, srv.Start())
	s.srv = srv
	s.net.lead(srv.Addr().String())
}

// stop shuts a broker down.
func (s *lives) stop(srv *server.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		s.failf("shutdown: %v", err)
	}
}

// kill replaces the broker by one that finds what a kill or a power cut left. Nobody hears any more from the first one.
func (s *lives) kill(power bool) {
	s.net.lead("")
	left, old := s.disk.Clone(), s.srv
	if power {
		left = left.PowerCut(s.rng2)
	}
	s.disk = left
	s.boot()
	s.stops.Go(func() { s.stop(old) })
}

// admin calls f with a client that the trouble of the others does not reach.
func (s *lives) admin(f func(ctx context.Context, c *client.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, s.srv.Addr().String(), client.Options{})
	if err == nil {
		err = errors.Join(f(ctx, c), c.Close(ctx))
	}
	if err != nil {
		s.failf("admin: %v", err)
	}
}

// grow adds partitions to the topic, or creates it.
func (s *lives) grow() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		info, err := c.Topic(ctx, sagaTopic)
		if gone(err) {
			return s.ensure(ctx, c)
		}
		if n := len(info.Partitions); err == nil && n < 6 {
			_, err = c.AlterTopic(ctx, sagaTopic, client.TopicOptions{Partitions: n + 1})
		}
		return err
	})
}

func (s *lives) ensure(ctx context.Context, c *client.Client) error {
	_, err := c.EnsureTopic(ctx, sagaTopic, client.TopicOptions{
		Partitions: 1 + s.roll(4), Settings: []wire.Setting{{Key: "durability", Value: s.level}},
	})
	return err
}

// purge removes what a partition has up to some offset.
func (s *lives) purge() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		r, err := c.Offsets(ctx, sagaTopic, 0, client.End())
		if gone(err) || err != nil {
			return ignore(err, gone(err))
		}
		before := uint64(s.roll(int(r.Visible) + 1))
		s.mu.Lock()
		s.purged[0] = max(s.purged[0], before)
		s.mu.Unlock()
		return c.PurgeTopic(ctx, sagaTopic, 0, before)
	})
}

func ignore(err error, yes bool) error {
	if yes {
		return nil
	}
	return err
}

// replace deletes the topic. Often it also creates it again; else a publisher does.
func (s *lives) replace() {
	s.phase.Add(1)
	s.admin(func(ctx context.Context, c *client.Client) error {
		err := c.DeleteTopic(ctx, sagaTopic)
		s.mu.Lock()
		s.phase.Add(1)
		clear(s.purged)
		s.mu.Unlock()
		if s.roll(3) == 0 {
			return ignore(err, gone(err))
		}
		return errors.Join(ignore(err, gone(err)), s.ensure(ctx, c))
	})
}

// bury deletes the dead-letter topic, or creates another one.
func (s *lives) bury() {
	s.admin(func(ctx context.Context, c *client.Client) error {
		err := c.DeleteTopic(ctx, sagaTopic+".q.dlq")
		if s.roll(2) == 0 {
			_, err = c.EnsureTopic(ctx, sagaTopic+".q.dlq", client.TopicOptions{Partitions: 1 + s.roll(5)})
		}
		return ignore(err, gone(err))
	})
}

// shake makes trouble.
func (s *lives) shake(kills bool) {
	for s.rough.Err() == nil {
		time.Sleep(time.Duration(s.roll(40)) * time.Millisecond)
		switch s.roll(16) {
		case 0, 1, 2:
			s.net.cut()
		case 3, 4:
			s.grow()
		case 5, 6:
			s.purge()
		case 7:
			s.replace()
		case 8:
			s.bury()
		case 9:
			if kills {
				s.kill(s.level == "disk" && s.roll(2) == 0)
			}
		}
	}
}
