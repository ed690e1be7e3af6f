package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// redisConn drives Redis with rueidis, whose pipelines are faster than those of go-redis. A topic is a
// stream.
type redisConn struct{ c rueidis.Client }

func dialRedis(s *server) (conn, error) {
	c, err := newRedisClient(s)
	return &redisConn{c}, err
}

func newRedisClient(s *server) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr}, DisableCache: true, ConnWriteTimeout: patience})
}

// create does nothing: the first message creates a stream. It retains everything, because a bound with
// MAXLEN costs more than it saves.
func (c *redisConn) create(keeping, ...string) error { return nil }

func (c *redisConn) close() error {
	c.c.Close()
	return nil
}

// add returns the command that appends a message to a stream.
func (c *redisConn) add(topic string, payload []byte) rueidis.Completed {
	return c.c.B().Xadd().Key(topic).Id("*").FieldValue().FieldValue("d", rueidis.BinaryString(payload)).Build()
}

func (c *redisConn) publishOne(topic string, payload []byte) error {
	return c.c.Do(context.Background(), c.add(topic, payload)).Error()
}

const (
	pipelines = 4   // how many are in flight, so that the server need not wait for the next one
	pipelined = 500 // commands per pipeline, at which publishing is fastest
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
	next := new(atomic.Int64) // counts messages, to choose the topic
	return inLanes(w, lanes, batch, func(batch [][]byte) error {
		commands := make(rueidis.Commands, 0, len(batch))
		for _, p := range batch {
			commands = append(commands, c.add(topics[int(next.Add(1))%len(topics)], p))
		}
		return pipeline(c.c, commands)
	})
}

// inLanes divides the work among n goroutines, which each call send with batches of up to size payloads.
func inLanes(w *work, n, size int, send func(batch [][]byte) error) error {
	lanes := w.lanes(n)
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() {
			lane.keep(size)
			for !lane.done && errs[i] == nil {
				errs[i] = send(lane.batch(size))
			}
		})
	}
	wg.Wait()
	w.join(lanes)
	return errors.Join(errs...)
}

// pipeline sends commands together, waits for all replies, and returns the first error among them.
func pipeline(c rueidis.Client, commands rueidis.Commands) error {
	for _, r := range c.DoMulti(context.Background(), commands...) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

// publishPrompt keeps one pipeline in flight. The messages that become due meanwhile form the next one.
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
			if err := pipeline(c.c, commands); err != nil && failed == nil {
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

// publishAtomic sends each batch as a transaction.
func (c *redisConn) publishAtomic(topic string, w *work, batch int) error {
	w.keep(batch)
	for !w.done {
		commands := rueidis.Commands{c.c.B().Multi().Build()}
		for _, p := range w.batch(batch) {
			commands = append(commands, c.add(topic, p))
		}
		if err := pipeline(c.c, append(commands, c.c.B().Exec().Build())); err != nil {
			return err
		}
	}
	return nil
}

func (c *redisConn) count(topic string) (int, error) {
	info, err := c.c.Do(context.Background(), c.c.B().XinfoStream().Key(topic).Build()).AsMap()
	if err != nil {
		return 0, err
	}
	added := info["entries-added"]
	n, err := added.AsInt64()
	return int(n), err
}

// redisRead is how many entries one command asks for.
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
			return errors.New("the stream has fewer entries than expected")
		}
		for _, e := range entries {
			if !take(e.payload) {
				return nil
			}
		}
		after = entries[len(entries)-1].id
	}
}

// consume acknowledges the last entries in the same pipeline that asks for the next ones.
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
			return pipeline(c.c, rueidis.Commands{ack})
		}
		commands = rueidis.Commands{ack, read()}
	}
}

// redisEntry is an entry of a stream: one message.
type redisEntry struct {
	id      string
	payload []byte
}

// streamEntries returns the entries of the only stream in a reply to XREAD or XREADGROUP. It does not use
// the client's function for this, which makes a map of every entry.
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
		return e, errors.Join(err, fmt.Errorf("an entry has %d parts: expected an id and fields", len(pair)))
	}
	fields, err := pair[1].ToArray()
	if err != nil || len(fields) != 2 {
		return e, errors.Join(err, fmt.Errorf("an entry has %d fields and values: expected one of each", len(fields)))
	}
	if e.id, err = pair[0].ToString(); err != nil {
		return e, err
	}
	e.payload, err = fields[1].AsBytes()
	return e, err
}
