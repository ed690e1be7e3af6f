package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// aheadBytes is how many bytes a publisher may be ahead of the slowest subscriber: less than servers
// buffer for a subscriber before they disconnect it.
const aheadBytes = 8 << 20

// aheadMessages is how many messages it may be ahead at least, whatever their size: several batches of a
// client.
const aheadMessages = 2048

// deliverScenarios publish while every subscriber receives all messages.
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
				name: sized("publish to subscribers 1:1", size), systems: systems, maxRounds: sideRounds,
				run: func(s *server) (outcome, error) { return deliver(s, 1, 1, size) },
			})
		}
	}
	return all
}

// party is the publishers and subscribers of a scenario.
type party struct {
	publishers []conn      // the first ones of conns
	receivers  []*receiver // one for each of the other conns
	conns      []conn
}

// gather connects publishers and subscribers, and creates the topics. The caller calls leave.
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

// listen subscribes the receivers.
func (p *party) listen(prompt bool) error {
	for i, r := range p.receivers {
		c, ok := p.conns[len(p.publishers)+i].(subscriber)
		if !ok {
			return errors.New("the driver cannot subscribe")
		}
		if err := c.subscribe(topicName, prompt, r.take); err != nil {
			return err
		}
	}
	return nil
}

// leave closes all connections.
func (p *party) leave() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// publishAny publishes with acknowledgements if the system has them.
func publishAny(c conn, topic string, w *work) error {
	if p, ok := c.(publisher); ok {
		return p.publish([]string{topic}, w, 0)
	}
	return c.(sender).send(topic, w)
}

// verdict returns what was wrong with the messages of each receiver, "" for nothing.
func (p *party) verdict(sent int) (all []string) {
	for _, r := range p.receivers {
		all = append(all, r.verdict(sent))
	}
	return all
}

// deliver measures the rate of all subscribers together.
func deliver(s *server, publishers, subscribers, size int) (o outcome, err error) {
	p, err := gather(s, publishers, subscribers)
	if err != nil {
		return o, err
	}
	if err := errors.Join(publishAny(p.publishers[0], warmName, &work{size: size, until: time.Now().Add(warmUp)}), p.listen(false)); err != nil {
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
		waitReceived(p.receivers, all.sent)
		return errors.Join(errs...)
	})
	if err := errors.Join(err, p.leave()); err != nil {
		return o, err
	}
	o.figures["rate"] *= float64(subscribers)
	o.note = notes(p.verdict(all.sent)...)
	return o, nil
}
