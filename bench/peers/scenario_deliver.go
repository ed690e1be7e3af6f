package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// aheadBytes is how far a publisher may be before the slowest subscriber: less than what servers hold
// for one before they cut it off.
const aheadBytes = 8 << 20

// aheadMessages is how far it may be at least: several of the batches that clients send.
const aheadMessages = 2048

// deliverScenarios publish while subscribers receive all of it.
func deliverScenarios() (all []scenario) {
	systems := concat([]string{"nats", "redis-pubsub"}, inMemory, inKernel, []string{"rafka-nats"})
	for _, n := range [][2]int{{1, 1}, {1, 4}, {4, 4}} {
		all = append(all, scenario{
			name: fmt.Sprintf("publish to subscribers %d:%d, 128 B", n[0], n[1]), systems: systems,
			run: func(s *server) (outcome, error) { return deliver(s, n[0], n[1], 128) },
		})
	}
	for _, size := range payloads {
		if size != 128 {
			all = append(all, scenario{
				name: sized("publish to subscribers 1:1", size), systems: systems, most: beside,
				run: func(s *server) (outcome, error) { return deliver(s, 1, 1, size) },
			})
		}
	}
	return all
}

// party is the connections of a scenario with publishers and subscribers, and what the latter got.
type party struct {
	publishers []conn
	receivers  []*receiver
	conns      []conn
}

// gather connects publishers and subscribers of one topic.
func gather(s *server, publishers, subscribers int) (p *party, err error) {
	p = &party{}
	for range publishers + subscribers {
		c, err := s.sys.dial(s)
		if err != nil {
			return nil, errors.Join(err, p.leave())
		}
		p.conns = append(p.conns, c)
	}
	p.publishers = p.conns[:publishers]
	for _, c := range p.publishers {
		if err := c.create(keepRecent, topicName, warmName); err != nil {
			return nil, errors.Join(err, p.leave())
		}
	}
	for range subscribers {
		p.receivers = append(p.receivers, &receiver{})
	}
	return p, nil
}

// listen starts the subscriptions.
func (p *party) listen(prompt bool) error {
	for i, r := range p.receivers {
		c, ok := p.conns[len(p.publishers)+i].(subscriber)
		if !ok {
			return errors.New("no subscriptions")
		}
		if err := c.subscribe(topicName, prompt, r.take); err != nil {
			return err
		}
	}
	return nil
}

func (p *party) leave() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// publishAny publishes with acknowledgements when there are any.
func publishAny(c conn, topic string, w *work) error {
	if p, ok := c.(publisher); ok {
		return p.publish([]string{topic}, w, 0)
	}
	return c.(sender).send(topic, w)
}

// verdict says what was wrong with what the receivers got.
func (p *party) verdict(sent int) (all []string) {
	for _, r := range p.receivers {
		all = append(all, r.verdict(sent))
	}
	return all
}

func deliver(s *server, publishers, subscribers, size int) (o outcome, err error) {
	p, err := gather(s, publishers, subscribers)
	if err != nil {
		return o, err
	}
	if err := errors.Join(publishAny(p.publishers[0], warmName, &work{size: size, until: time.Now().Add(warmth)}), p.listen(false)); err != nil {
		return o, errors.Join(err, p.leave())
	}
	works, errs := make([]*work, publishers), make([]error, publishers)
	all := &work{}
	o.figures, err = s.rate(all, func() error {
		until := time.Now().Add(span)
		var wg sync.WaitGroup
		for i, c := range p.publishers {
			w := &work{publisher: uint64(i), size: size, until: until, room: ahead(max(aheadMessages, aheadBytes/size), p.receivers)}
			works[i] = w
			wg.Go(func() { errs[i] = publishAny(c, topicName, w) })
		}
		wg.Wait()
		for _, w := range works {
			all.sent += w.sent
		}
		wait(p.receivers, all.sent)
		return errors.Join(errs...)
	})
	if err := errors.Join(err, p.leave()); err != nil {
		return o, err
	}
	o.figures["rate"] *= float64(subscribers)
	o.note = notes(p.verdict(all.sent)...)
	return o, nil
}
