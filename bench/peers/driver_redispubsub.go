package main

import (
	"context"
	"errors"

	"github.com/redis/rueidis"
)

// redisPubSub drives the PUBLISH and SUBSCRIBE of Redis, which store nothing.
type redisPubSub struct{ c rueidis.Client }

func dialRedisPubSub(s *server) (conn, error) {
	c, err := newRedisClient(s)
	return &redisPubSub{c}, err
}

func (c *redisPubSub) create(keeping, ...string) error { return nil }

func (c *redisPubSub) close() error {
	c.c.Close()
	return nil
}

func (c *redisPubSub) send(topic string, w *work) error {
	return inLanes(w, pipelines, pipelined, func(batch [][]byte) error {
		commands := make(rueidis.Commands, 0, len(batch))
		for _, p := range batch {
			commands = append(commands, c.c.B().Publish().Channel(topic).Message(rueidis.BinaryString(p)).Build())
		}
		return pipeline(c.c, commands)
	})
}

func (c *redisPubSub) subscribe(topic string, _ bool, take func([]byte)) error {
	subscribed := make(chan struct{}, 1)
	ctx := rueidis.WithOnSubscriptionHook(context.Background(), func(rueidis.PubSubSubscription) {
		select {
		case subscribed <- struct{}{}:
		default:
		}
	})
	ended := make(chan error, 1)
	go func() { // ends with the connection
		ended <- c.c.Receive(ctx, c.c.B().Subscribe().Channel(topic).Build(), func(m rueidis.PubSubMessage) {
			take([]byte(m.Message))
		})
	}()
	select {
	case <-subscribed:
		return nil
	case err := <-ended:
		return errors.Join(errors.New("the subscription failed"), err)
	}
}
