package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
)

// nsqConn drives NSQ with go-nsq. Every subscriber has a channel of its own.
type nsqConn struct {
	addr, admin string
	producer    *nsq.Producer
	consumers   []*nsq.Consumer
}

func dialNSQ(s *server) (conn, error) {
	p, err := nsq.NewProducer(s.addr, nsq.NewConfig())
	if err != nil {
		return nil, err
	}
	p.SetLogger(nil, nsq.LogLevelMax)
	return &nsqConn{addr: s.addr, admin: s.admin, producer: p}, p.Ping()
}

func (c *nsqConn) close() error {
	c.producer.Stop()
	for _, k := range c.consumers {
		k.Stop()
		<-k.StopChan
	}
	return nil
}

// post sends a command to nsqd's HTTP API.
func (c *nsqConn) post(path string, query url.Values) error {
	resp, err := http.Post("http://"+c.admin+path+"?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("nsqd answers POST %s with %s", path, resp.Status)
	}
	return nil
}

func (c *nsqConn) create(_ keeping, topics ...string) error {
	for _, topic := range topics {
		if err := c.post("/topic/create", url.Values{"topic": {topic}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *nsqConn) publishOne(topic string, payload []byte) error {
	return c.producer.Publish(topic, payload)
}

// The batches with which publishing is fastest.
const (
	nsqBatch   = 200  // messages per MPUB
	nsqBatches = 4    // batches in flight
	nsqPrompt  = 1000 // messages in flight when each is sent at once
)

func (c *nsqConn) publish(topics []string, w *work, window int) error {
	batch, flying := 1, window
	switch {
	case w.prompt:
		flying = nsqPrompt
	case window == 0:
		batch, flying = nsqBatch, nsqBatches
	}
	w.keep(batch * (flying + 2)) // the client does not copy: it writes from the payloads
	answers := make(chan *nsq.ProducerTransaction, flying)
	unanswered, acked := 0, 0
	wait := func() error {
		t := <-answers
		unanswered--
		n, _ := t.Args[0].(int)
		for range n {
			if w.acked != nil {
				w.acked(acked)
			}
			acked++
		}
		return t.Error
	}
	for round := 0; !w.done; round++ {
		for unanswered > 0 && (unanswered == flying || len(answers) > 0) {
			if err := wait(); err != nil {
				return err
			}
		}
		bodies := w.batch(batch)
		if err := c.producer.MultiPublishAsync(topics[round%len(topics)], bodies, answers, len(bodies)); err != nil {
			return err
		}
		unanswered++
	}
	for unanswered > 0 {
		if err := wait(); err != nil {
			return err
		}
	}
	return nil
}

// count returns how many messages are queued: all of them, for a topic without channels.
func (c *nsqConn) count(topic string) (int, error) {
	resp, err := http.Get("http://" + c.admin + "/stats?format=json&topic=" + topic)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		Topics []struct {
			Depth int `json:"depth"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return 0, err
	}
	if len(stats.Topics) != 1 {
		return 0, fmt.Errorf("nsqd has no topic %q", topic)
	}
	return stats.Topics[0].Depth, nil
}

// maxRDY is how many messages nsqd lets a connection have in flight at most, by default.
const maxRDY = 2500

// channels counts the channels that were created, to give each a name of its own.
var channels atomic.Int64

func (c *nsqConn) subscribe(topic string, prompt bool, take func([]byte)) error {
	channel := fmt.Sprintf("s%d", channels.Add(1))
	if err := c.post("/channel/create", url.Values{"topic": {topic}, "channel": {channel}}); err != nil {
		return err
	}
	return c.receive(topic, channel, prompt, nsq.HandlerFunc(func(m *nsq.Message) error {
		take(m.Body)
		return nil
	}))
}

// receive consumes a channel with one handler, so that the order is kept. Messages are finished when h
// returns.
func (c *nsqConn) receive(topic, channel string, prompt bool, h nsq.Handler) error {
	config := nsq.NewConfig()
	config.MaxInFlight = maxRDY
	if prompt { // by default the server collects messages for up to a quarter of a second
		config.OutputBufferSize, config.OutputBufferTimeout = -1, -1
	}
	k, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		return err
	}
	k.SetLogger(nil, nsq.LogLevelMax)
	k.AddHandler(h)
	c.consumers = append(c.consumers, k)
	return k.ConnectToNSQD(c.addr)
}

func (c *nsqConn) consume(topic string, take func([]byte) bool) error {
	ended := make(chan struct{})
	over := false
	err := c.receive(topic, "queue", false, nsq.HandlerFunc(func(m *nsq.Message) error {
		if over { // a message that was in flight already
			return nil
		}
		if over = !take(m.Body); over {
			close(ended)
		}
		return nil
	}))
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the messages did not arrive within %v", patience)
	}
}
