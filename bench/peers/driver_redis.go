package main

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/rueidis"
)

// redisConn is rueidis, whose pipelines are faster than go-redis's. A topic is a stream.
type redisConn struct{ c rueidis.Client }

func dialRedis(s *server) (conn, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.addr}, DisableCache: true, ConnWriteTimeout: patience,
	})
	return &redisConn{c}, err
}

func (c *redisConn) create(...string) error { return nil }

func (c *redisConn) close() error {
	c.c.Close()
	return nil
}

func (c *redisConn) add(topic string, payload []byte) rueidis.Completed {
	return c.c.B().Xadd().Key(topic).Id("*").FieldValue().FieldValue("d", rueidis.BinaryString(payload)).Build()
}

func (c *redisConn) publishOne(topic string, payload []byte) error {
	return c.c.Do(context.Background(), c.add(topic, payload)).Error()
}

// pipelines is how many goroutines have a pipeline on the way, so that the server has the next one when
// it has answered; pipelined is how long one is at its fastest.
const (
	pipelines = 4
	pipelined = 500
)

func (c *redisConn) publish(topics []string, w *work, window int) error {
	if w.prompt {
		return c.publishPrompt(topics[0], w)
	}
	lanes, batch := pipelines, pipelined
	if window > 0 {
		lanes = min(2, window)
		batch = window / lanes
	}
	return c.publishLanes(topics, w, lanes, batch)
}

func (c *redisConn) publishLanes(topics []string, w *work, n, batch int) error {
	lanes := w.lanes(n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() {
			lane.keep(batch)
			for !lane.done && errs[i] == nil {
				errs[i] = c.pipeline(topics, lane, batch)
			}
		})
	}
	wg.Wait()
	w.join(lanes)
	return errors.Join(errs...)
}

// pipeline sends the next messages of a lane and waits until all are answered.
func (c *redisConn) pipeline(topics []string, lane *work, batch int) error {
	commands := make(rueidis.Commands, 0, batch)
	for p := lane.next(); p != nil; p = lane.next() {
		commands = append(commands, c.add(topics[lane.sent%len(topics)], p))
		if len(commands) == batch {
			break
		}
	}
	return c.do(commands)
}

func (c *redisConn) do(commands rueidis.Commands) error {
	for _, r := range c.c.DoMulti(context.Background(), commands...) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

// publishPrompt has one pipeline on the way; what becomes due meanwhile makes the next one.
func (c *redisConn) publishPrompt(topic string, w *work) error {
	due := make(chan []byte, 1<<16)
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		acked := 0
		for p := range due {
			commands := rueidis.Commands{c.add(topic, p)}
			for len(due) > 0 && len(commands) < pipelined {
				commands = append(commands, c.add(topic, <-due))
			}
			if err := c.do(commands); err != nil && failed == nil {
				failed = err
			}
			for range commands {
				if w.acked != nil {
					w.acked(acked)
				}
				acked++
			}
		}
	})
	w.keep(cap(due) + 2*pipelined)
	for p := w.next(); p != nil; p = w.next() {
		due <- p
	}
	close(due)
	wg.Wait()
	return failed
}

// publishAtomic sends transactions.
func (c *redisConn) publishAtomic(topic string, w *work, batch int) error {
	w.keep(batch)
	for !w.done {
		commands := rueidis.Commands{c.c.B().Multi().Build()}
		for _, p := range w.batch(batch) {
			commands = append(commands, c.add(topic, p))
		}
		if err := c.do(append(commands, c.c.B().Exec().Build())); err != nil {
			return err
		}
	}
	return nil
}

func (c *redisConn) count(topic string) (int, error) {
	n, err := c.c.Do(context.Background(), c.c.B().Xlen().Key(topic).Build()).AsInt64()
	return int(n), err
}

// read is how many entries one command asks for.
const redisRead = 1000

func (c *redisConn) subscribe(topic string, _ bool, take func([]byte)) error {
	go func() { // ends with the connection
		after := "0"
		for {
			read := c.c.B().Xread().Count(redisRead).Block(0).Streams().Key(topic).Id(after).Build()
			entries, err := streamEntries(c.c.Do(context.Background(), read))
			if err != nil {
				return
			}
			for _, e := range entries {
				take(e.payload)
			}
			if len(entries) > 0 {
				after = entries[len(entries)-1].id
			}
		}
	}()
	return nil
}

func (c *redisConn) fetch(topic string, take func([]byte) bool) error {
	after := "0"
	for {
		read := c.c.B().Xread().Count(redisRead).Streams().Key(topic).Id(after).Build()
		entries, err := streamEntries(c.c.Do(context.Background(), read))
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return errors.New("the stream ends early")
		}
		for _, e := range entries {
			if !take(e.payload) {
				return nil
			}
		}
		after = entries[len(entries)-1].id
	}
}

// consume acknowledges what it has with the command that asks for more.
func (c *redisConn) consume(topic string, take func([]byte) bool) error {
	ctx := context.Background()
	const group, member = "queue", "worker"
	if err := c.c.Do(ctx, c.c.B().XgroupCreate().Key(topic).Group(group).Id("0").Build()).Error(); err != nil {
		return err
	}
	read := func() rueidis.Completed {
		return c.c.B().Xreadgroup().Group(group, member).Count(redisRead).Streams().Key(topic).Id(">").Build()
	}
	commands := rueidis.Commands{read()}
	for {
		results := c.c.DoMulti(ctx, commands...)
		for _, r := range results[:len(results)-1] {
			if err := r.Error(); err != nil {
				return err
			}
		}
		entries, err := streamEntries(results[len(results)-1])
		if err != nil {
			return err
		}
		ids := make([]string, len(entries))
		more := true
		for i, e := range entries {
			ids[i] = e.id
			more = take(e.payload) && more
		}
		ack := c.c.B().Xack().Key(topic).Group(group).Id(ids...).Build()
		if !more {
			return c.do(rueidis.Commands{ack})
		}
		commands = rueidis.Commands{ack, read()}
	}
}

type redisEntry struct {
	id      string
	payload []byte
}

// streamEntries returns the entries of the one stream in an answer to XREAD or XREADGROUP. It walks the
// answer itself: the client's own function makes a map of every entry.
func streamEntries(r rueidis.RedisResult) ([]redisEntry, error) {
	streams, err := r.AsMap()
	if err != nil {
		return nil, err
	}
	var entries []redisEntry
	for _, stream := range streams {
		list, err := stream.ToArray()
		if err != nil {
			return nil, err
		}
		entries = make([]redisEntry, len(list))
		for i := range list {
			if entries[i], err = streamEntry(&list[i]); err != nil {
				return nil, err
			}
		}
	}
	return entries, nil
}

func streamEntry(m *rueidis.RedisMessage) (e redisEntry, err error) {
	pair, err := m.ToArray()
	if err != nil || len(pair) != 2 {
		return e, errors.Join(err, errors.New("an entry of "+strconv.Itoa(len(pair))+" parts"))
	}
	fields, err := pair[1].ToArray()
	if err != nil || len(fields) != 2 {
		return e, errors.Join(err, errors.New("an entry with "+strconv.Itoa(len(fields))+" fields and values"))
	}
	if e.id, err = pair[0].ToString(); err != nil {
		return e, err
	}
	e.payload, err = fields[1].AsBytes()
	return e, err
}
